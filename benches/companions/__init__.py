"""Programs on the other end of a connection: servers and load generators, on a CPU of their own."""

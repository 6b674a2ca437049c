"""The client libraries, one module each: how they make a call that a server holds."""

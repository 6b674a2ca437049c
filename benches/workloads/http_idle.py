"""Memory of the server's processes for each of `size` connections that are kept and do nothing.

Each has had a request answered. What the kernel keeps for a connection is not the process's.
"""

from __future__ import annotations

from benches.harness import Bench, Metrics, check, main_of_servers
from benches.http_load import Server, clients, serving, settled

WARM_UP = 100


def connected(bench: Bench, server: Server, count: int) -> int:
    """How many bytes the server grows by when so many clients are there."""
    before = settled(server)
    with clients(bench, server, "idle", 0, count) as idle:
        check(idle.read()["answered"] == count, "a client was not answered")
        return settled(server) - before


def servers(bench: Bench) -> Metrics:
    with serving(bench, "hello") as server:
        connected(bench, server, WARM_UP)
        return {"memory": connected(bench, server, bench.size) / bench.size}


if __name__ == "__main__":
    main_of_servers(servers, size=10_000)

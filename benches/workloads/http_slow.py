"""Fresh clients, one after the other, while `size` others send their requests a byte at a time."""

from __future__ import annotations

from benches.harness import Bench, Metrics, main_of_servers
from benches.http_load import clients, serving


def servers(bench: Bench) -> Metrics:
    with (
        serving(bench, "hello") as server,
        clients(bench, server, "slow", 1.0 if bench.quick else 4.0, bench.size) as slow,
    ):
        slow.read()
        seen = slow.read()
    return {key: seen[key] for key in ("worst", "p99", "median")}


if __name__ == "__main__":
    main_of_servers(servers, size=2_000)

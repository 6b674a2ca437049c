"""The echo server on event loops, by streams. As echo_server."""

from __future__ import annotations

from benches.harness import Bench, Metrics, main
from benches.workloads.echo_server import load, serve_tasks


async def loops(bench: Bench) -> Metrics:
    return await serve_tasks(bench, load)


if __name__ == "__main__":
    main(loops=loops, size=100, parameter=1024)

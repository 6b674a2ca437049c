"""The echo server on event loops, by protocols over TLS. The load is that of tls_echo."""

from __future__ import annotations

from benches.harness import Bench, Metrics, main
from benches.workloads.echo_server import serve_protocols
from benches.workloads.tls_echo import context, load


async def loops(bench: Bench) -> Metrics:
    return await serve_protocols(bench, load, context)


if __name__ == "__main__":
    main(loops=loops, size=100, parameter=1024)

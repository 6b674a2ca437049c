"""100 requests that are sent at once on one connection, again and again. It fails unless they are
answered in their order."""

from __future__ import annotations

from benches.harness import Bench, Metrics, main_of_servers
from benches.http_load import clients, serving


def servers(bench: Bench) -> Metrics:
    with (
        serving(bench, "path") as server,
        clients(bench, server, "pipeline", 0.5 if bench.quick else 2.0) as pipeline,
    ):
        seen = pipeline.read()
    return {"time": seen["seconds"] / seen["answered"]}


if __name__ == "__main__":
    main_of_servers(servers)

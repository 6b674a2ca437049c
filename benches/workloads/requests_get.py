"""`size` calls of `requests.get` under `patch_all()`, each answered after 50 ms.

`parameter` of them are made at a time.
"""

from __future__ import annotations

import os
import time

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, check, cpu_seconds, main

DELAY_SECONDS = 0.05
WARM_UP = 20
# Above this part of a CPU the server would hold the clients up, and the times mean nothing.
SERVER_LOAD_LIMIT = 0.8


def greenlets(bench: Bench) -> Metrics:
    # Before patching: the server's start must not run through the implementation.
    with Companion("http_server", "--delay", DELAY_SECONDS, cpu=bench.companion_cpu) as server:
        from gevent import monkey

        monkey.patch_all()
        return fetch_all(bench, server)


def fetch_all(bench: Bench, server: Companion) -> Metrics:
    import requests
    from gevent import joinall
    from gevent.pool import Pool

    os.environ["NO_PROXY"] = "127.0.0.1"
    url = f"http://127.0.0.1:{server.read()['port']}/"

    def fetch() -> int:
        response = requests.get(url, timeout=60)
        check(response.status_code == 200, f"the server answered {response.status_code}")
        return len(response.content)

    def run(size: int) -> None:
        pool = Pool(bench.parameter)
        jobs = [pool.spawn(fetch) for _ in range(size)]
        joinall(jobs)
        check(len({job.get() for job in jobs}) == 1, "the bodies differ")

    run(WARM_UP)
    cpu, start = cpu_seconds(), time.perf_counter()
    run(bench.size)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu

    served = server.finish()
    check(served["requests"] == bench.size + WARM_UP, "the server saw another number of requests")
    check(served["cpu"] < SERVER_LOAD_LIMIT * wall, "the server was the bottleneck")
    return {"time": wall, "cpu": cpu}


if __name__ == "__main__":
    main(greenlets=greenlets, size=1_000, parameter=200)

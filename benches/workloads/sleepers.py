"""`size` greenlets or tasks that each sleep 10 ms: start all, wait for all."""

from __future__ import annotations

import time

from benches.harness import Bench, Metrics, check, main

SECONDS = 0.01


def check_result(start: float, first: object, last: object, size: int) -> None:
    # An event loop's clock may be a millisecond coarse: uvloop's is.
    check(time.perf_counter() - start > SECONDS - 0.002, "nothing slept")
    check((first, last) == (0, size - 1), "a sleeper gave a wrong result")


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, sleep, spawn

    def simulate_io(i: int) -> int:
        sleep(SECONDS)
        return i

    def run(size: int) -> None:
        start = time.perf_counter()
        jobs = [spawn(simulate_io, i) for i in range(size)]
        joinall(jobs)
        check_result(start, jobs[0].value, jobs[-1].value, size)

    def batch(ops: int) -> None:
        for _ in range(ops):
            run(bench.size)

    return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import gather, sleep

    async def simulate_io(i: int) -> int:
        await sleep(SECONDS)
        return i

    async def run(size: int) -> None:
        start = time.perf_counter()
        jobs = [simulate_io(i) for i in range(size)]
        values = await gather(*jobs)
        check_result(start, values[0], values[-1], size)

    async def batch(ops: int) -> None:
        for _ in range(ops):
            await run(bench.size)

    return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=10_000)

"""`size` greenlets or tasks contend for a `Semaphore(1)` that each holds across a `sleep(0)`."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, sleep, spawn
    from gevent.lock import Semaphore

    def worker(semaphore: Semaphore, count: int) -> None:
        for _ in repeat(None, count):
            with semaphore:
                sleep(0)

    def batch(ops: int) -> None:
        semaphore = Semaphore(1)
        jobs = [spawn(worker, semaphore, ops) for _ in range(bench.size)]
        joinall(jobs, raise_error=True)

    return {"time": bench.seconds_per_op(batch) / bench.size}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Semaphore, gather, sleep

    async def worker(semaphore: Semaphore, count: int) -> None:
        for _ in repeat(None, count):
            async with semaphore:
                await sleep(0)

    async def batch(ops: int) -> None:
        semaphore = Semaphore(1)
        await gather(*[worker(semaphore, ops) for _ in range(bench.size)])

    return {"time": await bench.seconds_per_op_async(batch) / bench.size}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=50)

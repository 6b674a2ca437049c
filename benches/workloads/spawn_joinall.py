"""Spawn `size` empty functions and wait for all of them."""

from __future__ import annotations

from benches.harness import Bench, Metrics, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, spawn

    def empty() -> None:
        pass

    def run(size: int) -> None:
        jobs = [spawn(empty) for _ in range(size)]
        joinall(jobs)

    def batch(ops: int) -> None:
        for _ in range(ops):
            run(bench.size)

    return {"time": bench.seconds_per_op(batch) / bench.size}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import gather

    async def empty() -> None:
        pass

    async def run(size: int) -> None:
        jobs = [empty() for _ in range(size)]
        await gather(*jobs)

    async def batch(ops: int) -> None:
        for _ in range(ops):
            await run(bench.size)

    return {"time": await bench.seconds_per_op_async(batch) / bench.size}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=1_000)

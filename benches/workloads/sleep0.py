"""Two greenlets or tasks that yield to each other with `sleep(0)`."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, sleep, spawn

    def yielder(count: int) -> None:
        for _ in repeat(None, count):
            sleep(0)

    def batch(ops: int) -> None:
        joinall([spawn(yielder, ops), spawn(yielder, ops)], raise_error=True)

    return {"time": bench.seconds_per_op(batch) / 2}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import gather, sleep

    async def yielder(count: int) -> None:
        for _ in repeat(None, count):
            await sleep(0)

    async def batch(ops: int) -> None:
        await gather(yielder(ops), yielder(ops))

    return {"time": await bench.seconds_per_op_async(batch) / 2}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

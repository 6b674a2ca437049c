"""A function that does nothing, called in a native thread of the pool and waited for."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, check, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import get_hub

    pool = get_hub().threadpool

    def same(item: int) -> int:
        return item

    def apply(ops: int) -> None:
        for _ in repeat(None, ops):
            pool.apply(same, (1,))

    def mapped(ops: int) -> None:
        check(len(pool.map(same, range(ops))) == ops, "a result was lost")

    return {"apply": bench.seconds_per_op(apply), "map": bench.seconds_per_op(mapped)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import gather, get_running_loop
    from concurrent.futures import ThreadPoolExecutor

    loop = get_running_loop()

    def same(item: int) -> int:
        return item

    with ThreadPoolExecutor(10) as pool:

        async def apply(ops: int) -> None:
            for _ in repeat(None, ops):
                await loop.run_in_executor(pool, same, 1)

        async def mapped(ops: int) -> None:
            calls = [loop.run_in_executor(pool, same, item) for item in range(ops)]
            check(len(await gather(*calls)) == ops, "a result was lost")

        return {
            "apply": await bench.seconds_per_op_async(apply),
            "map": await bench.seconds_per_op_async(mapped),
        }


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

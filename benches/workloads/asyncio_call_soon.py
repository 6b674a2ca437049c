"""`call_soon` of a function that does nothing, a thousand at a time."""

from __future__ import annotations

import asyncio

from benches.harness import Bench, Metrics, check, main

AT_ONCE = 1_000


async def loops(bench: Bench) -> Metrics:
    loop = asyncio.get_running_loop()
    called = 0

    def callback() -> None:
        nonlocal called
        called += 1

    async def batch(ops: int) -> None:
        nonlocal called
        called = 0
        for _ in range(ops):
            done = loop.create_future()
            for _ in range(AT_ONCE):
                loop.call_soon(callback)
            loop.call_soon(done.set_result, None)
            await done
        check(called == ops * AT_ONCE, "a callback was lost")

    return {"time": await bench.seconds_per_op_async(batch) / AT_ONCE}


if __name__ == "__main__":
    main(loops=loops)

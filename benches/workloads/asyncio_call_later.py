"""`call_later` and `cancel` of the timer, which is what becomes of nearly all of them.

The loop gets its turn after each thousand, for what it does about cancelled timers.
"""

from __future__ import annotations

import asyncio

from benches.harness import Bench, Metrics, main

AT_ONCE = 1_000

#: Seconds, no timer ends in the meantime.
DELAY = 300.0


async def loops(bench: Bench) -> Metrics:
    loop = asyncio.get_running_loop()

    def callback() -> None:
        raise RuntimeError("a cancelled timer went off")

    async def batch(ops: int) -> None:
        for _ in range(ops):
            for _ in range(AT_ONCE):
                loop.call_later(DELAY, callback).cancel()
            await asyncio.sleep(0)

    return {"time": await bench.seconds_per_op_async(batch) / AT_ONCE}


if __name__ == "__main__":
    main(loops=loops)

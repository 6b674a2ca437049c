"""A `Timeout` that is started and cancelled before it is over; asyncio's `call_later`."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import Timeout

    def start_and_cancel(ops: int) -> None:
        for _ in repeat(None, ops):
            timeout = Timeout(10)
            timeout.start()
            timeout.cancel()

    def block(ops: int) -> None:
        for _ in repeat(None, ops):
            with Timeout(10):
                pass

    return {"time": bench.seconds_per_op(start_and_cancel), "block": bench.seconds_per_op(block)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import get_running_loop, timeout

    loop = get_running_loop()

    def nothing() -> None:
        raise AssertionError("the time is not over")

    async def start_and_cancel(ops: int) -> None:
        for _ in repeat(None, ops):
            loop.call_later(10, nothing).cancel()

    async def block(ops: int) -> None:
        for _ in repeat(None, ops):
            async with timeout(10):
                pass

    return {
        "time": await bench.seconds_per_op_async(start_and_cancel),
        "block": await bench.seconds_per_op_async(block),
    }


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

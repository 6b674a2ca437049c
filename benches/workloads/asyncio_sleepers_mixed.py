"""`size` tasks in `asyncio.sleep` and as many greenlets in `time.sleep`, 10 ms each, at once.

All are started, then waited for.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from benches.harness import Bench, Metrics, main
from benches.workloads.sleepers import SECONDS, check_result

if TYPE_CHECKING:
    import gevent


async def measure(
    bench: Bench, awaited: Callable[[gevent.Greenlet[..., Any]], Awaitable[Any]]
) -> Metrics:
    """Measure it with a function that gives what a coroutine awaits for a greenlet."""
    import gevent
    from gevent import monkey

    monkey.patch_all()

    def in_greenlet(i: int) -> int:
        time.sleep(SECONDS)
        return i

    async def in_task(i: int) -> int:
        await asyncio.sleep(SECONDS)
        return i

    async def run(size: int) -> None:
        start = time.perf_counter()
        greenlets = [gevent.spawn(in_greenlet, i) for i in range(size)]
        values = await asyncio.gather(*[in_task(i) for i in range(size)])
        await awaited(gevent.spawn(gevent.joinall, greenlets))
        check_result(start, values[0], values[-1], size)
        check_result(start, greenlets[0].value, greenlets[-1].value, size)

    async def batch(ops: int) -> None:
        for _ in range(ops):
            await run(bench.size)

    return {"time": await bench.seconds_per_op_async(batch)}


def itself(greenlet: gevent.Greenlet[..., Any]) -> Awaitable[Any]:
    return greenlet  # type: ignore[return-value]  # gevent's cannot be awaited


async def loops(bench: Bench) -> Metrics:
    return await measure(bench, itself)


async def bridge(bench: Bench) -> Metrics:
    theirs = importlib.import_module("asyncio_gevent")
    return await measure(bench, theirs.greenlet_to_future)


if __name__ == "__main__":
    main(loops=loops, bridge=bridge, size=10_000)

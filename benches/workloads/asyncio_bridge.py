"""Coroutines that await greenlets, and greenlets that wait for coroutines, in one running loop.

A round trip starts the other side and takes its result. `asyncio.sleep(0)` of a single task, in the
same loop, is beside: the least that giving way in asyncio takes.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from benches.harness import Bench, Metrics, check, main

if TYPE_CHECKING:
    import gevent


async def measure(
    bench: Bench,
    awaited: Callable[[gevent.Greenlet[..., Any]], Awaitable[Any]],
    wait: Callable[[Coroutine[Any, Any, int]], int],
) -> Metrics:
    """Measure round trips.

    awaited: what a coroutine awaits for a greenlet.
    wait: what a greenlet calls for a coroutine.
    """
    import gevent

    def in_greenlet(value: int) -> int:
        return value + 1

    async def in_task(value: int) -> int:
        return value + 1

    async def await_greenlets(ops: int) -> None:
        value = 0
        for _ in range(ops):
            value = await awaited(gevent.spawn(in_greenlet, value))
        check(value == ops, "a result was lost")

    def wait_for_coroutines(ops: int) -> int:
        value = 0
        for _ in range(ops):
            value = wait(in_task(value))
        return value

    async def wait_in_greenlet(ops: int) -> None:
        check(await awaited(gevent.spawn(wait_for_coroutines, ops)) == ops, "a result was lost")

    async def sleep(ops: int) -> None:
        for _ in range(ops):
            await asyncio.sleep(0)

    sleep0 = await bench.seconds_per_op_async(sleep)
    to_greenlet = await bench.seconds_per_op_async(await_greenlets)
    to_task = await bench.seconds_per_op_async(wait_in_greenlet)
    return {
        "await": to_greenlet,
        "wait": to_task,
        "sleep0": sleep0,
        "await_sleeps": to_greenlet / sleep0,
        "wait_sleeps": to_task / sleep0,
    }


def itself(greenlet: gevent.Greenlet[..., Any]) -> Awaitable[Any]:
    return greenlet  # type: ignore[return-value]  # gevent's cannot be awaited


async def loops(bench: Bench) -> Metrics:
    ours = importlib.import_module("greenloop.asyncio")
    return await measure(bench, itself, ours.wait)


async def bridge(bench: Bench) -> Metrics:
    theirs = importlib.import_module("asyncio_gevent")
    loop = asyncio.get_running_loop()

    def nothing() -> None:
        pass

    def wait(coroutine: Coroutine[Any, Any, int]) -> int:
        greenlet = theirs.future_to_greenlet(coroutine)
        greenlet.start()
        # What it starts does not wake the loop, which would sleep on.
        loop.call_soon_threadsafe(nothing)
        value: int = greenlet.get()
        return value

    return await measure(bench, theirs.greenlet_to_future, wait)


if __name__ == "__main__":
    main(loops=loops, bridge=bridge)

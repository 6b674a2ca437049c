"""`size` callbacks that four native threads hand to one loop, until the last has run; per callback.

No callback may be lost: the count is checked.
"""

from __future__ import annotations

from threading import Thread
from typing import Any

from benches.harness import Bench, Metrics, check, main

THREADS = 4


def greenlets(bench: Bench) -> Metrics:
    from gevent import get_hub
    from gevent.event import Event

    loop: Any = get_hub().loop

    def run(size: int) -> None:
        called, done = 0, Event()

        def callback() -> None:
            nonlocal called
            called += 1
            if called == size:
                done.set()

        def call() -> None:
            for _ in range(size // THREADS):
                loop.run_callback_threadsafe(callback)

        threads = [Thread(target=call) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        check(done.wait(60), "a callback was lost")
        for thread in threads:
            thread.join()
        check(called == size, "a callback was called twice")

    def batch(ops: int) -> None:
        for _ in range(ops):
            run(bench.size)

    return {"time": bench.seconds_per_op(batch) / bench.size}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Event, get_running_loop

    loop = get_running_loop()

    async def run(size: int) -> None:
        called, done = 0, Event()

        def callback() -> None:
            nonlocal called
            called += 1
            if called == size:
                done.set()

        def call() -> None:
            for _ in range(size // THREADS):
                loop.call_soon_threadsafe(callback)

        threads = [Thread(target=call) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        await done.wait()
        for thread in threads:
            thread.join()
        check(called == size, "a callback was called twice")

    async def batch(ops: int) -> None:
        for _ in range(ops):
            await run(bench.size)

    return {"time": await bench.seconds_per_op_async(batch) / bench.size}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=1_000_000)

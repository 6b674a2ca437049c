"""Where a task is waited for decides how long the waiting takes, in asyncio and gevent alike.

    python -m greenloop examples/await_order.py [SECONDS]

A background task sleeps for two units of SECONDS (1 if not given) while the main function has
one unit of its own to wait. Waiting for the task first: 2 + 1 units. Waiting for it last: 2
units, as both wait at the same time.
"""

import asyncio
import sys
import time

import gevent

UNIT = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


async def sleeping_coroutine() -> None:
    await asyncio.sleep(2 * UNIT)


async def asyncio_main(task_first: bool) -> None:
    task = asyncio.create_task(sleeping_coroutine())
    if task_first:
        await task
    await asyncio.sleep(UNIT)
    await task


def sleeping_function() -> None:
    gevent.sleep(2 * UNIT)


def gevent_main(task_first: bool) -> None:
    task = gevent.spawn(sleeping_function)
    if task_first:
        task.join()
    gevent.sleep(UNIT)
    task.join()


if __name__ == "__main__":
    for task_first in (True, False):
        order = "first" if task_first else "last"
        start = time.perf_counter()
        asyncio.run(asyncio_main(task_first))
        print(f"asyncio, task awaited {order}: {(time.perf_counter() - start) / UNIT:.1f} units")
        start = time.perf_counter()
        gevent_main(task_first)
        print(f"gevent, task joined {order}: {(time.perf_counter() - start) / UNIT:.1f} units")

"""Many tasks that each wait 10 ms: greenlets and asyncio side by side, time and memory.

    python -m greenloop examples/many_sleeps.py [TASKS]

TASKS is 10000 if not given. The numbers of one run depend on what ran before it in the same
process; for measurements to rely on, see the project's benchmarks.
"""

import asyncio
import sys
import time
from collections.abc import Callable

import gevent

WAIT = 0.01  # seconds


def resident_memory() -> float:
    """The memory this process occupies now, in MiB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def greenlet_task(number: int) -> int:
    gevent.sleep(WAIT)
    return number


async def asyncio_task(number: int) -> int:
    await asyncio.sleep(WAIT)
    return number


def with_greenlets(count: int) -> list[int]:
    tasks = [gevent.spawn(greenlet_task, number) for number in range(count)]
    gevent.joinall(tasks)
    return [task.value for task in tasks]


def with_asyncio(count: int) -> list[int]:
    async def gather() -> list[int]:
        return await asyncio.gather(*(asyncio_task(number) for number in range(count)))

    return asyncio.run(gather())


def report(name: str, run: Callable[[int], list[int]], count: int) -> None:
    memory, start = resident_memory(), time.perf_counter()
    results = run(count)
    elapsed, grown = time.perf_counter() - start, resident_memory() - memory
    assert results == list(range(count))
    print(f"{name}: {count} tasks done in {elapsed:.2f} s, memory grew by {grown:.1f} MiB")


if __name__ == "__main__":
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    report("greenlets", with_greenlets, tasks)
    report("asyncio", with_asyncio, tasks)

"""A blocking function called many times at once: greenlets against asyncio's thread pool.

    python -m greenloop examples/blocking_calls.py [TASKS [ROUNDS]]

TASKS is 10000 and ROUNDS is 5 if not given. The function only knows time.sleep(). Patched, it
lets other greenlets run. asyncio has to give such a function to native threads, of which its
default executor has a few dozen at most.
"""

from gevent import monkey

monkey.patch_all()

import asyncio
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import gevent

WAIT = 0.01  # seconds


def blocking_function(number: int) -> int:
    time.sleep(WAIT)
    return number


def with_greenlets(count: int) -> list[int]:
    tasks = [gevent.spawn(blocking_function, number) for number in range(count)]
    gevent.joinall(tasks)
    return [task.value for task in tasks]


def with_asyncio(count: int) -> list[int]:
    async def gather() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = (loop.run_in_executor(None, blocking_function, number) for number in range(count))
        return await asyncio.gather(*calls)

    return asyncio.run(gather())


def measured(run: Callable[[int], list[int]], count: int) -> tuple[float, float]:
    """Seconds the run took, and MiB of Python objects it left behind."""
    tracemalloc.start()
    start = time.perf_counter()
    results = run(count)
    elapsed = time.perf_counter() - start
    left, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert results == list(range(count))
    return elapsed, left / 1024 / 1024


def line(name: str, elapsed: float, left: float) -> str:
    return f"{name}: {elapsed:.2f} s, {left:.2f} MiB"


def main(count: int, rounds: int) -> None:
    ways = {"greenlets": with_greenlets, "asyncio": with_asyncio}
    measurements: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}, {count} calls")
        for name, run in ways.items():
            measurements[name].append(measured(run, count))
            print("  " + line(name, *measurements[name][-1]))
    print("mean")
    for name, taken in measurements.items():
        times, sizes = zip(*taken, strict=True)
        print("  " + line(name, statistics.mean(times), statistics.mean(sizes)))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 5,
    )

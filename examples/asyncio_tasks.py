"""gevent_tasks.py written for asyncio: the same two tasks, with async and await.

python -m greenloop examples/asyncio_tasks.py [SECONDS]
"""

import asyncio
import sys
import time

PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


async def task(number: int) -> None:
    print(f"task {number} started")
    await asyncio.sleep(PAUSE)
    print(f"task {number} resumed")
    await asyncio.sleep(PAUSE)


async def main() -> None:
    await asyncio.gather(task(1), task(2))


if __name__ == "__main__":
    start = time.perf_counter()
    asyncio.run(main())
    print(f"total: {time.perf_counter() - start:.2f} s")

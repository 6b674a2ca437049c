"""Two tasks that wait twice each, at the same time, on the event loop.

    python -m greenloop examples/gevent_tasks.py [SECONDS]

The whole takes two waits of SECONDS (1 if not given), not four.
"""

import sys
import time

import gevent

PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def task(number: int) -> None:
    print(f"task {number} started")
    gevent.sleep(PAUSE)
    print(f"task {number} resumed")
    gevent.sleep(PAUSE)


if __name__ == "__main__":
    start = time.perf_counter()
    gevent.joinall([gevent.spawn(task, 1), gevent.spawn(task, 2)])
    print(f"total: {time.perf_counter() - start:.2f} s")

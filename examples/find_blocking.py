"""Find the greenlet that keeps the others waiting: time what runs between two switches.

    python -m greenloop examples/find_blocking.py

greenlet.settrace() calls a function at every switch. The time from one call to the next is how
long one greenlet had the thread to itself.
"""

import time
from collections import defaultdict
from typing import Any

import gevent
import greenlet

longest: defaultdict[str, float] = defaultdict(float)  # seconds
since = 0.0


def on_switch(event: str, args: tuple[Any, Any]) -> None:
    global since
    origin, _target = args
    now = time.perf_counter()
    if isinstance(origin, gevent.Greenlet):
        longest[origin.name] = max(longest[origin.name], now - since)
    since = now


def polite() -> None:
    for _ in range(10):
        gevent.sleep(0.01)


def rude() -> None:
    time.sleep(0.3)  # not patched here: nothing else runs


def main() -> None:
    global since
    since = time.perf_counter()
    previous = greenlet.settrace(on_switch)
    try:
        tasks = [gevent.spawn(polite), gevent.spawn(rude)]
        for task, name in zip(tasks, ("polite", "rude"), strict=True):
            task.name = name
        gevent.joinall(tasks)
    finally:
        greenlet.settrace(previous)
    name = max(longest, key=lambda name: longest[name])
    print(f"held the thread longest: {name}")
    print(f"for at least 0.3 s: {longest[name] >= 0.3}")


if __name__ == "__main__":
    main()

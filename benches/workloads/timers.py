"""`size` timers armed, then all cancelled, per timer; and how that grows with their number.

`growth` is the time of one of `size` over the time of one of a thousand: what grows as the
logarithm does comes to 2 for a million. The timers have been made before: what making a million
objects costs is the interpreter's memory and its garbage collector. `life` is with making them and
closing them.
"""

from __future__ import annotations

from itertools import repeat
from random import Random
from typing import Any

from benches.harness import Bench, Metrics, main

FEW = 1_000


def delays(size: int) -> list[float]:
    """Between a minute and two, in no order."""
    random = Random(1)
    return [60 + 60 * random.random() for _ in range(size)]


def greenlets(bench: Bench) -> Metrics:
    from gevent import get_hub

    loop: Any = get_hub().loop

    def nothing() -> None:
        raise AssertionError("the time is not over")

    def arm_and_cancel(timers: list[Any]) -> None:
        for timer in timers:
            timer.start(nothing)
        for timer in timers:
            timer.stop()

    def one_of(size: int) -> float:
        timers = [loop.timer(time) for time in delays(size)]

        def batch(ops: int) -> None:
            for _ in repeat(None, ops):
                arm_and_cancel(timers)

        seconds = bench.seconds_per_op(batch) / size
        close(timers)
        return seconds

    def close(timers: list[Any]) -> None:
        for timer in timers:
            timer.close()

    def lives(ops: int) -> None:
        for _ in repeat(None, ops):
            timers = [loop.timer(time) for time in times]
            arm_and_cancel(timers)
            close(timers)

    few, many = one_of(FEW), one_of(bench.size)
    times = delays(bench.size)
    life = bench.seconds_per_op(lives) / bench.size
    return {"time": many, "growth": many / few, "life": life}


if __name__ == "__main__":
    main(greenlets=greenlets, size=1_000_000)

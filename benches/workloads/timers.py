"""`size` timers armed, then all cancelled, per timer; and how that grows with their number.

`growth` is the time of one of `size` over the time of one of a thousand: what grows as the
logarithm does comes to 2 for a million.
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

    def arm_and_cancel(times: list[float]) -> None:
        timers = [loop.timer(time) for time in times]
        for timer in timers:
            timer.start(nothing)
        for timer in timers:
            timer.stop()
        for timer in timers:
            timer.close()

    def one_of(size: int) -> float:
        times = delays(size)

        def batch(ops: int) -> None:
            for _ in repeat(None, ops):
                arm_and_cancel(times)

        return bench.seconds_per_op(batch) / size

    few, many = one_of(FEW), one_of(bench.size)
    return {"time": many, "growth": many / few}


if __name__ == "__main__":
    main(greenlets=greenlets, size=1_000_000)

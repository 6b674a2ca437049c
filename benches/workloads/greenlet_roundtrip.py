"""Two `switch()` calls: into a greenlet that loops, and back. The floor is a generator's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

from benches.harness import Bench, Metrics, main


def loop(step: Callable[[], object], ops: int) -> None:
    for _ in repeat(None, ops):
        step()


def greenlets(bench: Bench) -> Metrics:
    from greenlet import getcurrent, greenlet

    def child() -> None:
        back = parent.switch
        while True:
            back()

    parent = getcurrent()
    switch = greenlet(child).switch
    switch()
    return {"time": bench.seconds_per_op(lambda ops: loop(switch, ops))}


def generator(bench: Bench) -> Metrics:
    def child() -> Iterator[None]:
        while True:
            yield

    step = child().__next__
    step()
    return {"time": bench.seconds_per_op(lambda ops: loop(step, ops))}


if __name__ == "__main__":
    main(greenlets=greenlets, generator=generator)

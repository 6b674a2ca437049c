"""Create a raw greenlet, run its empty function, finish it."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, main


def greenlets(bench: Bench) -> Metrics:
    from greenlet import greenlet

    def empty() -> None:
        pass

    def batch(ops: int) -> None:
        create = greenlet
        for _ in repeat(None, ops):
            create(empty).switch()

    return {"time": bench.seconds_per_op(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets)

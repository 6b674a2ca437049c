"""The round trip of two switches while a function set by `greenlet.settrace` is told of each."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, check, main


def greenlets(bench: Bench) -> Metrics:
    from greenlet import getcurrent, greenlet, settrace

    told = 0

    def trace(event: str, args: object) -> None:
        nonlocal told
        told += 1

    def child() -> None:
        back = parent.switch
        while True:
            back()

    def batch(ops: int) -> None:
        nonlocal told
        told = 0
        for _ in repeat(None, ops):
            switch()
        check(told == 2 * ops, f"told of {told} switches in {ops} round trips")

    parent = getcurrent()
    switch = greenlet(child).switch
    switch()
    settrace(trace)
    try:
        return {"time": bench.seconds_per_op(batch)}
    finally:
        settrace(None)


if __name__ == "__main__":
    main(greenlets=greenlets)

"""`size` raw greenlets parked one function deep: what each takes to create, resume and finish.

`create` is creating one and running it until it switches back, `resume` a switch to it and back
while all are resumed in turn, `finish` its last switch and its disposal, `memory` the resident
bytes of a parked one, with its place in a list. `resume` is the median of several turns.
"""

from __future__ import annotations

import statistics
import time

from benches.harness import Bench, Metrics, check, main, resident

WARM_UP = 100
TURNS = 5


def greenlets(bench: Bench) -> Metrics:
    from greenlet import getcurrent, greenlet

    parent = getcurrent()

    def park() -> None:
        while parent.switch():
            pass

    def park_many(size: int) -> Metrics:
        before = resident()
        start = time.perf_counter()
        parked = []
        for _ in range(size):
            one = greenlet(park)
            one.switch()
            parked.append(one)
        create = time.perf_counter() - start
        memory = resident() - before

        turns = []
        for _ in range(TURNS):
            start = time.perf_counter()
            for one in parked:
                one.switch(True)
            turns.append(time.perf_counter() - start)

        start = time.perf_counter()
        for one in parked:
            one.switch(False)
        check(all(one.dead for one in parked), "a greenlet did not finish")
        one = None  # type: ignore[assignment]
        parked.clear()
        finish = time.perf_counter() - start
        return {
            "create": create / size,
            "resume": statistics.median(turns) / size,
            "finish": finish / size,
            "memory": memory / size,
        }

    park_many(WARM_UP)
    return park_many(bench.size)


if __name__ == "__main__":
    main(greenlets=greenlets, size=100_000)

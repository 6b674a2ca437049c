"""How many bytes a process grows by over 10 million switches and over 1 million greenlets.

Each is measured after a tenth as many, which fill caches and free lists. A quick run does a tenth.
The system counts pages: what has not grown is told as one page.
"""

from __future__ import annotations

import mmap
from itertools import repeat

from benches.harness import Bench, Metrics, main, resident


def greenlets(bench: Bench) -> Metrics:
    from greenlet import getcurrent, greenlet

    parent = getcurrent()

    def child() -> None:
        back = parent.switch
        while True:
            back()

    def switches(count: int) -> None:
        for _ in repeat(None, count // 2):
            switch()

    def lives(count: int) -> None:
        for _ in repeat(None, count):
            greenlet(len).switch("")

    switch = greenlet(child).switch
    switch()
    divisor = 10 if bench.quick else 1
    growth = {}
    for name, run, count in (("switches", switches, 10_000_000), ("lives", lives, 1_000_000)):
        run(count // divisor // 10)
        before = resident()
        run(count // divisor)
        growth[name] = float(max(mmap.PAGESIZE, resident() - before))
    return growth


if __name__ == "__main__":
    main(greenlets=greenlets)

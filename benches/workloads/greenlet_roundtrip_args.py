"""Round trips that carry values: `switch(value)` in and `switch(value)` back.

`time` passes one value each way. `keywords` passes a positional and a keyword argument in, which
arrive as a pair of tuple and dict, and one value back.
"""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, check, main


def greenlets(bench: Bench) -> Metrics:
    from greenlet import getcurrent, greenlet

    def child(value: object) -> None:
        back = parent.switch
        while True:
            value = back(value)

    def one_value(ops: int) -> None:
        for number in repeat(7, ops):
            switch(number)

    def keywords(ops: int) -> None:
        for number in repeat(7, ops):
            switch(number, key=number)

    parent = getcurrent()
    switch = greenlet(child).switch
    check(switch(3) == 3, "the value did not come back")
    check(switch(1, key=2) == ((1,), {"key": 2}), "the arguments did not come back")
    return {
        "time": bench.seconds_per_op(one_value),
        "keywords": bench.seconds_per_op(keywords),
    }


if __name__ == "__main__":
    main(greenlets=greenlets)

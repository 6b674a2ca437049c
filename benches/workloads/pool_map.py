"""`Pool(100).map` and `imap_unordered` over `size` jobs that do nothing, per job."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, check, main

WORKERS = 100


def greenlets(bench: Bench) -> Metrics:
    from gevent.pool import Pool

    def same(item: int) -> int:
        return item

    items = range(bench.size)

    def mapped(ops: int) -> None:
        for _ in repeat(None, ops):
            check(Pool(WORKERS).map(same, items) == list(items), "a result was lost")

    def unordered(ops: int) -> None:
        for _ in repeat(None, ops):
            results = Pool(WORKERS).imap_unordered(same, items)
            check(sum(results) == sum(items), "a result was lost")

    return {
        "map": bench.seconds_per_op(mapped) / bench.size,
        "imap_unordered": bench.seconds_per_op(unordered) / bench.size,
    }


if __name__ == "__main__":
    main(greenlets=greenlets, size=100_000)

"""Greenlets in many threads at once: switching, ending, collected from elsewhere, refused."""

from __future__ import annotations

import gc
import os
import random
import threading
from typing import Any

import pytest
from greenlet import GreenletExit, error, getcurrent, greenlet

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1",
    reason="greenlet loses some of them",
)


THREADS = 8
GREENLETS = 200


class Token:
    pass


def together(work: Any) -> None:
    """Run `work(n)` in many threads at once; raise what the first of them raised."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(THREADS)

    def run(n: int) -> None:
        try:
            barrier.wait()
            work(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def deep(n: int) -> Any:
    return deep(n - 1) if n else getcurrent().parent.switch()


def test_switching_spawning_and_dying() -> None:
    def work(n: int) -> None:
        choose = random.Random(n)
        ended = 0

        def body(depth: int) -> int:
            total = 0
            for _ in range(choose.randrange(1, 6)):
                total += deep(depth)
            return -total

        parked: list[tuple[greenlet, int]] = []
        for _ in range(GREENLETS * 5):
            if len(parked) < GREENLETS and choose.random() < 0.6:
                g = greenlet(body)
                assert g.switch(choose.randrange(30)) == ()
                parked.append((g, 0))
                continue
            if not parked:
                continue
            index = choose.randrange(len(parked))
            g, total = parked[index]
            value = choose.randrange(100)
            if choose.random() < 0.1:
                assert isinstance(g.throw(), GreenletExit)
                result = None
            elif choose.random() < 0.1:
                parked.pop(index)
                del g
                continue
            else:
                result = g.switch(value)
            if g.dead:
                assert result is None or result == -(total + value)
                parked.pop(index)
                ended += 1
            else:
                parked[index] = (g, total + value)
        assert ended

    together(work)


def test_other_threads_are_refused_and_do_no_harm() -> None:
    everybody: list[list[greenlet]] = [[] for _ in range(THREADS)]
    ready = threading.Barrier(THREADS)

    def work(n: int) -> None:
        own = everybody[n]
        for _ in range(50):
            g = greenlet(lambda: getcurrent().parent.switch(getcurrent().parent.switch()))
            g.switch()
            own.append(g)
        ready.wait()
        for other in range(THREADS):
            if other == n:
                continue
            for g in everybody[other]:
                with pytest.raises(error, match="different thread"):
                    g.switch(n)
                with pytest.raises(error, match="different thread"):
                    g.throw(ValueError)
                repr(g), g.dead, g.gr_frame, bool(g)
        ready.wait()
        for k, g in enumerate(own):
            assert g.switch(k) == k
            g.switch()
            assert g.dead
        ready.wait()

    together(work)


@ours_only
def test_collected_from_other_threads() -> None:
    """Each thread drops what the one beside it parked: it ends in its own thread."""
    ended: list[tuple[int, int]] = []
    boxes: list[list[greenlet]] = [[] for _ in range(THREADS)]
    ready = threading.Barrier(THREADS)

    def run() -> None:
        token = Token()
        ident = threading.get_ident()
        try:
            getcurrent().parent.switch()
        finally:
            ended.append((ident, threading.get_ident()))
            del token

    def work(n: int) -> None:
        for turn in range(5):
            for _ in range(40):
                g = greenlet(run)
                g.switch()
                boxes[n].append(g)
                if turn % 2:
                    g.cycle = [g]
            del g
            ready.wait()
            boxes[(n + 1) % THREADS].clear()
            ready.wait()
            if n == 0:
                gc.collect()
            ready.wait()
            # The next switch ends those that were dropped.
            greenlet(lambda: None).switch()
            ready.wait()

    together(work)
    assert len(ended) == THREADS * 5 * 40
    assert all(started == finished for started, finished in ended)


def test_threads_come_and_go() -> None:
    ended: list[int] = []

    def run() -> None:
        try:
            deep(10)
        finally:
            ended.append(1)

    def short() -> None:
        local.kept = [greenlet(run) for _ in range(20)]
        for g in local.kept:
            g.switch()

    local = threading.local()

    def work(n: int) -> None:
        for _ in range(10):
            thread = threading.Thread(target=short)
            thread.start()
            thread.join()

    together(work)
    pause = threading.Event()
    while len(ended) < THREADS * 10 * 20:
        pause.wait(0.001)

"""The standard library's profilers of time and memory in programs of greenlets."""

from __future__ import annotations

import cProfile
import pstats
import tracemalloc

from greenlet import getcurrent, greenlet

ROUNDS = 10
WORKERS = 5


def leaf(n: int) -> int:
    return 2 * n


def worker() -> int:
    total = 0
    for i in range(ROUNDS):
        total += leaf(i)
        getcurrent().parent.switch()
        total += leaf(i)
    return total


def drive() -> list[int]:
    workers = [greenlet(worker) for _ in range(WORKERS)]
    for _ in range(ROUNDS):
        for one in workers:
            one.switch()
    return [one.switch() for one in workers]


def test_cprofile_counts_every_call() -> None:
    profile = cProfile.Profile()
    expected = 4 * sum(range(ROUNDS))
    assert profile.runcall(drive) == [expected] * WORKERS
    stats = pstats.Stats(profile)
    calls = {
        name: total
        for (_, _, name), (_, total, _, _, _) in stats.stats.items()  # type: ignore[attr-defined]
    }
    assert calls["drive"] == 1
    assert calls["worker"] == WORKERS
    assert calls["leaf"] == 2 * ROUNDS * WORKERS
    # Those of `drive`, and the workers' to their parent.
    (switches,) = [total for name, total in calls.items() if "'switch'" in name]
    assert switches == (2 * ROUNDS + 1) * WORKERS
    assert all(
        own >= 0 and cumulative >= 0
        for _, _, own, cumulative, _ in stats.stats.values()  # type: ignore[attr-defined]
    )


def test_cprofile_of_programs_that_leave_greenlets_behind() -> None:
    profile = cProfile.Profile()
    profile.enable()
    left = greenlet(worker)
    left.switch()
    profile.disable()
    left.switch()
    profile.enable()
    left.throw()
    profile.disable()
    assert pstats.Stats(profile).total_calls > 0  # type: ignore[attr-defined]


def test_tracemalloc_shows_the_greenlets_frames() -> None:
    def inner() -> bytearray:
        getcurrent().parent.switch()
        return bytearray(123_456)

    def outer() -> bytearray:
        return inner()

    tracemalloc.start(50)
    try:
        one, two = greenlet(outer), greenlet(outer)
        for g in (one, two):
            g.switch()
        kept = [two.switch(), one.switch()]
        for block in kept:
            trace = tracemalloc.get_object_traceback(block)
            assert trace is not None
            lines = [frame.lineno for frame in trace]
            first = outer.__code__.co_firstlineno
            # Outermost first. A greenlet's stack begins with it: this function is not there.
            assert lines == [first + 1, inner.__code__.co_firstlineno + 2]
    finally:
        tracemalloc.stop()

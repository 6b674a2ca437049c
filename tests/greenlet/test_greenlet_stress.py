"""Many greenlets in random order, each checking at every step that nothing of its was lost.

The order comes from a seeded generator, so that a failure can be had again.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import random
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

context_number: contextvars.ContextVar[int] = contextvars.ContextVar("context_number")


class Nudge(Exception):
    """Thrown into workers now and then; carries a number back."""


class Worker:
    """One greenlet's program: random deeds, with switches to the scheduler in between."""

    def __init__(self, number: int, seed: int, steps: int, scheduler: greenlet) -> None:
        self.number = number
        self.random = random.Random(seed * 1_000_003 + number)
        self.steps = steps
        self.scheduler = scheduler
        self.nudged = 0

    def switch(self) -> None:
        """Go to the scheduler and check what came back."""
        try:
            got = self.scheduler.switch(self.number)
        except Nudge as nudge:
            assert nudge.args == (self.number,)
            self.nudged += 1
        else:
            assert got == ("go", self.number)

    def run(self) -> tuple[str, int, int]:
        context_number.set(self.number)
        deeds = [
            self.deep_calls,
            self.exception,
            self.nested_handlers,
            self.generator,
            self.delegation,
            self.sort,
            self.nested_greenlet,
            self.garbage,
            self.frames,
            self.comprehension,
        ]
        for step in range(self.steps):
            local = (self.number, step)
            self.random.choice(deeds)()
            assert local == (self.number, step)
            assert context_number.get() == self.number
            assert sys.exc_info() == (None, None, None)
        return "finished", self.number, self.nudged

    def deep_calls(self) -> None:
        def descend(n: int) -> int:
            if n == 0:
                self.switch()
                return 0
            return descend(n - 1) + 1

        depth = self.random.randrange(60)
        assert descend(depth) == depth

    def exception(self) -> None:
        try:
            self.switch()
            raise ValueError(self.number)
        except ValueError as exc:
            self.switch()
            assert sys.exc_info()[1] is exc
            assert exc.args == (self.number,)
        finally:
            self.switch()

    def nested_handlers(self) -> None:
        try:
            raise KeyError(self.number)
        except KeyError as outer:
            try:
                self.switch()
                raise ValueError(self.number)
            except ValueError as inner:
                self.switch()
                assert inner.__context__ is outer
            self.switch()
            assert sys.exc_info()[1] is outer

    def generator(self) -> None:
        def numbers(n: int) -> Iterator[int]:
            for i in range(n):
                self.switch()
                yield i * self.number

        assert list(numbers(3)) == [0, self.number, 2 * self.number]

    def delegation(self) -> None:
        def leaf() -> Iterator[int]:
            self.switch()
            yield self.number

        def chain(n: int) -> Iterator[int]:
            if n:
                yield from chain(n - 1)
            yield from leaf()

        assert list(chain(3)) == [self.number] * 4

    def sort(self) -> None:
        def key(item: int) -> int:
            self.switch()
            return -item

        assert sorted(range(4), key=key) == [3, 2, 1, 0]

    def nested_greenlet(self) -> None:
        def child(value: int) -> int:
            assert context_number.get(None) is None
            self.switch()
            if value % 2:
                raise LookupError(value)
            return value + 1

        value = self.random.randrange(100)
        try:
            assert greenlet(child).switch(value) == value + 1
        except LookupError as exc:
            assert exc.args == (value,)
            assert value % 2

    def garbage(self) -> None:
        cycle: list[Any] = [self.number]
        cycle.append(cycle)
        self.switch()
        assert cycle[1][0] == self.number
        if self.random.random() < 0.1:
            gc.collect()

    def frames(self) -> None:
        frame = sys._getframe()
        self.switch()
        assert frame is sys._getframe()
        assert frame.f_locals["self"] is self
        assert traceback.extract_stack(frame)[-1].name == "frames"

    def comprehension(self) -> None:
        assert [self.step(i) for i in range(3)] == [self.number + i for i in range(3)]

    def step(self, i: int) -> int:
        self.switch()
        return self.number + i


def inspect(worker: Worker, g: greenlet) -> None:
    """Look at a parked worker from outside."""
    frame, depth = g.gr_frame, 0
    assert frame is not None
    while frame is not None:
        depth += 1
        frame = frame.f_back
    assert depth >= 1
    if g.gr_frame.f_code is Worker.switch.__code__:
        assert g.gr_frame.f_locals["self"] is worker


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_200_workers_in_random_order(seed: int) -> None:
    count, steps = 200, 12
    order = random.Random(seed)
    main = getcurrent()
    workers = [Worker(n, seed, steps, main) for n in range(count)]
    greenlets = [greenlet(worker.run) for worker in workers]
    # A worker may be inside a nested greenlet: what parked last is what must be resumed.
    resume: list[greenlet] = list(greenlets)
    nudges = [0] * count
    results: dict[int, Any] = {}

    def note_current(worker: Worker) -> None:
        original = worker.switch

        def switch() -> None:
            resume[worker.number] = getcurrent()
            original()

        worker.switch = switch  # type: ignore[method-assign]

    for worker in workers:
        note_current(worker)
    for n in order.sample(range(count), count):
        assert resume[n].switch() == n
    alive = list(range(count))
    while alive:
        position = order.randrange(len(alive))
        n = alive[position]
        if order.random() < 0.05:
            inspect(workers[n], resume[n])
        if order.random() < 0.1:
            nudges[n] += 1
            got = resume[n].throw(Nudge, n)
        else:
            got = resume[n].switch("go", n)
        if isinstance(got, tuple):
            results[n] = got
            assert greenlets[n].dead
            alive[position] = alive[-1]
            alive.pop()
        else:
            assert got == n
        assert sys.exc_info() == (None, None, None)
    assert results == {n: ("finished", n, nudges[n]) for n in range(count)}


def test_half_of_them_killed_on_the_way() -> None:
    order = random.Random(7)
    cleaned = []

    def body(n: int) -> str:
        try:
            for _ in range(20):
                main.switch(n)
        finally:
            cleaned.append(n)
        return "finished"

    main = getcurrent()
    greenlets = {n: greenlet(functools.partial(body, n)) for n in range(200)}
    outcomes: dict[int, str] = {}
    while greenlets:
        n = order.choice(list(greenlets))
        chance = order.random()
        if chance < 0.02:
            outcomes[n] = "killed" if isinstance(greenlets.pop(n).throw(), GreenletExit) else "odd"
        elif chance < 0.04:
            del greenlets[n]
            outcomes[n] = "dropped"
        elif (got := greenlets[n].switch()) == "finished":
            outcomes[n] = got
            del greenlets[n]
        else:
            assert got == n
    assert len(outcomes) == 200
    assert set(outcomes.values()) == {"killed", "dropped", "finished"}
    # Those killed or dropped before they began had nothing to clean up.
    assert len(cleaned) == len(set(cleaned))
    assert {n for n, outcome in outcomes.items() if outcome == "finished"} <= set(cleaned)


def test_chain_of_direct_switches() -> None:
    """Each greenlet switches to a random other one, never through a scheduler."""
    order = random.Random(11)
    hops = 0

    def body(n: int) -> None:
        nonlocal hops
        local = [n] * 5
        while hops < 20_000:
            hops += 1
            greenlets[order.randrange(len(greenlets))].switch(n)
            assert local == [n] * 5
        main.switch("over")

    main = getcurrent()
    greenlets = [greenlet(body) for _ in range(100)]
    assert greenlets[0].switch(0) == "over"
    assert hops == 20_000
    # Every one has been started by some other, and is parked now.
    assert all(greenlets)


def test_many_created_and_finished() -> None:
    def body(n: int) -> int:
        return n + 1

    total = 0
    for _ in range(20_000):
        total = greenlet(body).switch(total)
    assert total == 20_000


def test_many_parked_at_once() -> None:
    def body(n: int) -> int:
        return getcurrent().parent.switch(n) + n

    greenlets = [greenlet(body) for _ in range(5_000)]
    assert [g.switch(n) for n, g in enumerate(greenlets)] == list(range(5_000))
    gc.collect()
    order = list(range(5_000))
    random.Random(3).shuffle(order)
    for n in order:
        assert greenlets[n].switch(1) == n + 1
    assert all(g.dead for g in greenlets)

"""Generators that run inside greenlets, and greenlets used as generators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet
from greenlet_support import park


class GreenletIterator(greenlet):
    """An iterator fed by a plain function that calls `emit`, at any depth."""

    def __init__(self, function: Callable[..., None], *args: Any) -> None:
        # Not a `run` method: its `self` would keep an abandoned iterator alive from within.
        super().__init__(partial(function, *args))

    def __iter__(self) -> GreenletIterator:
        return self

    def __next__(self) -> Any:
        self.parent = getcurrent()
        got = self.switch()
        if self.dead:
            raise StopIteration
        return got


def emit(value: Any) -> None:
    """Hand `value` to whoever iterates over the nearest enclosing GreenletIterator."""
    g = getcurrent()
    while not isinstance(g, GreenletIterator):
        g = g.parent
    consumer = g.parent
    del g
    consumer.switch(value)


def test_simple_sequence() -> None:
    def count(n: int) -> None:
        for i in range(n):
            emit(i)

    assert list(GreenletIterator(count, 5)) == [0, 1, 2, 3, 4]
    assert list(GreenletIterator(count, 0)) == []


def test_recursive_function() -> None:
    def walk(tree: Any) -> None:
        if isinstance(tree, list):
            for branch in tree:
                walk(branch)
        else:
            emit(tree)

    assert list(GreenletIterator(walk, [1, [2, [3, [4]], 5], [[[6]]]])) == [1, 2, 3, 4, 5, 6]


def test_iterator_over_iterators() -> None:
    def count(n: int) -> None:
        for i in range(n):
            emit(i)

    def doubled(n: int) -> None:
        for value in GreenletIterator(count, n):
            emit(value * 2)

    def summed(n: int) -> None:
        total = 0
        for value in GreenletIterator(doubled, n):
            total += value
            emit(total)

    assert list(GreenletIterator(summed, 6)) == [0, 2, 6, 12, 20, 30]


def test_permutations() -> None:
    def permute(items: list[int], chosen: list[int]) -> None:
        if not items:
            emit(tuple(chosen))
        for i, item in enumerate(items):
            permute(items[:i] + items[i + 1 :], [*chosen, item])

    got = list(GreenletIterator(permute, list(range(5)), []))
    assert got == list(permutations(range(5)))


def test_recursive_nested_iterators() -> None:
    def permute(items: list[int]) -> None:
        if not items:
            emit([])
        for i, item in enumerate(items):
            for rest in GreenletIterator(permute, items[:i] + items[i + 1 :]):
                emit([item, *rest])

    got = [tuple(p) for p in GreenletIterator(permute, list(range(4)))]
    assert got == list(permutations(range(4)))


def test_exception_reaches_the_consumer() -> None:
    def broken() -> None:
        emit(1)
        raise OSError("source broke")

    it = GreenletIterator(broken)
    assert next(it) == 1
    with pytest.raises(OSError, match="source broke"):
        next(it)


def test_abandoned_iterator_is_cleaned_up() -> None:
    log = []

    def endless() -> None:
        try:
            while True:
                emit(1)
        except GreenletExit:
            log.append("exit")
            raise

    for _ in GreenletIterator(endless):
        break
    assert log == ["exit"]


def test_switch_out_of_a_running_generator() -> None:
    def gen(n: int) -> Iterator[int]:
        for i in range(n):
            park(("inside", i))
            yield i

    def body() -> list[int]:
        return list(gen(3))

    g = greenlet(body)
    assert [g.switch() for _ in range(4)] == [
        ("inside", 0),
        ("inside", 1),
        ("inside", 2),
        [0, 1, 2],
    ]


def test_running_generator_cannot_be_entered_from_another_greenlet() -> None:
    def gen() -> Iterator[int]:
        park()
        yield 1

    it = gen()
    g = greenlet(lambda: next(it))
    g.switch()
    assert it.gi_running  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="already executing"):
        next(it)
    assert g.switch() == 1
    with pytest.raises(StopIteration):
        next(it)


def test_generator_shared_by_greenlets_in_turn() -> None:
    numbers = iter(range(1000))
    squares = (n * n for n in numbers)

    def take(count: int) -> list[int]:
        got = []
        for _ in range(count):
            got.append(next(squares))
            park()
        return got

    greenlets = [greenlet(take) for _ in range(4)]
    for g in greenlets:
        g.switch(5)
    results: list[Any] = []
    for _ in range(5):
        results = [g.switch() for g in greenlets]
    assert results == [[(i + 4 * k) ** 2 for k in range(5)] for i in range(4)]


def test_generator_started_in_one_greenlet_and_finished_in_another() -> None:
    def gen() -> Iterator[greenlet]:
        yield getcurrent()
        yield getcurrent()

    it = gen()
    a, b = greenlet(lambda: next(it)), greenlet(lambda: next(it))
    assert a.switch() is a
    assert b.switch() is b


def test_delegating_generators() -> None:
    def leaf(n: int) -> Iterator[Any]:
        got = park(("leaf", n))
        yield got

    def chain(depth: int) -> Iterator[Any]:
        if depth:
            yield from chain(depth - 1)
        yield from leaf(depth)

    g = greenlet(lambda: list(chain(10)))
    assert g.switch() == ("leaf", 0)
    for n in range(1, 11):
        assert g.switch(n - 1) == ("leaf", n)
    assert g.switch(10) == list(range(11))


def test_interleaved_generators_with_exceptions() -> None:
    def gen(n: int) -> Iterator[int]:
        for i in range(n):
            try:
                park()
                if i % 3 == 2:
                    raise ValueError(i)
            except ValueError as exc:
                yield -exc.args[0]
            else:
                yield i

    def body(n: int) -> list[int]:
        return list(gen(n))

    greenlets = [greenlet(body) for _ in range(5)]
    results: list[Any] = [g.switch(6) for g in greenlets]
    for _ in range(6):
        results = [g.switch() for g in greenlets]
    assert results == [[0, 1, -2, 3, 4, -5]] * 5


def test_generator_closed_while_its_greenlet_is_parked_elsewhere() -> None:
    log = []

    def gen() -> Iterator[int]:
        try:
            yield 1
        finally:
            log.append("closed")

    def body() -> str:
        it = gen()
        next(it)
        box.append(it)
        park()
        return next(it, "exhausted")  # type: ignore[call-overload]

    box: list[Any] = []
    g = greenlet(body)
    g.switch()
    box[0].close()
    assert log == ["closed"]
    assert g.switch() == "exhausted"


def test_generator_that_creates_greenlets() -> None:
    def gen() -> Iterator[Any]:
        for i in range(5):
            yield greenlet(lambda value: value * 10).switch(i)

    assert list(gen()) == [0, 10, 20, 30, 40]


def test_coroutines_driven_by_hand() -> None:
    class Step:
        def __await__(self) -> Any:
            got = park("inside await")
            return got
            yield

    async def coroutine() -> list[Any]:
        return [await Step(), await Step()]

    def drive() -> Any:
        coro = coroutine()
        try:
            coro.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError

    g = greenlet(drive)
    assert g.switch() == "inside await"
    assert g.switch(1) == "inside await"
    assert g.switch(2) == [1, 2]


def test_async_generators_driven_by_hand() -> None:
    async def numbers() -> Any:
        for i in range(3):
            park()
            yield i

    async def collect() -> list[int]:
        return [i async for i in numbers()]

    def drive() -> Any:
        try:
            collect().send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError

    g = greenlet(drive)
    for _ in range(3):
        g.switch()
    assert g.switch() == [0, 1, 2]


def test_blocking_style_call_in_a_coroutine() -> None:
    """The pattern by which synchronous libraries are run on asyncio: await outside, call inside."""

    def await_only(awaitable: Any) -> Any:
        return getcurrent().parent.switch(awaitable)

    async def spawn(function: Callable[..., Any], *args: Any) -> Any:
        g = greenlet(function)
        result = g.switch(*args)
        while not g.dead:
            try:
                value = await result
            except Exception as exc:
                result = g.throw(exc)
            else:
                result = g.switch(value)
        return result

    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        if n < 0:
            raise ValueError(n)
        return n * 2

    def synchronous(n: int) -> list[int]:
        try:
            await_only(fetch(-1))
        except ValueError as exc:
            n += exc.args[0]
        return [await_only(fetch(i)) for i in range(n)]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(spawn(synchronous, n) for n in range(1, 6)))

    assert asyncio.run(main()) == [[i * 2 for i in range(n)] for n in range(5)]

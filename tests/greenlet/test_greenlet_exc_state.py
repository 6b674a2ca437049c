"""The exception being handled belongs to the greenlet: sys.exc_info() and bare `raise`."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from greenlet import greenlet
from greenlet_support import park


def handled() -> BaseException | None:
    return sys.exc_info()[1]


def test_new_greenlet_handles_nothing() -> None:
    try:
        raise ValueError("in the parent")
    except ValueError as exc:
        assert greenlet(handled).switch() is None
        assert handled() is exc


def test_parent_does_not_see_the_child_s() -> None:
    def body() -> None:
        try:
            raise KeyError("in the child")
        except KeyError:
            park()

    g = greenlet(body)
    g.switch()
    assert handled() is None
    with pytest.raises(RuntimeError, match="No active exception"):
        raise
    g.switch()
    assert handled() is None


def test_each_greenlet_keeps_its_own() -> None:
    def body(n: int) -> list[Any]:
        seen = []
        try:
            raise ValueError(n)
        except ValueError:
            for _ in range(5):
                seen.append(handled().args[0])  # type: ignore[union-attr]
                park()
        seen.append(handled())
        return seen

    greenlets = [greenlet(body) for _ in range(10)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    results: list[Any] = []
    for _ in range(5):
        results = [g.switch() for g in greenlets]
    assert results == [[n] * 5 + [None] for n in range(10)]


def test_handler_entered_and_left_while_another_is_parked_in_one() -> None:
    def body() -> BaseException | None:
        try:
            raise KeyError("child")
        except KeyError:
            park()
            return handled()

    g = greenlet(body)
    try:
        raise ValueError("first in the parent")
    except ValueError:
        g.switch()
    try:
        raise OSError("second in the parent")
    except OSError as exc:
        kept = g.switch()
        assert handled() is exc
    assert isinstance(kept, KeyError)
    assert handled() is None


def test_nested_handlers() -> None:
    def body() -> list[str]:
        seen = []

        def note() -> None:
            park()
            exc = handled()
            seen.append(type(exc).__name__)

        try:
            raise ValueError
        except ValueError:
            note()
            try:
                raise KeyError
            except KeyError:
                note()
            note()
        note()
        return seen

    greenlets = [greenlet(body) for _ in range(3)]
    for g in greenlets:
        g.switch()
    results: list[Any] = []
    for _ in range(4):
        results = [g.switch() for g in greenlets]
    assert results == [["ValueError", "KeyError", "ValueError", "NoneType"]] * 3


def test_finally_block_keeps_the_exception_in_flight() -> None:
    def body(n: int) -> None:
        try:
            raise ValueError(n)
        finally:
            park()

    greenlets = [greenlet(body) for _ in range(5)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    assert handled() is None
    for n, g in reversed(list(enumerate(greenlets))):
        with pytest.raises(ValueError) as caught:
            g.switch()
        assert caught.value.args == (n,)


def test_bare_raise_after_parking() -> None:
    def body() -> None:
        try:
            raise ValueError("again")
        except ValueError:
            try:
                park()
            except KeyError:
                pass
            raise

    g = greenlet(body)
    g.switch()
    try:
        raise OSError("unrelated")
    except OSError:
        with pytest.raises(ValueError, match="again"):
            g.throw(KeyError)


def test_exception_caught_in_parent_is_the_parent_s() -> None:
    def body() -> None:
        raise ValueError("child")

    def observer() -> BaseException | None:
        return handled()

    try:
        greenlet(body).switch()
    except ValueError as exc:
        assert handled() is exc
        assert greenlet(observer).switch() is None
        assert handled() is exc
    assert handled() is None


def test_generators_inside_handlers() -> None:
    def gen() -> Any:
        try:
            raise KeyError("in the generator")
        except KeyError:
            yield handled()
            park()
            yield handled()

    def body() -> list[Any]:
        try:
            raise ValueError("in the greenlet")
        except ValueError:
            it = gen()
            seen = [next(it), handled(), next(it), handled()]
        return [*seen, handled()]

    g = greenlet(body)
    try:
        raise OSError("in the parent")
    except OSError:
        g.switch()
    seen = g.switch()
    assert [type(e) for e in seen] == [KeyError, ValueError, KeyError, ValueError, type(None)]


def test_nested_greenlets_in_handlers() -> None:
    def nest(n: int) -> list[Any]:
        try:
            raise ValueError(n)
        except ValueError as exc:
            below = greenlet(nest).switch(n - 1) if n else []
            return [*below, handled() is exc]

    assert nest(30) == [True] * 31


def test_exception_released_when_the_handler_ends() -> None:
    class Marker(Exception):
        alive = 0

        def __init__(self) -> None:
            Marker.alive += 1

        def __del__(self) -> None:
            Marker.alive -= 1

    def body() -> None:
        for _ in range(10):
            try:
                raise Marker
            except Marker:
                park()

    greenlets = [greenlet(body) for _ in range(10)]
    for g in greenlets:
        g.switch()
    assert Marker.alive == 10
    for _ in range(10):
        for g in greenlets:
            g.switch()
    assert Marker.alive == 0

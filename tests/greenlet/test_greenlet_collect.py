"""Greenlets that are dropped: while parked, before they start, in cycles, with finalizers."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet
from greenlet_support import park


class Token:
    """Something whose end of life can be watched."""


@pytest.fixture
def unraisable() -> Iterator[list[Any]]:
    """What was reported through sys.unraisablehook: (exception type, text, object's type)."""
    reports: list[Any] = []
    previous = sys.unraisablehook
    sys.unraisablehook = lambda u: reports.append((u.exc_type, str(u.exc_value), type(u.object)))
    yield reports
    sys.unraisablehook = previous


def test_exit_is_thrown_into_a_dropped_greenlet(unraisable: list[Any]) -> None:
    log = []

    def body() -> None:
        try:
            park()
        except GreenletExit as exc:
            log.append(type(exc))
            raise

    g = greenlet(body)
    g.switch()
    assert log == []
    del g
    assert log == [GreenletExit]
    assert unraisable == []


def test_finally_and_with_blocks_run(unraisable: list[Any]) -> None:
    log = []

    class Manager:
        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: Any, *rest: Any) -> None:
            log.append(kind)

    def body() -> None:
        try:
            with Manager():
                park()
        finally:
            log.append("finally")

    g = greenlet(body)
    g.switch()
    del g
    assert log == [GreenletExit, "finally"]
    assert unraisable == []


def test_execution_returns_to_where_the_reference_was_dropped() -> None:
    log = []

    def body() -> str:
        try:
            park()
        finally:
            log.append("in the dying greenlet")
        return "value that goes nowhere"

    def dropper() -> str:
        box.clear()
        log.append("back in the dropper")
        return "dropper done"

    box = [greenlet(body)]
    box[0].switch()
    assert greenlet(dropper).switch() == "dropper done"
    assert log == ["in the dying greenlet", "back in the dropper"]


def test_parent_while_dying_is_the_dropper() -> None:
    seen = []

    def body() -> None:
        try:
            main.switch()
        finally:
            seen.append(getcurrent().parent)

    main = getcurrent()
    box = [greenlet(body)]
    box[0].switch()
    dropper = greenlet(box.clear)
    dropper.switch()
    assert seen == [dropper]


def test_exit_answered_with_a_value(unraisable: list[Any]) -> None:
    def body() -> str:
        try:
            park()
        except GreenletExit:
            return "a value nobody wants"
        return "resumed"

    g = greenlet(body)
    g.switch()
    ref = weakref.ref(g)
    del g
    assert ref() is None
    assert unraisable == []


def test_exception_while_dying_is_reported(unraisable: list[Any]) -> None:
    def body() -> None:
        try:
            park()
        finally:
            raise ValueError("cleanup failed")

    g = greenlet(body)
    g.switch()
    del g
    assert unraisable == [(ValueError, "cleanup failed", greenlet)]
    assert sys.exc_info() == (None, None, None)


def test_exception_in_flight_survives_a_collection(unraisable: list[Any]) -> None:
    def body() -> None:
        try:
            park()
        except GreenletExit:
            pass

    def holder() -> None:
        g = greenlet(body)
        g.switch()
        raise ValueError("kept")

    with pytest.raises(ValueError, match="kept") as caught:
        holder()
    # The traceback holds the frame that holds the greenlet; letting go of it ends the greenlet.
    caught.value.__traceback__ = None
    assert unraisable == []


def test_dropped_inside_an_except_block() -> None:
    seen = []

    def body() -> None:
        try:
            park()
        except GreenletExit:
            seen.append(sys.exc_info()[0])
            raise

    g = greenlet(body)
    g.switch()
    try:
        raise KeyError("being handled")
    except KeyError as exc:
        del g
        assert sys.exc_info()[1] is exc
    assert seen == [GreenletExit]


def test_resurrection(unraisable: list[Any]) -> None:
    saved = []

    def body() -> str:
        try:
            park()
        except GreenletExit:
            saved.append(getcurrent())
            return "end: " + main.switch()
        return "not reached"

    main = getcurrent()
    g = greenlet(body)
    g.switch()
    ident = id(g)
    del g
    assert [id(g) for g in saved] == [ident]
    assert not saved[0].dead
    assert bool(saved[0])
    assert saved[0].switch("hello") == "end: hello"
    assert saved[0].dead
    ref = weakref.ref(saved.pop())
    assert ref() is None
    assert unraisable == []


def test_unstarted_greenlet_is_just_freed(unraisable: list[Any]) -> None:
    ran: list[Any] = []
    token = Token()
    ref = weakref.ref(token)
    g = greenlet(lambda token=token: ran.append(token))
    del token
    assert ref() is not None
    del g
    assert ref() is None
    assert ran == []
    assert unraisable == []


def test_locals_of_a_dropped_greenlet_are_freed() -> None:
    def body(token: Token) -> None:
        other = token  # noqa: F841
        park()

    token = Token()
    ref = weakref.ref(token)
    g = greenlet(body)
    g.switch(token)
    del token
    assert ref() is not None
    del g
    assert ref() is None


def test_locals_deep_in_a_dropped_greenlet_are_freed() -> None:
    tokens = []

    def body(n: int) -> None:
        token = Token()
        tokens.append(weakref.ref(token))
        if n:
            body(n - 1)
        else:
            park()

    g = greenlet(body)
    g.switch(50)
    assert all(ref() is not None for ref in tokens)
    del g
    assert len(tokens) == 51
    assert all(ref() is None for ref in tokens)


def test_finished_greenlet_keeps_nothing() -> None:
    def body(token: Token) -> None:
        park()

    token = Token()
    ref = weakref.ref(token)
    g = greenlet(body)
    g.switch(token)
    del token
    g.switch()
    assert g.dead
    assert ref() is None


def test_run_is_released_at_the_start() -> None:
    class Run:
        def __call__(self) -> None:
            pass

    run = Run()
    ref = weakref.ref(run)
    g = greenlet(run)
    del run
    assert ref() is not None
    g.switch()
    assert ref() is None


def test_cycle_through_an_attribute() -> None:
    g = greenlet(lambda: None)
    g.me = g
    ref = weakref.ref(g)
    del g
    assert ref() is not None
    gc.collect()
    assert ref() is None


def test_cycle_through_run() -> None:
    def make() -> weakref.ref[greenlet]:
        g = greenlet(lambda: g)
        return weakref.ref(g)

    ref = make()
    gc.collect()
    assert ref() is None


def test_cycle_through_parent_attribute() -> None:
    parent = greenlet(lambda: None)
    child = greenlet(lambda: None, parent)
    parent.child = child
    refs = [weakref.ref(parent), weakref.ref(child)]
    del parent, child
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_cycle_with_a_finished_greenlet() -> None:
    g = greenlet(lambda: None)
    g.switch()
    g.me = g
    ref = weakref.ref(g)
    del g
    gc.collect()
    assert ref() is None


def test_subclass_in_a_cycle() -> None:
    class Sub(greenlet):
        pass

    g = Sub(lambda: None)
    g.me = g
    ref = weakref.ref(g)
    del g
    gc.collect()
    assert ref() is None


def test_collector_run_inside_greenlets() -> None:
    def body(n: int) -> int:
        for _ in range(3):
            cycle: list[Any] = [Token()]
            cycle.append(cycle)
            refs.append(weakref.ref(cycle[0]))
            del cycle
            park()
            gc.collect()
        return n

    refs: list[weakref.ref[Token]] = []
    greenlets = [greenlet(body) for _ in range(10)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    results: list[Any] = []
    for _ in range(3):
        results = [g.switch() for g in greenlets]
    assert results == list(range(10))
    assert len(refs) == 30
    assert all(ref() is None for ref in refs)


def test_objects_of_parked_greenlets_are_not_collected() -> None:
    def body(n: int) -> list[int]:
        cycle: list[Any] = [n]
        cycle.append(cycle)
        park()
        return [cycle[0], cycle[1][0]]

    greenlets = [greenlet(body) for _ in range(50)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    for _ in range(3):
        gc.collect()
    assert [g.switch() for g in greenlets] == [[n, n] for n in range(50)]


def test_subclass_with_del() -> None:
    log = []

    class Sub(greenlet):
        def __del__(self) -> None:
            log.append(self.dead)

    g = Sub(lambda: None)
    g.switch()
    del g
    assert log == [True]


def test_last_reference_dropped_by_the_greenlet_itself() -> None:
    """A running greenlet lives at least until it has finished."""

    def body() -> list[bool]:
        box.clear()
        return [getcurrent().dead, ref() is not None]

    box = [greenlet(body)]
    ref = weakref.ref(box[0])
    assert box[0].switch() == [False, True]
    assert ref() is None


def test_dropped_by_its_child() -> None:
    def parent_body() -> Any:
        child = greenlet(box.clear)
        child.switch()
        return "parent done"

    box = [greenlet(parent_body)]
    ref = weakref.ref(box[0])
    assert box[0].switch() == "parent done"
    assert ref() is None


def test_many_dropped_while_parked() -> None:
    log = []

    def body(n: int) -> None:
        try:
            park()
        finally:
            log.append(n)

    greenlets = [greenlet(body) for _ in range(500)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    del g
    greenlets.clear()
    assert sorted(log) == list(range(500))


def test_dying_greenlet_may_use_other_greenlets() -> None:
    log = []

    def body() -> None:
        try:
            park()
        finally:
            log.append(greenlet(lambda: "helper").switch())

    g = greenlet(body)
    g.switch()
    del g
    assert log == ["helper"]


def test_dying_greenlet_drops_another_parked_one() -> None:
    log = []

    def body(n: int, held: list[greenlet]) -> None:
        try:
            main.switch()
        finally:
            log.append(n)
            held.clear()

    main = getcurrent()
    chain: list[greenlet] = []
    for n in range(11):
        g = greenlet(body)
        g.switch(n, chain)
        chain = [g]
    del g
    assert log == []
    chain.clear()
    assert log == list(range(10, -1, -1))


def test_parent_is_restored_after_a_resurrection() -> None:
    main = getcurrent()
    parent = greenlet(lambda: None)
    seen: list[Any] = []

    def body() -> None:
        try:
            main.switch()
        except GreenletExit:
            seen.append(getcurrent())
            seen.append(getcurrent().parent)
            parent.switch()

    g = greenlet(body, parent)
    g.switch()
    del g
    assert seen[1] is main
    assert seen[0].parent is parent
    assert parent.dead
    seen[0].switch()
    seen.clear()


def test_greenlet_that_does_not_end(capfd: pytest.CaptureFixture[str]) -> None:
    """It is asked once, and reported."""
    main = getcurrent()
    asked: list[int] = []

    def body() -> None:
        while True:
            try:
                main.switch()
            except GreenletExit:
                asked.append(1)

    g = greenlet(body)
    g.switch()
    del g
    assert asked == [1]
    assert capfd.readouterr().err.startswith("GreenletExit did not kill <greenlet.greenlet object")

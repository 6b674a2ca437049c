"""settrace and gettrace: a function told of every switch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import greenlet as module
import pytest
from greenlet import GreenletExit, getcurrent, gettrace, greenlet, settrace
from greenlet_support import park


@pytest.fixture(autouse=True)
def no_trace_left() -> Iterator[None]:
    assert gettrace() is None
    yield
    settrace(None)


class Recorder:
    """Collects (event, origin, target), with greenlets shown by the names given to them."""

    def __init__(self) -> None:
        self.names: dict[greenlet, str] = {getcurrent(): "main"}
        self.events: list[tuple[str, str, str]] = []

    def __call__(self, event: str, args: Any) -> None:
        origin, target = args
        self.events.append((event, self.names[origin], self.names[target]))

    def name(self, name: str, g: greenlet) -> greenlet:
        self.names[g] = name
        return g


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_settrace_returns_the_previous_one() -> None:
    def first(event: str, args: Any) -> None:
        pass

    def second(event: str, args: Any) -> None:
        pass

    assert settrace(first) is None
    assert gettrace() is first
    assert settrace(second) is first
    assert gettrace() is second
    assert settrace(None) is second
    assert gettrace() is None


def test_names_on_the_class() -> None:
    assert greenlet.gettrace() is None
    assert greenlet.settrace(None) is None
    assert "settrace" in module.__all__
    assert "gettrace" in module.__all__


def test_number_of_arguments() -> None:
    with pytest.raises(TypeError):
        settrace()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        settrace(None, None)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        gettrace(None)  # type: ignore[call-arg]


def test_switch_events(recorder: Recorder) -> None:
    g = recorder.name("g", greenlet(park))
    settrace(recorder)
    g.switch()
    g.switch()
    settrace(None)
    assert recorder.events == [
        ("switch", "main", "g"),
        ("switch", "g", "main"),
        ("switch", "main", "g"),
        ("switch", "g", "main"),
    ]


def test_throw_events(recorder: Recorder) -> None:
    def body() -> None:
        try:
            park()
        except LookupError:
            park()

    g = recorder.name("g", greenlet(body))
    g.switch()
    settrace(recorder)
    g.throw(LookupError)
    settrace(None)
    assert recorder.events == [("throw", "main", "g"), ("switch", "g", "main")]


def test_uncaught_exception_is_a_throw_into_the_parent(recorder: Recorder) -> None:
    g = recorder.name("g", greenlet(lambda: 1 // 0))
    settrace(recorder)
    with pytest.raises(ZeroDivisionError):
        g.switch()
    settrace(None)
    assert recorder.events == [("switch", "main", "g"), ("throw", "g", "main")]


def test_exit_is_a_switch_to_the_parent(recorder: Recorder) -> None:
    g = recorder.name("g", greenlet(park))
    g.switch()
    settrace(recorder)
    assert isinstance(g.throw(GreenletExit), GreenletExit)
    settrace(None)
    assert recorder.events == [("throw", "main", "g"), ("switch", "g", "main")]


def test_throw_into_unstarted(recorder: Recorder) -> None:
    g = recorder.name("g", greenlet(lambda: None))
    settrace(recorder)
    with pytest.raises(LookupError):
        g.throw(LookupError)
    settrace(None)
    assert recorder.events == [("throw", "main", "g"), ("throw", "g", "main")]


def test_current_greenlet_as_target(recorder: Recorder) -> None:
    main = getcurrent()
    settrace(recorder)
    main.switch()
    with pytest.raises(LookupError):
        main.throw(LookupError)
    settrace(None)
    assert recorder.events == [("switch", "main", "main"), ("throw", "main", "main")]


def test_dead_greenlet_stands_for_its_parent(recorder: Recorder) -> None:
    g = recorder.name("g", greenlet(lambda: None))
    g.switch()
    settrace(recorder)
    assert g.switch(1) == 1
    settrace(None)
    assert recorder.events == [("switch", "main", "main")]


def test_siblings(recorder: Recorder) -> None:
    a = recorder.name("a", greenlet(lambda: b.switch()))
    b = recorder.name("b", greenlet(lambda: a.switch()))
    settrace(recorder)
    a.switch()
    settrace(None)
    assert recorder.events == [
        ("switch", "main", "a"),
        ("switch", "a", "b"),
        ("switch", "b", "a"),
        ("switch", "a", "main"),
    ]


def test_called_in_the_target() -> None:
    seen = []
    settrace(lambda event, args: seen.append(args[1] is getcurrent()))
    g = greenlet(park)
    g.switch()
    g.switch()
    settrace(None)
    assert seen == [True] * 4


def test_failing_trace_function_is_removed_and_its_error_raised_in_the_target() -> None:
    def fail(event: str, args: Any) -> None:
        raise RuntimeError("trace failed")

    ran: list[Any] = []
    settrace(fail)
    g = greenlet(lambda: ran.append(1))
    with pytest.raises(RuntimeError, match="trace failed"):
        g.switch()
    assert gettrace() is None
    assert g.dead
    assert ran == []


def test_failure_on_the_way_back() -> None:
    main = getcurrent()

    def fail(event: str, args: Any) -> None:
        if args[1] is main:
            raise RuntimeError("trace failed")

    ran = []
    settrace(fail)
    g = greenlet(lambda: ran.append(1))
    with pytest.raises(RuntimeError, match="trace failed"):
        g.switch()
    assert gettrace() is None
    assert ran == [1]


def test_failure_replaces_what_was_thrown() -> None:
    def fail(event: str, args: Any) -> None:
        raise RuntimeError("trace failed")

    def body() -> BaseException | None:
        try:
            park()
        except BaseException as exc:
            return exc
        return None

    g = greenlet(body)
    g.switch()
    settrace(fail)
    caught = g.throw(LookupError)
    assert isinstance(caught, RuntimeError)


def test_something_not_callable_fails_at_the_next_switch() -> None:
    settrace(1)
    with pytest.raises(TypeError):
        greenlet(lambda: None).switch()
    assert gettrace() is None


def test_set_inside_a_greenlet_holds_for_the_thread(recorder: Recorder) -> None:
    g = recorder.name("g", greenlet(lambda: settrace(recorder)))
    g.switch()
    assert gettrace() is recorder
    settrace(None)
    assert recorder.events == [("switch", "g", "main")]


def test_per_thread() -> None:
    settrace(lambda event, args: None)
    found: list[Any] = []

    def body() -> None:
        found.append(gettrace())
        settrace(print)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [None]
    assert gettrace() is not print


def test_arguments_pass_through_unchanged() -> None:
    settrace(lambda event, args: None)
    g = greenlet(lambda *args, **kwargs: (args, kwargs, park(1)))
    assert g.switch(1, 2, a=3) == 1
    assert g.switch("in") == ((1, 2), {"a": 3}, "in")


def test_trace_function_is_not_kept() -> None:
    def trace(event: str, args: Any) -> None:
        pass

    before = sys.getrefcount(trace)
    for _ in range(20):
        settrace(trace)
        greenlet(lambda: None).switch()
        settrace(None)
    assert sys.getrefcount(trace) == before

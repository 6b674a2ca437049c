"""Trace and profile functions, and the events of sys.monitoring, in programs of greenlets.

A trace or profile function is set for a thread, not for a greenlet: a switch neither takes it away
nor brings another. What is checked here holds for the greenlet package as well.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet


def switching(log: list[object]) -> None:
    """Comes and goes, is thrown into, and ends."""
    log.append(to_parent("first"))
    try:
        to_parent("second")
    except KeyError:
        log.append("caught")


def killed() -> None:
    try:
        to_parent("alive")
    finally:
        cleanup()


def cleanup() -> None:
    pass


def to_parent(value: object) -> object:
    return getcurrent().parent.switch(value)


def drive() -> None:
    log: list[object] = []
    one, two = greenlet(switching), greenlet(killed)
    assert one.switch(log) == "first"
    assert two.switch() == "alive"
    assert one.switch("back") == "second"
    assert isinstance(two.throw(), GreenletExit)
    assert one.throw(KeyError) is None
    assert log == ["back", "caught"]


TRACED = {drive, switching, killed, cleanup, to_parent}
CODES = {function.__code__: function.__name__ for function in TRACED}

# Calls and returns of the functions above, in the order in which they happen in `drive`.
CALLS_AND_RETURNS = [
    ("call", "drive"),
    ("call", "switching"),
    ("call", "to_parent"),
    ("call", "killed"),
    ("call", "to_parent"),
    ("return", "to_parent"),
    ("call", "to_parent"),
    ("return", "to_parent"),
    ("call", "cleanup"),
    ("return", "cleanup"),
    ("return", "killed"),
    ("return", "to_parent"),
    ("return", "switching"),
    ("return", "drive"),
]

Recorder = Callable[[FrameType, str, Any], Any]


class Events:
    """A trace or profile function that notes what happens in the functions above."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.lines: set[tuple[str, int]] = set()

    def __call__(self, frame: FrameType, event: str, arg: object) -> Recorder | None:
        name = CODES.get(frame.f_code)
        if name is None:
            return None
        if event == "line":
            self.lines.add((name, frame.f_lineno - frame.f_code.co_firstlineno))
        else:
            self.seen.append((event, name))
        return self

    def kinds(self, *kinds: str) -> list[tuple[str, str]]:
        return [(event, name) for event, name in self.seen if event in kinds]


@pytest.fixture
def events() -> Iterator[Events]:
    before = sys.gettrace(), sys.getprofile()
    yield Events()
    sys.settrace(before[0])
    sys.setprofile(before[1])


def test_settrace_sees_all_greenlets(events: Events) -> None:
    sys.settrace(events)
    drive()
    sys.settrace(None)
    assert events.kinds("call", "return") == CALLS_AND_RETURNS
    assert events.kinds("exception") == [
        ("exception", "to_parent"),
        ("exception", "killed"),
        ("exception", "to_parent"),
        ("exception", "switching"),
    ]
    # Every line of the bodies was run.
    lines = {"switching": {2, 3, 4, 5, 6}, "killed": {1, 2, 4}, "drive": set(range(1, 9))}
    for function, expected in lines.items():
        assert {line for name, line in events.lines if name == function} == expected


def test_setprofile_sees_all_greenlets(events: Events) -> None:
    sys.setprofile(events)
    drive()
    sys.setprofile(None)
    assert events.kinds("call", "return") == CALLS_AND_RETURNS
    # Switches are calls of C functions: as many return or raise as are made.
    calls = events.kinds("c_call")
    ends = events.kinds("c_return", "c_exception")
    assert sorted(name for _, name in calls) == sorted(name for _, name in ends)


@pytest.mark.parametrize("setter", [sys.settrace, sys.setprofile])
def test_set_in_a_greenlet_it_stays_for_the_thread(
    events: Events, setter: Callable[[Any], None]
) -> None:
    getter = {sys.settrace: sys.gettrace, sys.setprofile: sys.getprofile}[setter]

    def body() -> None:
        setter(events)
        getcurrent().parent.switch()
        assert getter() is None
        setter(events)

    def called_by_another() -> None:
        assert getter() is events
        cleanup()

    g = greenlet(body)
    g.switch()
    assert getter() is events
    cleanup()
    greenlet(called_by_another).switch()
    setter(None)
    cleanup()
    g.switch()
    assert getter() is events
    cleanup()
    setter(None)
    assert events.kinds("call") == [("call", "cleanup")] * 3


@pytest.mark.parametrize("setter", [threading.settrace, threading.setprofile])
def test_functions_for_new_threads_see_their_greenlets(
    events: Events, setter: Callable[[Any], None]
) -> None:
    setter(events)
    try:
        thread = threading.Thread(target=drive)
        thread.start()
        thread.join()
    finally:
        setter(None)  # type: ignore[arg-type]
    assert events.kinds("call", "return") == CALLS_AND_RETURNS


def test_a_trace_function_may_switch(events: Events) -> None:
    """Whoever it switches to runs untraced meanwhile: the function is running."""

    def tracer(frame: FrameType, event: str, arg: object) -> Recorder | None:
        if frame.f_code is cleanup.__code__ and event == "call":
            other.switch()
        return None

    def elsewhere() -> None:
        while True:
            calls.append(sys.gettrace())
            drive()
            getcurrent().parent.switch()

    calls: list[object] = []
    other = greenlet(elsewhere)
    sys.settrace(tracer)
    cleanup()
    cleanup()
    sys.settrace(None)
    assert calls == [tracer, tracer]


def test_what_a_trace_function_raises_is_raised_in_the_greenlet(events: Events) -> None:
    def tracer(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code is cleanup.__code__:
            raise ZeroDivisionError

    def body() -> str:
        sys.settrace(tracer)
        try:
            cleanup()
        except ZeroDivisionError:
            return "caught"
        return "not raised"

    assert greenlet(body).switch() == "caught"
    # It ends tracing, as without greenlets.
    assert sys.gettrace() is None


if sys.version_info >= (3, 12):
    monitoring = sys.monitoring
    TOOL = 4

    @pytest.fixture
    def monitored() -> Iterator[list[tuple[str, str]]]:
        """The events of the functions above, while it is there."""
        seen: list[tuple[str, str]] = []
        kinds = ("PY_START", "PY_RETURN", "PY_UNWIND", "RAISE", "PY_THROW")
        monitoring.use_tool_id(TOOL, "tests")
        for kind in kinds:
            monitoring.register_callback(TOOL, getattr(monitoring.events, kind), noting(kind, seen))
        monitoring.set_events(TOOL, sum(getattr(monitoring.events, kind) for kind in kinds))
        yield seen
        monitoring.set_events(TOOL, 0)
        for kind in kinds:
            monitoring.register_callback(TOOL, getattr(monitoring.events, kind), None)
        monitoring.free_tool_id(TOOL)

    def noting(kind: str, seen: list[tuple[str, str]]) -> Callable[..., None]:
        def callback(code: CodeType, *_: object) -> None:
            if code in CODES:
                seen.append((kind, CODES[code]))

        return callback

    def test_monitoring_sees_all_greenlets(monitored: list[tuple[str, str]]) -> None:
        drive()
        monitoring.set_events(TOOL, 0)
        assert monitored == [
            ("PY_START", "drive"),
            ("PY_START", "switching"),
            ("PY_START", "to_parent"),
            ("PY_START", "killed"),
            ("PY_START", "to_parent"),
            ("PY_RETURN", "to_parent"),
            ("PY_START", "to_parent"),
            ("RAISE", "to_parent"),
            ("PY_UNWIND", "to_parent"),
            ("RAISE", "killed"),
            ("PY_START", "cleanup"),
            ("PY_RETURN", "cleanup"),
            ("PY_UNWIND", "killed"),
            ("RAISE", "to_parent"),
            ("PY_UNWIND", "to_parent"),
            ("RAISE", "switching"),
            ("PY_RETURN", "switching"),
            ("PY_RETURN", "drive"),
        ]

    def test_monitoring_of_one_function_in_many_greenlets(
        monitored: list[tuple[str, str]],
    ) -> None:
        """Instrumented and set back while greenlets are inside the function."""
        monitoring.set_events(TOOL, 0)
        events = monitoring.events.PY_START | monitoring.events.PY_RETURN
        greenlets = [greenlet(to_parent) for _ in range(200)]
        for n, g in enumerate(greenlets[:100]):
            assert g.switch(n) == n
        monitoring.set_local_events(TOOL, to_parent.__code__, events)
        for n, g in enumerate(greenlets):
            assert g.switch(n) == n
        monitoring.set_local_events(TOOL, to_parent.__code__, 0)
        for n, g in enumerate(greenlets[100:]):
            assert g.switch(n) == n
        expected = [("PY_RETURN", "to_parent")] * 100 + [("PY_START", "to_parent")] * 100
        assert monitored == expected
        assert all(g.dead for g in greenlets)

    def test_a_monitoring_callback_may_switch() -> None:
        log = []

        def body() -> None:
            while True:
                log.append("elsewhere")
                getcurrent().parent.switch()

        def callback(code: CodeType, offset: int) -> None:
            other.switch()

        other = greenlet(body)
        monitoring.use_tool_id(TOOL, "tests")
        try:
            monitoring.register_callback(TOOL, monitoring.events.PY_START, callback)
            monitoring.set_local_events(TOOL, cleanup.__code__, monitoring.events.PY_START)
            cleanup()
            cleanup()
        finally:
            monitoring.set_local_events(TOOL, cleanup.__code__, 0)
            monitoring.register_callback(TOOL, monitoring.events.PY_START, None)
            monitoring.free_tool_id(TOOL)
        assert log == ["elsewhere"] * 2

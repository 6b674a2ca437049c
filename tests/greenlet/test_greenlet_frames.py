"""Frames and stacks as seen from outside and inside a greenlet."""

from __future__ import annotations

import io
import linecache
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from greenlet import getcurrent, greenlet


def park(value: Any = None) -> Any:
    return getcurrent().parent.switch(value)


def chain(frame: FrameType | None) -> list[str]:
    """Function names from `frame` outwards."""
    found = []
    while frame is not None:
        found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found


def descend(n: int) -> Any:
    if n:
        return descend(n - 1)
    return park()


def line_of(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def test_running_greenlet_s_stack_begins_at_run() -> None:
    def body() -> list[str]:
        return helper()

    def helper() -> list[str]:
        return chain(sys._getframe())

    assert greenlet(body).switch() == ["helper", "body"]


def test_parked_greenlet_s_stack() -> None:
    g = greenlet(descend)
    g.switch(4)
    assert chain(g.gr_frame) == ["park", *["descend"] * 5]
    g.switch()
    assert g.gr_frame is None


def test_line_numbers_of_a_parked_greenlet() -> None:
    def body() -> None:
        park("one")
        park("two")

    g = greenlet(body)
    for value in ("one", "two"):
        assert g.switch() == value
        assert line_of(g.gr_frame.f_back) == f'park("{value}")'


def test_frame_object_is_the_same_on_every_look() -> None:
    g = greenlet(descend)
    g.switch(2)
    assert g.gr_frame is g.gr_frame
    assert g.gr_frame.f_back is g.gr_frame.f_back


def test_same_frame_object_inside_and_outside() -> None:
    def body() -> bool:
        own = sys._getframe()
        return park(own) is own

    g = greenlet(body)
    own = g.switch()
    assert g.gr_frame.f_back is own
    assert g.switch(own) is True


def test_locals_of_a_parked_greenlet() -> None:
    def body() -> int:
        x = 1
        park()
        x = 2
        park()
        return x

    g = greenlet(body)
    g.switch()
    frame = g.gr_frame.f_back
    assert frame.f_locals == {"x": 1}
    g.switch()
    assert g.gr_frame.f_back is frame
    assert frame.f_locals == {"x": 2}
    assert g.switch() == 2
    assert frame.f_locals == {"x": 2}


def test_frame_outlives_its_greenlet() -> None:
    g = greenlet(descend)
    g.switch(2)
    frame = g.gr_frame
    g.switch()
    del g
    assert frame.f_code is park.__code__
    assert line_of(frame) == "return getcurrent().parent.switch(value)"


def test_frame_of_a_parked_greenlet_cannot_be_cleared() -> None:
    g = greenlet(descend)
    g.switch(0)
    with pytest.raises(RuntimeError):
        g.gr_frame.clear()
    with pytest.raises(RuntimeError):
        g.gr_frame.f_back.clear()
    assert g.switch("unharmed") == "unharmed"


def test_print_stack_of_a_parked_greenlet() -> None:
    g = greenlet(descend)
    g.switch(2)
    out = io.StringIO()
    traceback.print_stack(g.gr_frame, file=out)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines.count("return descend(n - 1)") == 2
    assert lines[-1] == "return getcurrent().parent.switch(value)"


def test_inspection_does_not_disturb() -> None:
    greenlets = [greenlet(descend) for _ in range(30)]
    for depth, g in enumerate(greenlets):
        g.switch(depth)
    frames = []
    for _ in range(3):
        for depth, g in enumerate(greenlets):
            assert chain(g.gr_frame) == ["park", *["descend"] * (depth + 1)]
            frames.append(traceback.extract_stack(g.gr_frame))
    for depth, g in enumerate(greenlets):
        assert g.switch(depth) == depth


def test_frames_held_while_greenlets_run_on() -> None:
    """Frame objects taken while parked stay right when the stack beneath them has moved on."""

    def body(n: int) -> list[int]:
        seen = []
        for i in range(10):
            local = n * 100 + i
            park()
            seen.append(local)
        return seen

    greenlets = [greenlet(body) for _ in range(100)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    held = [g.gr_frame.f_back for g in greenlets]
    results: list[Any] = []
    for i in range(10):
        for n, frame in enumerate(held):
            assert frame.f_locals["local"] == n * 100 + i
            assert frame.f_back is None
        results = [g.switch() for g in greenlets]
    assert results == [[n * 100 + i for i in range(10)] for n in range(100)]


def test_generator_frame_while_its_greenlet_is_parked() -> None:
    def gen() -> Iterator[int]:
        park()
        yield 1

    def body() -> int:
        return next(it)

    it: Any = gen()
    g = greenlet(body)
    g.switch()
    assert it.gi_running
    assert it.gi_frame.f_code is gen.__code__
    assert chain(it.gi_frame) == ["gen", "body"]
    assert chain(g.gr_frame) == ["park", "gen", "body"]
    assert g.switch() == 1
    assert not it.gi_running
    assert chain(it.gi_frame) == ["gen"]


def test_generator_frames_while_many_greenlets_are_parked() -> None:
    def gen(n: int) -> Iterator[int]:
        park()
        yield n

    def outer_gen(n: int) -> Iterator[int]:
        generators.append(inner := gen(n))
        yield from inner

    def body(n: int) -> int:
        return next(outer_gen(n))

    generators: list[Any] = []
    greenlets = [greenlet(body) for _ in range(100)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    for it in generators:
        assert chain(it.gi_frame) == ["gen", "outer_gen", "body"]
    held = [it.gi_frame.f_back for it in generators]
    for n, g in enumerate(greenlets):
        assert g.switch() == n
    assert [f.f_code.co_name for f in held] == ["outer_gen"] * 100


def test_stack_of_the_parent_while_the_child_runs() -> None:
    main = getcurrent()

    def body() -> list[str]:
        return chain(main.gr_frame)

    names = greenlet(body).switch()
    assert names[0] == "test_stack_of_the_parent_while_the_child_runs"
    assert len(names) > 1


def test_nested_parents_are_each_inspectable() -> None:
    def level(n: int) -> list[list[str]]:
        if n:
            return greenlet(level).switch(n - 1)
        g, found = getcurrent().parent, []
        while g.parent is not None:
            found.append(chain(g.gr_frame))
            g = g.parent
        return found

    assert greenlet(level).switch(3) == [["level"]] * 3


def test_current_frames_shows_the_running_greenlet() -> None:
    def body() -> list[str]:
        return chain(sys._current_frames()[threading.get_ident()])

    assert greenlet(body).switch() == ["body"]
    own = chain(sys._current_frames()[threading.get_ident()])
    assert own[0] == "test_current_frames_shows_the_running_greenlet"


def test_current_frames_from_another_thread() -> None:
    ident = threading.get_ident()
    found: list[list[str]] = []

    def look() -> None:
        found.append(chain(sys._current_frames()[ident]))

    def body() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    greenlet(body).switch()
    assert found[0][-1] == "body"


def test_tracebacks_of_caught_exceptions_in_parked_greenlets() -> None:
    def body() -> Any:
        try:
            descend_and_fail(3)
        except ValueError as exc:
            park()
            return exc

    def descend_and_fail(n: int) -> None:
        if n == 0:
            raise ValueError
        park()
        descend_and_fail(n - 1)

    greenlets = [greenlet(body) for _ in range(50)]
    results: list[Any] = [g.switch() for g in greenlets]
    for _ in range(4):
        results = [g.switch() for g in greenlets]
    for exc in results:
        entries = traceback.extract_tb(exc.__traceback__)
        assert [e.name for e in entries] == ["body", *["descend_and_fail"] * 4]
        assert entries[-1].line == "raise ValueError"


def test_settrace_function_is_called_inside() -> None:
    """sys.settrace is per thread: a debugger follows the program into its greenlets."""
    calls: list[str] = []

    def tracer(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "call" and frame.f_code.co_filename == __file__:
            calls.append(frame.f_code.co_name)
        return None

    def first() -> None:
        park()
        second()

    def second() -> None:
        pass

    g = greenlet(first)
    previous = sys.gettrace()
    sys.settrace(tracer)
    try:
        g.switch()
        g.switch()
    finally:
        sys.settrace(previous)
    assert calls == ["first", "park", "second"]


def test_setprofile_function_is_called_inside() -> None:
    calls: list[str] = []

    def profiler(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename == __file__:
            calls.append(frame.f_code.co_name)

    def first() -> None:
        park()
        second()

    def second() -> None:
        pass

    g = greenlet(first)
    previous = sys.getprofile()
    sys.setprofile(profiler)
    try:
        g.switch()
        g.switch()
    finally:
        sys.setprofile(previous)
    assert calls == ["first", "park", "second"]

"""C++ exceptions in greenlets: each greenlet unwinds, handles and rethrows its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from scripts import RunScript

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
beyond_greenlet = pytest.mark.skipif(
    PEER, reason="the greenlet package leaves all of a thread's C++ handlers on one stack"
)


@pytest.fixture(autouse=True)
def nothing_left_over(throwing: ModuleType) -> Iterator[None]:
    """Every C++ object that was made is destroyed, exceptions included."""
    assert throwing.count_alive() == 0
    assert throwing.state() == (0, False)
    yield
    assert throwing.count_alive() == 0
    assert throwing.state() == (0, False)


def run_interleaved(greenlets: list[greenlet]) -> list[list[Any]]:
    """Switch to each in turn until all have ended; what each gave, its result last."""
    given: list[list[Any]] = [[g.switch(index * 100)] for index, g in enumerate(greenlets)]
    while any(greenlets):
        for g, results in zip(greenlets, given, strict=True):
            if g:
                results.append(g.switch())
    return given


def test_switch_between_try_and_throw(throwing: ModuleType) -> None:
    for count in (1, 2, 5):
        given = run_interleaved([greenlet(throwing.switch_before_throw) for _ in range(count)])
        # Four nested levels pause; then each on the way out adds one.
        assert given == [[n + 3, n + 2, n + 1, n, n + 4] for n in range(0, count * 100, 100)]


def test_switch_between_try_and_throw_with_stacks_moved(throwing: ModuleType) -> None:
    count = 150
    given = run_interleaved([greenlet(throwing.switch_before_throw) for _ in range(count)])
    assert [results[-1] for results in given] == [index * 100 + 4 for index in range(count)]


def test_switch_in_a_handler(throwing: ModuleType) -> None:
    (given,) = run_interleaved([greenlet(throwing.switch_in_catch)])
    assert given == [0, 0, 0, 0]


@beyond_greenlet
@pytest.mark.parametrize("count", [2, 5, 150])
def test_switch_in_handlers_interleaved(throwing: ModuleType, count: int) -> None:
    given = run_interleaved([greenlet(throwing.switch_in_catch) for _ in range(count)])
    assert given == [[n, n, 2 * n, 3 * n] for n in range(0, count * 100, 100)]


@beyond_greenlet
def test_handlers_end_in_another_order_than_they_began(throwing: ModuleType) -> None:
    first, second = greenlet(throwing.switch_in_catch), greenlet(throwing.switch_in_catch)
    first.switch(1)
    second.switch(2)
    assert [first.switch(), first.switch(), first.switch()] == [1, 2, 3]
    assert [second.switch(), second.switch(), second.switch()] == [2, 4, 6]


@beyond_greenlet
def test_others_see_nothing_of_a_handler(throwing: ModuleType) -> None:
    g = greenlet(throwing.switch_in_catch)
    g.switch(1)
    assert throwing.state() == (0, False)
    assert greenlet(throwing.state).switch() == (0, False)
    while g:
        g.switch()


@beyond_greenlet
def test_greenlet_made_in_a_handler_begins_without(throwing: ModuleType) -> None:
    seen: list[Any] = []

    def nested() -> str:
        seen.append(throwing.state())
        seen.append(greenlet(throwing.state).switch())
        seen.append(throwing.state())
        return "done"

    assert throwing.call_in_catch(nested) == ("done", "handled around a call")
    assert seen == [(0, True), (0, False), (0, True)]


def test_switch_while_unwinding(throwing: ModuleType) -> None:
    (given,) = run_interleaved([greenlet(throwing.switch_while_unwinding)])
    assert given == [0, (0, 1, 1)]


@beyond_greenlet
def test_switch_while_unwinding_interleaved(throwing: ModuleType) -> None:
    greenlets = [greenlet(throwing.switch_while_unwinding) for _ in range(5)]
    for index, g in enumerate(greenlets):
        g.switch(index)
        assert throwing.state() == (0, False)
    assert [g.switch() for g in reversed(greenlets)] == [(n, 1, 1) for n in (4, 3, 2, 1, 0)]


def test_handler_around_greenlets_with_handlers(throwing: ModuleType) -> None:
    def nested(level: int) -> Callable[[], Any]:
        def run() -> Any:
            if level == 0:
                (given,) = run_interleaved([greenlet(throwing.switch_in_catch)])
                return given
            return greenlet(throwing.call_in_catch).switch(nested(level - 1))

        return run

    result = throwing.call_in_catch(nested(3))
    for _ in range(4):
        result, text = result
        assert text == "handled around a call"
    assert result == [0, 0, 0, 0]


def test_exception_that_a_greenlet_is_left_with_stays_its_own(throwing: ModuleType) -> None:
    """One ends while another is in a handler: nothing of that is carried over."""

    def run() -> Any:
        return throwing.call_in_catch(lambda: getcurrent().parent.switch("parked"))

    parked = [greenlet(run) for _ in range(3)]
    assert [g.switch() for g in parked] == ["parked"] * 3
    assert throwing.call_in_catch(lambda: 1) == (1, "handled around a call")
    for g in parked:
        assert g.switch("on") == ("on", "handled around a call")


def test_python_exceptions_cross_frames_as_cpp_exceptions(throwing: ModuleType) -> None:
    def fail() -> None:
        raise LookupError("through C++")

    def nested(level: int) -> Any:
        run = fail if level == 0 else lambda: nested(level - 1)
        return throwing.run_in_greenlet(run)

    for _ in range(10):
        with pytest.raises(LookupError, match="through C\\+\\+"):
            nested(5)


def test_cpp_exception_ends_at_its_module_function(throwing: ModuleType) -> None:
    g = greenlet(throwing.raise_std)
    with pytest.raises(RuntimeError, match="left the greenlet"):
        g.switch()
    assert g.dead


def test_throw_into_cpp_frames(throwing: ModuleType) -> None:
    g = greenlet(throwing.wait_forever)
    assert [g.switch() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="thrown in"):
        g.throw(KeyError("thrown in"))
    assert g.dead
    assert throwing.count_alive() == 0


def test_collected_greenlet_destroys_its_cpp_objects(throwing: ModuleType) -> None:
    greenlets = [greenlet(throwing.wait_forever) for _ in range(100)]
    for g in greenlets:
        g.switch()
    assert throwing.count_alive() >= 100
    del g
    greenlets.clear()
    assert throwing.count_alive() == 0


def test_kill_in_a_handler(throwing: ModuleType) -> None:
    g = greenlet(throwing.switch_in_catch)
    g.switch(1)
    assert isinstance(g.throw(), GreenletExit)
    assert g.dead


@pytest.mark.parametrize("handled", [False, True])
def test_exception_that_nobody_catches(
    build: Callable[[str], Path], run_script: RunScript, handled: bool
) -> None:
    """It cannot leave its greenlet: std::terminate, as where it leaves a thread."""
    script = """
        import sys
        from importlib.machinery import ExtensionFileLoader
        from importlib.util import module_from_spec, spec_from_loader

        from greenlet import greenlet

        loader = ExtensionFileLoader("throwing", sys.argv[1])
        throwing = module_from_spec(spec_from_loader("throwing", loader))
        loader.exec_module(throwing)
        inner = greenlet(throwing.raise_uncaught).switch
        print("before", flush=True)
        # A handler in the greenlet that switched does not see it.
        result = throwing.call_in_catch(inner) if sys.argv[2] == "True" else inner()
        print("after", result, flush=True)
    """
    result = run_script(script, str(build("throwing.cpp")), str(handled), signalled=signal.SIGABRT)
    assert result.returncode == -signal.SIGABRT
    assert result.stdout == "before\n"
    assert "left the greenlet" in result.stderr

"""Exceptions leaving a greenlet, GreenletExit, tracebacks across switches."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest
from greenlet import GreenletExit, error, getcurrent, greenlet


class Custom(Exception):
    pass


def names(exc: BaseException) -> list[str]:
    """Function names in the traceback of `exc`, outermost first."""
    return [entry.name for entry in traceback.extract_tb(exc.__traceback__)]


def inner() -> None:
    raise Custom("raised inside")


def outer() -> None:
    inner()


def test_hierarchy() -> None:
    # An `except Exception` in the greenlet must not swallow the request to exit.
    assert issubclass(GreenletExit, BaseException)
    assert not issubclass(GreenletExit, Exception)
    assert issubclass(error, Exception)
    assert greenlet.GreenletExit is GreenletExit
    assert greenlet.error is error


def test_exception_reaches_the_parent() -> None:
    g = greenlet(outer)
    with pytest.raises(Custom, match="raised inside"):
        g.switch()
    assert g.dead
    assert not g


def test_same_exception_object_arrives() -> None:
    exc = Custom("one object")

    def body() -> None:
        raise exc

    with pytest.raises(Custom) as caught:
        greenlet(body).switch()
    assert caught.value is exc


def test_exception_after_being_parked() -> None:
    def body() -> None:
        getcurrent().parent.switch("parked")
        inner()

    g = greenlet(body)
    assert g.switch() == "parked"
    with pytest.raises(Custom):
        g.switch()
    assert g.dead


def test_exception_goes_to_the_parent_not_the_switcher() -> None:
    log = []

    def parent_body() -> str:
        try:
            getcurrent().parent.switch()
        except Custom as exc:
            log.append(names(exc))
        return "parent handled it"

    def switcher() -> str:
        child.switch()
        return "unreachable: the child never comes back here"

    parent = greenlet(parent_body)
    parent.switch()
    child = greenlet(outer, parent)
    other = greenlet(switcher)
    assert other.switch() == "parent handled it"
    assert log == [["parent_body", "outer", "inner"]]
    assert not other.dead


def test_exception_through_several_generations() -> None:
    def nest(n: int) -> None:
        if n:
            greenlet(nest).switch(n - 1)
        else:
            inner()

    with pytest.raises(Custom) as caught:
        greenlet(nest).switch(5)
    assert names(caught.value)[-7:] == ["nest"] * 6 + ["inner"]


def test_parent_carries_on_after_handling() -> None:
    results = []
    for i in range(5):
        try:
            results.append(greenlet(lambda i=i: 10 // (i - 2)).switch())
        except ZeroDivisionError:
            results.append(None)
    assert results == [-5, -10, None, 10, 5]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit])
def test_special_exceptions_propagate_like_any_other(kind: type[BaseException]) -> None:
    def body() -> None:
        raise kind("special")

    g = greenlet(body)
    with pytest.raises(kind) as caught:
        g.switch()
    assert caught.value.args == ("special",)
    assert g.dead


def test_exit_is_returned_as_a_value() -> None:
    exc = GreenletExit("a", "b")

    def body() -> None:
        raise exc

    g = greenlet(body)
    assert g.switch() is exc
    assert g.dead


def test_exit_class_raised_without_instance() -> None:
    def body() -> None:
        raise GreenletExit

    value = greenlet(body).switch()
    assert type(value) is GreenletExit
    assert value.args == ()


def test_exit_subclass_is_returned_too() -> None:
    class Leave(GreenletExit):
        pass

    def body() -> None:
        raise Leave(3)

    value = greenlet(body).switch()
    assert type(value) is Leave
    assert value.args == (3,)


def test_exit_runs_finally_blocks() -> None:
    log = []

    def body() -> None:
        try:
            try:
                raise GreenletExit
            except Exception:
                log.append("wrong: not an Exception")
        finally:
            log.append("finally")

    greenlet(body).switch()
    assert log == ["finally"]


def test_exit_caught_and_replaced() -> None:
    def body() -> str:
        try:
            getcurrent().parent.switch()
        except GreenletExit:
            return "own answer"
        return "resumed"

    g = greenlet(body)
    g.switch()
    assert g.throw() == "own answer"


def test_traceback_joins_both_sides() -> None:
    def switcher() -> None:
        greenlet(outer).switch()

    with pytest.raises(Custom) as caught:
        switcher()
    assert names(caught.value)[-3:] == ["switcher", "outer", "inner"]


def test_traceback_of_a_parked_greenlet() -> None:
    def body() -> None:
        park()
        inner()

    def park() -> None:
        getcurrent().parent.switch()

    g = greenlet(body)
    g.switch()
    with pytest.raises(Custom) as caught:
        g.switch()
    # `park` had returned by then, so it has no entry.
    assert names(caught.value)[-2:] == ["body", "inner"]


def test_traceback_frames_stay_usable() -> None:
    def body() -> None:
        local = "kept"  # noqa: F841
        inner()

    with pytest.raises(Custom) as caught:
        greenlet(body).switch()
    frames = [f for f, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert frames[-2].f_locals["local"] == "kept"
    assert frames[-1].f_back is frames[-2]
    assert frames[-2].f_back is None


def test_chained_exceptions() -> None:
    def body() -> None:
        try:
            inner()
        except Custom as exc:
            raise ValueError("second") from exc

    with pytest.raises(ValueError, match="second") as caught:
        greenlet(body).switch()
    assert isinstance(caught.value.__cause__, Custom)
    assert isinstance(caught.value.__context__, Custom)


def test_context_is_set_where_both_happen_in_one_greenlet() -> None:
    def body() -> None:
        try:
            inner()
        except Custom:
            getcurrent().parent.switch()
            raise ValueError("second")  # noqa: B904

    g = greenlet(body)
    try:
        raise OSError("in the parent, while the child runs")
    except OSError:
        g.switch()
    with pytest.raises(ValueError, match="second") as caught:
        g.switch()
    assert isinstance(caught.value.__context__, Custom)
    assert caught.value.__context__.__context__ is None


def test_exception_group_passes_unharmed() -> None:
    def body() -> None:
        raise ExceptionGroup("several", [Custom(1), ValueError(2)])

    with pytest.raises(ExceptionGroup) as caught:
        greenlet(body).switch()
    assert [type(e) for e in caught.value.exceptions] == [Custom, ValueError]


def test_with_block_around_a_switch() -> None:
    log: list[Any] = []

    class Manager:
        def __enter__(self) -> None:
            log.append("enter")

        def __exit__(self, kind: Any, *rest: Any) -> bool:
            log.append(kind)
            return True

    def body() -> str:
        with Manager():
            getcurrent().parent.switch()
        return "after"

    g = greenlet(body)
    g.switch()
    assert log == ["enter"]
    assert g.throw(Custom("x")) == "after"
    assert log == ["enter", Custom]


def test_exception_from_another_greenlet_stored_and_raised_again() -> None:
    stored: list[Custom] = []

    def failing() -> None:
        try:
            inner()
        except Custom as exc:
            stored.append(exc)

    def raising() -> None:
        raise stored[0]

    greenlet(failing).switch()
    with pytest.raises(Custom) as caught:
        greenlet(raising).switch()
    assert names(caught.value)[-3:] == ["raising", "failing", "inner"]


def test_no_exception_is_left_behind() -> None:
    def body() -> None:
        try:
            inner()
        except Custom:
            getcurrent().parent.switch()

    g = greenlet(body)
    g.switch()
    assert sys.exc_info() == (None, None, None)
    g.switch()
    assert sys.exc_info() == (None, None, None)

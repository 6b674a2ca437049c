"""`throw` in every form, into greenlets in every state."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet


class Custom(Exception):
    pass


def make_traceback() -> TracebackType:
    def traceback_source() -> None:
        raise LookupError

    try:
        traceback_source()
    except LookupError as exc:
        assert exc.__traceback__ is not None
        return exc.__traceback__
    raise AssertionError


def names(exc: BaseException) -> list[str]:
    return [entry.name for entry in traceback.extract_tb(exc.__traceback__)]


def catch() -> BaseException | str:
    """Park; answer with the exception thrown in."""
    try:
        getcurrent().parent.switch()
    except BaseException as exc:
        return exc
    return "nothing thrown"


def parked(run: Any = catch) -> greenlet:
    g = greenlet(run)
    g.switch()
    return g


def test_no_arguments_means_exit() -> None:
    caught = parked().throw()
    assert type(caught) is GreenletExit
    assert caught.args == ()


def test_type_only() -> None:
    caught = parked().throw(Custom)
    assert type(caught) is Custom
    assert caught.args == ()


def test_instance_only() -> None:
    exc = Custom("given")
    assert parked().throw(exc) is exc


@pytest.mark.parametrize(
    ("value", "args"),
    [
        ("text", ("text",)),
        (5, (5,)),
        ((), ()),
        ((1, 2), (1, 2)),
        (None, ()),
        ([1], ([1],)),
    ],
)
def test_type_and_value(value: Any, args: tuple[Any, ...]) -> None:
    caught = parked().throw(Custom, value)
    assert type(caught) is Custom
    assert caught.args == args


def test_type_and_instance_of_it() -> None:
    exc = Custom("given")
    assert parked().throw(Custom, exc) is exc


def test_type_and_instance_of_a_subclass() -> None:
    exc = Custom("given")
    assert parked().throw(Exception, exc) is exc


def test_instance_with_explicit_nones() -> None:
    exc = Custom("given")
    assert parked().throw(exc, None, None) is exc


def test_traceback_argument() -> None:
    caught = parked().throw(Custom, "v", make_traceback())
    assert isinstance(caught, Custom)
    assert names(caught) == ["catch", "make_traceback", "traceback_source"]


def test_traceback_argument_with_instance() -> None:
    exc = Custom("v")
    assert parked().throw(exc, None, make_traceback()) is exc
    assert names(exc) == ["catch", "make_traceback", "traceback_source"]


def test_traceback_none() -> None:
    caught = parked().throw(Custom, "v", None)
    assert isinstance(caught, Custom)
    assert names(caught) == ["catch"]


@pytest.mark.parametrize("thrown", [5, "Custom", None, int, object(), [Custom], (Custom,)])
def test_only_exceptions_can_be_thrown(thrown: Any) -> None:
    g = parked()
    with pytest.raises(TypeError, match="exceptions must be classes, or instances"):
        g.throw(thrown)
    assert not g.dead
    assert g.switch() == "nothing thrown"


def test_instance_with_a_separate_value() -> None:
    g = parked()
    with pytest.raises(TypeError, match="separate value"):
        g.throw(Custom("x"), "value")
    assert g.switch() == "nothing thrown"


@pytest.mark.parametrize("tb", [5, "tb", object(), Custom("x")])
def test_third_argument_must_be_a_traceback(tb: Any) -> None:
    g = parked()
    with pytest.raises(TypeError, match="traceback object"):
        g.throw(Custom, "value", tb)
    assert g.switch() == "nothing thrown"


def test_number_of_arguments() -> None:
    g = parked()
    with pytest.raises(TypeError):
        g.throw(Custom, "value", None, None)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        g.throw(typ=Custom)  # type: ignore[call-arg]
    assert g.switch() == "nothing thrown"


def test_bad_arguments_leave_an_unstarted_greenlet_usable() -> None:
    g = greenlet(lambda: "ran")
    with pytest.raises(TypeError):
        g.throw(5)  # type: ignore[arg-type]
    assert g.switch() == "ran"


def test_constructor_that_raises() -> None:
    class Stubborn(Exception):
        def __init__(self) -> None:
            raise OSError("constructor")

    caught = parked().throw(Stubborn)
    assert isinstance(caught, OSError)


def test_constructor_with_wrong_arguments() -> None:
    class NoArguments(Exception):
        def __init__(self) -> None:
            super().__init__()

    caught = parked().throw(NoArguments, 3)
    assert isinstance(caught, TypeError)


def test_uncaught_in_the_target_reaches_its_parent() -> None:
    def body() -> None:
        deeper()

    def deeper() -> None:
        getcurrent().parent.switch()

    g = parked(body)
    with pytest.raises(Custom) as caught:
        g.throw(Custom("through"))
    assert names(caught.value)[-2:] == ["body", "deeper"]
    assert g.dead


def test_target_handles_it_and_goes_on() -> None:
    def body() -> str:
        log = []
        for _ in range(3):
            try:
                getcurrent().parent.switch("again")
            except Custom as exc:
                log.append(exc.args[0])
        return "".join(log)

    g = greenlet(body)
    assert g.switch() == "again"
    assert g.throw(Custom("a")) == "again"
    assert g.throw(Custom, "b") == "again"
    assert g.throw(Custom("c")) == "abc"


def test_exit_uncaught_is_returned() -> None:
    g = parked(lambda: getcurrent().parent.switch())
    value = g.throw(GreenletExit, "v")
    assert type(value) is GreenletExit
    assert value.args == ("v",)
    assert g.dead


def test_exit_runs_finally() -> None:
    log = []

    def body() -> None:
        try:
            getcurrent().parent.switch()
        finally:
            log.append("cleaned up")

    parked(body).throw()
    assert log == ["cleaned up"]


def test_switching_in_finally_while_exiting() -> None:
    def body() -> None:
        try:
            getcurrent().parent.switch("parked")
        finally:
            getcurrent().parent.switch("cleaning up")

    g = greenlet(body)
    assert g.switch() == "parked"
    assert g.throw() == "cleaning up"
    assert not g.dead
    assert isinstance(g.switch(), GreenletExit)
    assert g.dead


def test_into_unstarted_never_runs_it() -> None:
    ran: list[Any] = []
    g = greenlet(lambda: ran.append(1))
    with pytest.raises(Custom):
        g.throw(Custom)
    assert g.dead
    assert ran == []
    assert g.switch("late") == "late"


def test_exit_into_unstarted() -> None:
    ran: list[Any] = []
    g = greenlet(lambda: ran.append(1))
    assert isinstance(g.throw(), GreenletExit)
    assert g.dead
    assert ran == []


def test_into_unstarted_goes_to_its_parent() -> None:
    parent = parked()
    exc = Custom("for the parent")
    assert greenlet(lambda: None, parent).throw(exc) is exc


def test_into_finished() -> None:
    g = greenlet(lambda: None)
    g.switch()
    with pytest.raises(Custom):
        g.throw(Custom)
    value = g.throw()
    assert isinstance(value, GreenletExit)
    value = g.throw(GreenletExit, "v")
    assert value.args == ("v",)
    assert g.dead


def test_into_current() -> None:
    def body() -> str:
        with pytest.raises(Custom, match="self"):
            getcurrent().throw(Custom("self"))
        with pytest.raises(GreenletExit):
            getcurrent().throw()
        return "still here"

    assert greenlet(body).switch() == "still here"


def test_exit_into_current_uncaught() -> None:
    def body() -> None:
        getcurrent().throw(GreenletExit("self"))

    g = greenlet(body)
    value = g.switch()
    assert isinstance(value, GreenletExit)
    assert value.args == ("self",)
    assert g.dead


def test_into_main_from_main() -> None:
    main = getcurrent()
    with pytest.raises(Custom):
        main.throw(Custom)
    with pytest.raises(GreenletExit):
        main.throw()


def test_into_main_from_a_greenlet() -> None:
    main = getcurrent()

    def body() -> str:
        main.throw(Custom("to main"))
        return "resumed"

    g = greenlet(body)
    with pytest.raises(Custom, match="to main"):
        g.switch()
    assert not g.dead
    assert g.switch() == "resumed"


def test_into_the_parent() -> None:
    def body() -> str:
        return getcurrent().parent.throw(Custom, "upwards") or "resumed"

    g = greenlet(body)
    with pytest.raises(Custom, match="upwards"):
        g.switch()
    assert g.switch() == "resumed"


def test_between_siblings() -> None:
    target = parked()
    exc = Custom("sibling")
    thrower = greenlet(lambda: target.throw(exc))
    assert thrower.switch() is exc
    # The target's parent is main, so the thrower was left parked.
    assert not thrower.dead
    assert thrower.switch("done") == "done"


def test_while_the_target_handles_another_exception() -> None:
    def body() -> BaseException:
        try:
            raise LookupError("first")
        except LookupError:
            try:
                getcurrent().parent.switch()
            except Custom as exc:
                return exc
        raise AssertionError

    exc = Custom("second")
    assert parked(body).throw(exc) is exc


def test_one_instance_into_many_greenlets() -> None:
    exc = Custom("shared")
    targets = [parked() for _ in range(20)]
    assert all(g.throw(exc) is exc for g in targets)
    assert all(g.dead for g in targets)


def test_into_a_generator_running_inside() -> None:
    log = []

    def gen() -> Any:
        try:
            getcurrent().parent.switch()
            yield "not reached"
        except Custom:
            log.append("generator saw it")
            yield "from generator"

    g = parked(lambda: next(gen()))
    assert g.throw(Custom) == "from generator"
    assert log == ["generator saw it"]


def test_into_one_without_run() -> None:
    """It is looked up as for a switch: what lacks it cannot be started, not even to be killed."""
    g = greenlet()
    with pytest.raises(AttributeError, match="run"):
        g.throw(ValueError)
    assert not g.dead
    g.run = print
    assert isinstance(g.throw(), GreenletExit)
    assert g.dead


def test_run_is_looked_up() -> None:
    class Sub(greenlet):
        @property
        def run(self) -> Any:
            raise LookupError("no run")

    g = Sub()
    with pytest.raises(LookupError, match="no run"):
        g.throw(ValueError)
    assert not g.dead

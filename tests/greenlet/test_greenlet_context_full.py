"""The `gr_context` attribute: reading, replacing and clearing a greenlet's context."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from greenlet_support import in_thread, isolated, park

var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default="default")


def test_none_before_the_start() -> None:
    assert greenlet(park).gr_context is None


@isolated
def test_current_greenlet_s_context() -> None:
    var.set("main")
    context = getcurrent().gr_context
    assert isinstance(context, contextvars.Context)
    assert context[var] == "main"
    assert getcurrent().gr_context is context


@isolated
def test_made_on_first_use_inside() -> None:
    def body() -> Any:
        before = getcurrent().gr_context
        var.set("inside")
        return before, getcurrent().gr_context

    before, after = greenlet(body).switch()
    assert before is None
    assert after[var] == "inside"


@isolated
def test_parked_greenlet_s_context() -> None:
    def body() -> None:
        var.set("inside")
        park()

    g = greenlet(body)
    g.switch()
    context = g.gr_context
    assert context[var] == "inside"
    assert g.gr_context is context
    g.switch()


@isolated
def test_given_before_the_start() -> None:
    var.set("main")
    context = contextvars.copy_context()

    def body() -> Any:
        seen = var.get()
        var.set("inside")
        return seen

    g = greenlet(body)
    g.gr_context = context
    assert g.gr_context is context
    assert g.switch() == "main"
    assert context[var] == "inside"
    assert var.get() == "main"


@isolated
def test_given_while_parked() -> None:
    var.set("main")

    def body() -> Any:
        var.set("inside")
        park()
        return var.get()

    g = greenlet(body)
    g.switch()
    g.gr_context = contextvars.copy_context()
    assert g.switch() == "main"


@isolated
def test_cleared_while_parked() -> None:
    def body() -> Any:
        var.set("inside")
        park()
        return var.get()

    g = greenlet(body)
    g.switch()
    g.gr_context = None
    assert g.gr_context is None
    assert g.switch() == "default"


@isolated
def test_context_shared_by_two_greenlets() -> None:
    context = contextvars.Context()

    def body(value: Any) -> Any:
        var.set(value)
        park()
        return var.get()

    a, b = greenlet(body), greenlet(body)
    a.gr_context = b.gr_context = context
    a.switch("a")
    b.switch("b")
    assert a.switch() == "b"
    assert b.switch() == "b"


@isolated
def test_replaced_by_the_greenlet_itself() -> None:
    context = contextvars.Context()
    context.run(var.set, "prepared")

    def body() -> Any:
        var.set("own")
        getcurrent().gr_context = context
        seen = var.get()
        var.set("changed")
        return seen

    assert greenlet(body).switch() == "prepared"
    assert context[var] == "changed"


@isolated
def test_replaced_for_the_main_greenlet() -> None:
    context = contextvars.Context()
    context.run(var.set, "prepared")
    main = getcurrent()
    before = main.gr_context
    main.gr_context = context
    try:
        assert var.get() == "prepared"
        assert main.gr_context is context
        main.gr_context = None
        assert var.get() == "default"
    finally:
        main.gr_context = before


@isolated
def test_finished_greenlet_keeps_its_last_context() -> None:
    g = greenlet(lambda: var.set("inside"))
    g.switch()
    assert g.gr_context[var] == "inside"
    g.gr_context = None
    assert g.gr_context is None


@pytest.mark.parametrize("value", [5, "context", {}, contextvars.Context])
def test_only_contexts_are_accepted(value: Any) -> None:
    g = greenlet(park)
    with pytest.raises(TypeError):
        g.gr_context = value
    assert g.gr_context is None


def test_cannot_be_deleted() -> None:
    g = greenlet(park)
    with pytest.raises(AttributeError):
        del g.gr_context
    g.switch()
    with pytest.raises(AttributeError):
        del g.gr_context
    with pytest.raises(AttributeError):
        del getcurrent().gr_context
    g.switch()
    with pytest.raises(AttributeError):
        del g.gr_context


@isolated
def test_running_in_another_thread() -> None:
    main = getcurrent()
    with pytest.raises(ValueError, match="different thread"):
        in_thread(lambda: main.gr_context)
    with pytest.raises(ValueError, match="different thread"):
        in_thread(lambda: setattr(main, "gr_context", None))


@isolated
def test_parked_greenlet_may_be_given_one_by_another_thread() -> None:
    context = contextvars.Context()
    context.run(var.set, "prepared")
    g = greenlet(lambda: [park(), var.get()])
    g.switch()
    in_thread(lambda: setattr(g, "gr_context", context))
    assert in_thread(lambda: g.gr_context) is context
    assert g.switch() == [(), "prepared"]


@isolated
def test_parked_inside_context_run() -> None:
    context = contextvars.Context()
    g = greenlet(lambda: context.run(park))
    g.switch()
    assert g.gr_context is context
    g.switch()


@isolated
def test_replaced_while_inside_context_run() -> None:
    """Context.run must find its own context when it is left."""
    context = contextvars.Context()
    g = greenlet(lambda: context.run(park))
    g.switch()
    g.gr_context = contextvars.Context()
    with pytest.raises(RuntimeError, match="cannot exit context"):
        g.switch()
    assert g.dead

"""Context variables: each greenlet has a context of its own."""

from __future__ import annotations

import contextvars
import decimal
from typing import Any

import pytest
from greenlet import greenlet
from greenlet_support import isolated, park

var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default="default")


@isolated
def test_new_greenlet_starts_with_an_empty_context() -> None:
    var.set("main")
    assert greenlet(var.get).switch() == "default"
    assert var.get() == "main"


@isolated
def test_set_inside_stays_inside() -> None:
    def body() -> Any:
        var.set("inside")
        park()
        return var.get()

    var.set("main")
    g = greenlet(body)
    g.switch()
    assert var.get() == "main"
    var.set("main again")
    assert g.switch() == "inside"
    assert var.get() == "main again"


@isolated
def test_many_greenlets() -> None:
    def body(n: int) -> list[Any]:
        seen = []
        for i in range(10):
            var.set((n, i))
            park()
            seen.append(var.get())
        return seen

    greenlets = [greenlet(body) for _ in range(20)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    results: list[Any] = []
    for _ in range(10):
        results = [g.switch() for g in greenlets]
    assert results == [[(n, i) for i in range(10)] for n in range(20)]
    assert var.get() == "default"


@isolated
def test_tokens_reset_in_their_own_greenlet() -> None:
    def body() -> Any:
        token = var.set("inside")
        park(token)
        var.reset(token)
        return var.get()

    g = greenlet(body)
    token = g.switch()
    with pytest.raises(ValueError, match="different Context"):
        var.reset(token)
    assert g.switch() == "default"


@isolated
def test_running_inside_a_copied_context() -> None:
    var.set("main")
    context = contextvars.copy_context()

    def body() -> Any:
        seen = var.get()
        var.set("inside")
        park()
        return seen, var.get()

    g = greenlet(lambda: context.run(body))
    g.switch()
    assert var.get() == "main"
    with pytest.raises(RuntimeError, match="already entered"):
        context.run(lambda: None)
    assert g.switch() == ("main", "inside")
    assert context.run(var.get) == "inside"
    assert var.get() == "main"


@isolated
def test_parked_inside_context_run_in_each_greenlet() -> None:
    def body(n: int) -> Any:
        var.set(("outer", n))

        def within() -> Any:
            var.set(("inner", n))
            park()
            return var.get()

        inner = contextvars.copy_context().run(within)
        park()
        return inner, var.get()

    greenlets = [greenlet(body) for _ in range(10)]
    for n, g in enumerate(greenlets):
        g.switch(n)
    for g in greenlets:
        g.switch()
    assert [g.switch() for g in greenlets] == [(("inner", n), ("outer", n)) for n in range(10)]


@isolated
def test_main_parked_inside_context_run() -> None:
    main_context = contextvars.copy_context()

    def in_run() -> tuple[Any, Any]:
        var.set("in run")
        return greenlet(var.get).switch(), var.get()

    assert main_context.run(in_run) == ("default", "in run")


@isolated
def test_decimal_context_is_per_greenlet() -> None:
    def body(precision: int) -> Any:
        decimal.getcontext().prec = precision
        park()
        return str(decimal.Decimal(1) / 3)

    outside = decimal.getcontext().prec
    greenlets = [greenlet(body) for _ in range(5)]
    for n, g in enumerate(greenlets):
        g.switch(n + 1)
    assert decimal.getcontext().prec == outside
    assert [g.switch() for g in greenlets] == ["0." + "3" * (n + 1) for n in range(5)]


@isolated
def test_nested_greenlets_do_not_inherit() -> None:
    def outer() -> Any:
        var.set("outer")
        return greenlet(var.get).switch(), var.get()

    assert greenlet(outer).switch() == ("default", "outer")


@isolated
def test_context_is_dropped_with_its_greenlet() -> None:
    import gc
    import weakref

    class Token:
        pass

    def body() -> Any:
        token = Token()
        var.set(token)
        ref = weakref.ref(token)
        del token
        park(ref)

    g = greenlet(body)
    ref = g.switch()
    assert ref() is not None
    g.switch()
    del g
    gc.collect()
    assert ref() is None


@isolated
def test_exception_does_not_disturb_the_parent_s_context() -> None:
    def body() -> None:
        var.set("inside")
        raise ValueError

    var.set("main")
    with pytest.raises(ValueError):
        greenlet(body).switch()
    assert var.get() == "main"

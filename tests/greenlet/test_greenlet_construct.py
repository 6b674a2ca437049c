"""Making greenlets: arguments, subclasses, and the `run` attribute."""

from __future__ import annotations

import abc
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from greenlet_support import park


def test_nothing_runs_on_construction() -> None:
    ran = []
    g = greenlet(lambda: ran.append(1))
    assert ran == []
    g.switch()
    assert ran == [1]


def test_keyword_arguments() -> None:
    outer = greenlet(lambda value: ("outer", value))
    g = greenlet(run=lambda: "inner", parent=outer)
    assert g.parent is outer
    assert g.switch() == ("outer", "inner")


def test_parent_none_means_current() -> None:
    assert greenlet(lambda: None, None).parent is getcurrent()
    assert greenlet(lambda: None, parent=None).parent is getcurrent()


def test_default_parent_is_the_greenlet_that_constructs() -> None:
    def make() -> tuple[greenlet, greenlet]:
        return getcurrent(), greenlet(lambda: None)

    maker, made = greenlet(make).switch()
    assert made.parent is maker


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((print, None, None), {}),
        ((), {"foo": 1}),
        ((print,), {"run": print}),
    ],
)
def test_wrong_constructor_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        greenlet(*args, **kwargs)


@pytest.mark.parametrize("parent", [5, "main", object(), greenlet, []])
def test_parent_must_be_a_greenlet(parent: Any) -> None:
    with pytest.raises(TypeError):
        greenlet(lambda: None, parent)


def test_no_run_at_all() -> None:
    g = greenlet()
    with pytest.raises(AttributeError, match="run"):
        g.switch()
    # The failed start was not a start: a function may still be supplied.
    g.run = lambda: "late"
    assert g.switch() == "late"


def test_run_absent_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        greenlet().run  # noqa: B018


@pytest.mark.parametrize("run", [1, "text", object()])
def test_run_that_cannot_be_called(run: Any) -> None:
    g = greenlet(run)
    with pytest.raises(TypeError, match="not callable"):
        g.switch()
    assert g.dead


def test_any_callable_will_do() -> None:
    class Callable:
        def __call__(self, value: int) -> int:
            return value * 2

        def method(self, value: int) -> int:
            return value * 3

    assert greenlet(Callable()).switch(4) == 8
    assert greenlet(Callable().method).switch(4) == 12
    assert greenlet(len).switch("abc") == 3
    assert greenlet(dict).switch(a=1) == {"a": 1}


def test_run_can_be_read_and_replaced_before_the_start() -> None:
    def first() -> str:
        return "first"

    def second() -> str:
        return "second"

    g = greenlet(first)
    assert g.run is first
    g.run = second
    assert g.run is second
    assert g.switch() == "second"


def test_run_can_be_deleted_before_the_start() -> None:
    g = greenlet(lambda: None)
    del g.run
    assert not hasattr(g, "run")
    with pytest.raises(AttributeError):
        g.switch()


def test_run_is_gone_once_started() -> None:
    g = greenlet(park)
    g.switch()
    assert not hasattr(g, "run")
    g.switch()
    assert not hasattr(g, "run")


@pytest.mark.parametrize("finish", [False, True])
def test_run_cannot_be_changed_once_started(finish: bool) -> None:
    g = greenlet(park)
    g.switch()
    if finish:
        g.switch()
    with pytest.raises(AttributeError):
        g.run = lambda: None
    with pytest.raises(AttributeError):
        del g.run
    with pytest.raises(AttributeError):
        g.__init__(lambda: None)  # type: ignore[misc]


def test_main_greenlet_has_no_run() -> None:
    main = getcurrent()
    assert not hasattr(main, "run")
    with pytest.raises(AttributeError):
        main.run = print
    with pytest.raises(AttributeError):
        del main.run


def test_init_again_before_the_start_replaces_run() -> None:
    g = greenlet(lambda: "first")
    g.__init__(lambda: "second")  # type: ignore[misc]
    assert g.switch() == "second"


def test_subclass_with_run_method() -> None:
    class Sub(greenlet):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return self is getcurrent(), args, kwargs

    assert Sub().switch(1, 2, a=3) == (True, (1, 2), {"a": 3})


def test_run_method_of_the_class_hides_the_argument() -> None:
    class Sub(greenlet):
        def run(self) -> str:
            return "method"

    assert Sub(lambda: "argument").switch() == "method"


def test_instance_attribute_overrides_the_class_run() -> None:
    class Sub(greenlet):
        def run(self) -> str:
            return "method"

    g = Sub()
    g.run = lambda: "instance"  # type: ignore[method-assign]
    assert g.switch() == "instance"


def test_subclass_with_its_own_init() -> None:
    class Sub(greenlet):
        def __init__(self, value: int) -> None:
            super().__init__()
            self.value = value

        def run(self) -> int:
            return self.value

    assert Sub(7).switch() == 7


def test_subclass_that_never_calls_init() -> None:
    class Sub(greenlet):
        def __init__(self) -> None:
            pass

        def run(self) -> str:
            return "ran"

    g = Sub()
    assert g.parent is getcurrent()
    assert g.switch() == "ran"


def test_subclass_with_new() -> None:
    class Sub(greenlet):
        def __new__(cls, *args: Any) -> Sub:
            self = super().__new__(cls)
            self.seen = args
            return self

        def __init__(self, *args: Any) -> None:
            super().__init__(lambda: self.seen)

    assert Sub(1, 2).switch() == (1, 2)


def test_subclass_with_slots() -> None:
    class Sub(greenlet):
        __slots__ = ("mark",)

    g = Sub(lambda: g.mark)
    g.mark = "marked"
    assert g.switch() == "marked"


def test_run_looked_up_as_property() -> None:
    class Sub(greenlet):
        @property
        def run(self) -> Any:
            return lambda value: ("property", value)

    assert Sub().switch(1) == ("property", 1)


def test_property_run_that_raises() -> None:
    class Sub(greenlet):
        fail = True

        @property
        def run(self) -> Any:
            if self.fail:
                raise OSError("no run yet")
            return lambda: "ran"

    g = Sub()
    with pytest.raises(OSError, match="no run yet"):
        g.switch()
    assert not g.dead
    g.fail = False
    assert g.switch() == "ran"


def test_run_lookup_through_getattribute() -> None:
    looked_up = []

    class Sub(greenlet):
        def __getattribute__(self, name: str) -> Any:
            if name == "run":
                looked_up.append(name)
                return lambda: "dynamic"
            return super().__getattribute__(name)

    assert Sub().switch() == "dynamic"
    assert looked_up == ["run"]


def test_run_lookup_may_switch_elsewhere() -> None:
    log = []

    class Sub(greenlet):
        @property
        def run(self) -> Any:
            log.append(greenlet(lambda: "other").switch())
            return lambda: "ran"

    assert Sub().switch() == "ran"
    assert log == ["other"]


def test_isinstance_and_main() -> None:
    assert isinstance(getcurrent(), greenlet)
    assert type(greenlet(None)) is greenlet


def test_run_of_none() -> None:
    """None is given like anything else; that it cannot be called shows when it is."""
    g = greenlet(run=None)
    assert g.run is None
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        g.switch()
    assert g.dead


def test_deleting_a_run_that_is_not_there() -> None:
    g = greenlet(print)
    del g.run
    del g.run
    assert not hasattr(g, "run")


def test_run_of_main_cannot_be_set() -> None:
    main = getcurrent()
    with pytest.raises(AttributeError, match="Main greenlets do not have a run"):
        main.run = print
    with pytest.raises(AttributeError, match="Main greenlets do not have a run"):
        del main.run


def test_abstract_class() -> None:
    class Abstract(greenlet, abc.ABC):
        @abc.abstractmethod
        def run(self) -> str: ...

    class Concrete(Abstract):
        def run(self) -> str:
            return "ran"

    with pytest.raises(TypeError, match="abstract"):
        Abstract()  # type: ignore[abstract]
    assert Concrete().switch() == "ran"


def test_unused_run_is_dropped_inside_before_the_other_one_is_called() -> None:
    log: list[Any] = []

    class Unused:
        def __call__(self) -> None:
            raise AssertionError

        def __del__(self) -> None:
            log.append(("dropped in", getcurrent()))

    class Sub(greenlet):
        def run(self) -> None:
            log.append(("ran in", getcurrent()))

    g = Sub(Unused())
    g.switch()
    assert log == [("dropped in", g), ("ran in", g)]


def test_unused_run_may_switch_away_when_it_is_dropped() -> None:
    main = getcurrent()

    class Unused:
        def __del__(self) -> None:
            main.switch("away")

    class Sub(greenlet):
        def run(self) -> str:
            return "ran"

    g = Sub(Unused())
    assert g.switch() == "away"
    assert g.switch() == "ran"

"""The C interface: each function, its results, errors and references."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import greenlet as package
import pytest
from greenlet import GreenletExit, getcurrent, greenlet


def park(*args: Any, **kwargs: Any) -> Any:
    return getcurrent().parent.switch(*args, **kwargs)


def started(run: Callable[..., Any] = park) -> greenlet:
    g = greenlet(run)
    g.switch()
    return g


def ended() -> greenlet:
    return started(lambda: None)


class Subclass(greenlet):
    def run(self, *args: Any) -> Any:
        return args


# The capsule


def test_capsule_has_the_name_extensions_ask_for() -> None:
    assert '"greenlet._C_API"' in repr(package._C_API)


def test_extension_module_name_has_the_capsule_too() -> None:
    import greenlet._greenlet

    assert greenlet._greenlet._C_API is package._C_API


def test_table_by_numbers(load: Callable[[str], ModuleType]) -> None:
    def run(value: Any) -> Any:
        return park((value,))

    kind, error, leave, result, parent, end, states = load("table.c").live(run)
    assert (kind, error, leave) == (greenlet, package.error, GreenletExit)
    assert result == (getcurrent(),)
    assert parent is getcurrent()
    assert isinstance(end, GreenletExit)
    assert states == (0, 1, 0, 1, 0, 0)


def test_objects(interface: ModuleType) -> None:
    assert interface.objects() == (greenlet, package.error, GreenletExit)


def test_fields_of_the_structure(interface: ModuleType) -> None:
    g = greenlet(None)
    assert interface.fields(g) == (interface.nothing, interface.nothing)
    reference = weakref.ref(g)
    g.attribute = 1
    assert interface.fields(g) == (reference, {"attribute": 1})


# Check


@pytest.mark.parametrize("make", [greenlet, Subclass, getcurrent, started, ended])
def test_check_of_greenlets(interface: ModuleType, make: Callable[[], Any]) -> None:
    assert interface.check(make()) is True


@pytest.mark.parametrize("value", [None, object(), greenlet, 1])
def test_check_of_others(interface: ModuleType, value: Any) -> None:
    assert interface.check(value) is False


def test_check_of_null(interface: ModuleType) -> None:
    assert interface.check(interface.NULL) is False


@pytest.mark.parametrize(
    ("function", "rest"),
    [
        ("switch", 2),
        ("throw", 3),
        ("get_parent", 0),
        ("get_parent_alias", 0),
        ("main", 0),
        ("started", 0),
        ("active", 0),
    ],
)
@pytest.mark.parametrize("value", ["NULL", None, object(), greenlet])
def test_what_is_no_greenlet(interface: ModuleType, function: str, rest: int, value: Any) -> None:
    if value == "NULL":
        value = interface.NULL
    others = [ValueError, None, None][:rest] if function == "throw" else [()] * rest
    with pytest.raises(TypeError, match="bad argument type for built-in operation"):
        getattr(interface, function)(value, *others)


# New


def test_new(interface: ModuleType) -> None:
    g = interface.new(lambda *args: args, interface.NULL)
    assert type(g) is greenlet
    assert g.parent is getcurrent()
    assert not g
    assert not g.dead
    assert g.switch(1, 2) == (1, 2)


def test_new_with_parent(interface: ModuleType) -> None:
    parent = greenlet(lambda value: ("parent", value))
    g = interface.new(lambda: "child", parent)
    assert g.parent is parent
    assert g.switch() == ("parent", "child")


def test_new_without_anything(interface: ModuleType) -> None:
    g = interface.new(interface.NULL, interface.NULL)
    with pytest.raises(AttributeError):
        g.switch()
    g.run = lambda: "set later"
    assert interface.switch(g, interface.NULL, interface.NULL) == "set later"


@pytest.mark.parametrize("parent", [1, object(), greenlet])
def test_new_with_a_parent_that_is_no_greenlet(interface: ModuleType, parent: Any) -> None:
    with pytest.raises(TypeError):
        interface.new(park, parent)


def test_new_keeps_references_exactly(interface: ModuleType) -> None:
    def run() -> None:
        pass

    parent = greenlet(run)
    before = sys.getrefcount(run), sys.getrefcount(parent)
    made = [interface.new(run, parent) for _ in range(10)]
    assert sys.getrefcount(run) == before[0] + 10
    direct = [greenlet(run)]
    assert sys.getrefcount(made[0]) == sys.getrefcount(direct[0])
    direct.clear()
    references = [weakref.ref(g) for g in made]
    del made
    assert [reference() for reference in references] == [None] * 10
    for _ in range(10):
        with pytest.raises(TypeError):
            interface.new(run, 1)
    assert (sys.getrefcount(run), sys.getrefcount(parent)) == before


# GetCurrent


def test_get_current(interface: ModuleType) -> None:
    assert interface.get_current() is getcurrent()
    g = greenlet(interface.get_current)
    assert g.switch() is g


def test_get_current_gives_a_reference(interface: ModuleType) -> None:
    current = getcurrent()
    before = sys.getrefcount(current)
    kept = [interface.get_current() for _ in range(10)]
    assert sys.getrefcount(current) == before + 10
    kept.clear()
    assert sys.getrefcount(current) == before


def test_get_current_in_a_thread_that_is_new_to_greenlets(interface: ModuleType) -> None:
    found: list[Any] = []

    def look() -> None:
        found.append(interface.get_current())
        found.append(interface.main(found[0]))
        found.append(getcurrent() is found[0])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found[0] is not getcurrent()
    assert found[1:] == [1, True]


# Switch


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"a": 1}), ((1, 2), {"a": 1})],
)
def test_switch_starts(interface: ModuleType, args: Any, kwargs: Any) -> None:
    g = greenlet(lambda *args, **kwargs: (args, kwargs))
    assert interface.switch(g, args, kwargs) == (args, kwargs)
    assert g.dead


def test_switch_starts_with_null(interface: ModuleType) -> None:
    g = greenlet(lambda *args, **kwargs: (args, kwargs))
    assert interface.switch(g, interface.NULL, interface.NULL) == ((), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "result"),
    [
        ("NULL", "NULL", ()),
        ((), "NULL", ()),
        ((1,), "NULL", 1),
        (((1,),), "NULL", (1,)),
        ((1, 2), "NULL", (1, 2)),
        ("NULL", {"a": 1}, {"a": 1}),
        ((), {"a": 1}, {"a": 1}),
        ((1,), {"a": 1}, ((1,), {"a": 1})),
        ((1, 2), {"a": 1}, ((1, 2), {"a": 1})),
        # An empty dict is as none.
        ("NULL", {}, ()),
        ((1,), {}, 1),
        # What is no dict is left out.
        ((1,), [("a", 1)], 1),
        # What is no tuple is handed over as it is.
        (["a list"], "NULL", ["a list"]),
        (7, "NULL", 7),
    ],
)
def test_switch_goes_on(interface: ModuleType, args: Any, kwargs: Any, result: Any) -> None:
    seen: list[Any] = []
    g = started(lambda: seen.append(park()))
    marks = {"NULL": interface.NULL}
    args = marks[args] if isinstance(args, str) else args
    kwargs = marks[kwargs] if isinstance(kwargs, str) else kwargs
    interface.switch(g, args, kwargs)
    assert seen == [result]
    assert type(seen[0]) is type(result)


def test_switch_to_a_dead_greenlet(interface: ModuleType) -> None:
    g = ended()
    assert interface.switch(g, (), interface.NULL) == ()
    assert interface.switch(g, (1,), interface.NULL) == 1
    assert interface.switch(g, (1, 2), {"a": 3}) == ((1, 2), {"a": 3})


def test_switch_to_itself(interface: ModuleType) -> None:
    assert interface.switch(getcurrent(), ("value",), interface.NULL) == "value"


def test_switch_without_run(interface: ModuleType) -> None:
    g = greenlet()
    with pytest.raises(AttributeError):
        interface.switch(g, (), interface.NULL)
    assert interface.started(g) == 0


def test_switch_raises_what_the_greenlet_raises(interface: ModuleType) -> None:
    def fail() -> None:
        raise LookupError("from within")

    with pytest.raises(LookupError, match="from within"):
        interface.switch(greenlet(fail), (), interface.NULL)


def test_switch_to_a_greenlet_of_another_thread(interface: ModuleType) -> None:
    theirs: list[greenlet] = []
    ready, done = threading.Event(), threading.Event()

    def live() -> None:
        theirs.append(started())
        ready.set()
        done.wait(60)
        theirs.clear()

    thread = threading.Thread(target=live)
    thread.start()
    assert ready.wait(60)
    try:
        with pytest.raises(package.error):
            interface.switch(theirs[0], (), interface.NULL)
        with pytest.raises(package.error):
            interface.throw(theirs[0], ValueError, interface.NULL, interface.NULL)
    finally:
        done.set()
        thread.join()


def test_switch_uses_run_of_a_subclass(interface: ModuleType) -> None:
    assert interface.switch(Subclass(), (1, 2), interface.NULL) == (1, 2)


def test_switch_keeps_references_exactly(interface: ModuleType) -> None:
    token, key = object(), "key of a keyword"
    args, kwargs = (token,), {key: token}
    lists = (["no tuple"], token)

    def counts() -> list[int]:
        return [sys.getrefcount(value) for value in (token, args, kwargs, lists[0])]

    def all_forms() -> None:
        for given in (args, (), interface.NULL, (token, token)):
            for named in (kwargs, {}, interface.NULL, token):
                interface.switch(greenlet(lambda *args, **kwargs: None), given, named)
                g = started()
                interface.switch(g, given, named)
                interface.switch(g, given, named)
        interface.switch(started(), lists[0], interface.NULL)
        for given in (token, 1):
            with pytest.raises(TypeError):
                interface.switch(token, given, token)

    all_forms()
    before = counts()
    for _ in range(5):
        all_forms()
    gc.collect()
    assert counts() == before


# Throw


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (ValueError, "NULL", ""),
        (ValueError, None, ""),
        (ValueError, "text", "text"),
        (ValueError, ("one", "two"), "('one', 'two')"),
        (ValueError, ValueError("made"), "made"),
        (ValueError("instance"), "NULL", "instance"),
        (ValueError("instance"), None, "instance"),
    ],
)
def test_throw(interface: ModuleType, kind: Any, value: Any, text: str) -> None:
    seen: list[BaseException] = []

    def catch() -> str:
        try:
            park()
        except ValueError as error:
            seen.append(error)
        return "went on"

    g = started(catch)
    value = interface.NULL if value == "NULL" else value
    assert interface.throw(g, kind, value, interface.NULL) == "went on"
    assert [str(error) for error in seen] == [text]
    if isinstance(kind, ValueError):
        assert seen[0] is kind


def test_throw_with_traceback(interface: ModuleType) -> None:
    def origin() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first") as caught:
        origin()
    with pytest.raises(ValueError, match="again") as thrown:
        interface.throw(started(), ValueError, "again", caught.value.__traceback__)
    names = [entry.name for entry in thrown.traceback]
    assert "origin" in names


def test_throw_that_nobody_catches(interface: ModuleType) -> None:
    g = started()
    with pytest.raises(ValueError, match="out again"):
        interface.throw(g, ValueError, "out again", interface.NULL)
    assert g.dead


def test_throw_greenlet_exit(interface: ModuleType) -> None:
    g = started()
    result = interface.throw(g, GreenletExit, "the value", interface.NULL)
    assert isinstance(result, GreenletExit)
    assert str(result) == "the value"
    assert g.dead


def test_throw_into_one_that_has_not_started(interface: ModuleType) -> None:
    called: list[int] = []
    g = greenlet(lambda: called.append(1))
    with pytest.raises(ValueError, match="never ran"):
        interface.throw(g, ValueError, "never ran", interface.NULL)
    assert g.dead
    assert (interface.started(g), interface.active(g)) == (1, 0)
    assert called == []


def test_throw_into_a_dead_one(interface: ModuleType) -> None:
    with pytest.raises(ValueError, match="passed on"):
        interface.throw(ended(), ValueError, "passed on", interface.NULL)
    assert isinstance(
        interface.throw(ended(), GreenletExit, interface.NULL, interface.NULL), GreenletExit
    )


def test_throw_into_itself(interface: ModuleType) -> None:
    with pytest.raises(ValueError, match="here"):
        interface.throw(getcurrent(), ValueError, "here", interface.NULL)


@pytest.mark.parametrize(
    ("kind", "value", "tb", "message"),
    [
        ("abc", None, None, "exceptions must be classes, or instances, not str"),
        (int, None, None, "exceptions must be classes, or instances, not type"),
        (None, None, None, "exceptions must be classes, or instances, not NoneType"),
        (ValueError(), "value", None, "instance exception may not have a separate value"),
        (ValueError, None, 1, "throw.. third argument must be a traceback object"),
    ],
)
def test_throw_what_cannot_be_thrown(
    interface: ModuleType, kind: Any, value: Any, tb: Any, message: str
) -> None:
    g = started()
    with pytest.raises(TypeError, match=message):
        interface.throw(g, kind, value, tb)
    assert interface.active(g) == 1


def test_throw_keeps_references_exactly(interface: ModuleType) -> None:
    null = interface.NULL
    error, value = ValueError("instance"), ("argument", "of the constructor")

    def all_forms() -> None:
        for kind, given, tb in (
            (error, null, null),
            (ValueError, value, null),
            (ValueError, null, None),
            (ValueError, null, 1),
            (error, 1, null),
            ("abc", null, null),
        ):
            for g in (started(), greenlet(park), ended()):
                with pytest.raises((TypeError, ValueError)):
                    interface.throw(g, kind, given, tb)
        error.__traceback__ = error.__context__ = None

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(counted) for counted in (error, value, None, ValueError)][:2]

    all_forms()
    before = counts()
    for _ in range(5):
        all_forms()
    assert counts() == before


# Parents


def test_set_and_get_parent(interface: ModuleType) -> None:
    g, parent = greenlet(park), greenlet(lambda: None)
    assert interface.get_parent(g) is getcurrent()
    assert interface.set_parent(g, parent) == 0
    assert g.parent is parent
    assert interface.get_parent(g) is parent
    assert interface.get_parent_alias(g) is parent


def test_set_parent_of_a_suspended_greenlet(interface: ModuleType) -> None:
    outer = greenlet(lambda: started(lambda: park("never delivered")))
    inner = greenlet(lambda: getcurrent().parent.switch("out"), outer)
    assert outer is inner.parent
    assert interface.set_parent(inner, getcurrent()) == 0
    assert inner.switch() == "out"
    assert inner.switch("end") == "end"


def test_main_greenlet_has_no_parent(interface: ModuleType) -> None:
    main = getcurrent()
    assert main.parent is None
    assert interface.get_parent(main) is interface.nothing


def test_set_parent_refuses_a_cycle(interface: ModuleType) -> None:
    a = greenlet(park)
    b = greenlet(park, a)
    with pytest.raises(ValueError, match="cyclic parent chain"):
        interface.set_parent(a, b)
    with pytest.raises(ValueError, match="cyclic parent chain"):
        interface.set_parent(a, a)


def test_set_parent_of_a_main_greenlet(interface: ModuleType) -> None:
    with pytest.raises(AttributeError, match="main greenlet"):
        interface.set_parent(getcurrent(), greenlet(park))


@pytest.mark.parametrize("parent", [None, 1, object(), greenlet])
def test_set_parent_to_what_is_no_greenlet(interface: ModuleType, parent: Any) -> None:
    g = greenlet(park)
    with pytest.raises(TypeError):
        interface.set_parent(g, parent)
    assert g.parent is getcurrent()


def test_set_parent_to_null(interface: ModuleType) -> None:
    with pytest.raises(AttributeError, match="can't delete attribute"):
        interface.set_parent(greenlet(park), interface.NULL)


def test_parents_keep_references_exactly(interface: ModuleType) -> None:
    g, one, two = greenlet(park), greenlet(park), greenlet(park)
    interface.set_parent(g, one)
    before = sys.getrefcount(one), sys.getrefcount(two)
    for _ in range(10):
        interface.set_parent(g, two)
        assert interface.get_parent(g) is two
        interface.set_parent(g, one)
        with pytest.raises(TypeError):
            interface.set_parent(g, 1)
    assert (sys.getrefcount(one), sys.getrefcount(two)) == before


# States


def test_states(interface: ModuleType) -> None:
    def states(g: greenlet) -> tuple[int, int, int]:
        return interface.main(g), interface.started(g), interface.active(g)

    g = greenlet(lambda: park(states(getcurrent())))
    assert states(g) == (0, 0, 0)
    assert g.switch() == (0, 1, 1)
    assert states(g) == (0, 1, 1)
    g.switch()
    assert states(g) == (0, 1, 0)
    assert states(getcurrent()) == (1, 1, 1)


def test_states_of_a_greenlet_whose_run_raised(interface: ModuleType) -> None:
    g = greenlet(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        g.switch()
    assert (interface.started(g), interface.active(g)) == (1, 0)


def test_main_greenlet_of_an_ended_thread(interface: ModuleType) -> None:
    found: list[greenlet] = []
    thread = threading.Thread(target=lambda: found.append(getcurrent()))
    thread.start()
    thread.join()
    assert interface.main(found[0]) == 1
    assert interface.started(found[0]) == 1
    assert interface.active(found[0]) == bool(found[0])


# Greenlets that run C


def test_c_function_switches(interface: ModuleType) -> None:
    g = greenlet(interface.doubler)
    assert [g.switch(number) for number in (1, 2.5, "ab")] == [2, 5.0, "abab"]
    assert g.switch(None) == 3
    assert g.dead


def test_c_function_that_is_thrown_into(interface: ModuleType) -> None:
    g = greenlet(interface.doubler)
    g.switch(1)
    with pytest.raises(ValueError, match="thrown"):
        g.throw(ValueError("thrown"))
    assert g.dead


def test_c_function_that_fails(interface: ModuleType) -> None:
    g = greenlet(interface.doubler)
    g.switch(1)
    with pytest.raises(TypeError):
        g.switch(object())


def test_c_function_that_is_collected(interface: ModuleType) -> None:
    class Token:
        def __add__(self, other: object) -> str:
            return "sum"

    token = Token()
    gone = weakref.ref(token)
    g = greenlet(interface.doubler)
    assert g.switch(token) == "sum"
    del token, g
    assert gone() is None


def test_c_drives_c(interface: ModuleType) -> None:
    assert interface.drive_doubler(1000) == 999 * 1000
    # From a greenlet, which then is the parent.
    assert greenlet(interface.drive_doubler).switch(10) == 90


def test_c_functions_interleaved_with_python(interface: ModuleType) -> None:
    """More of them than there are stack slots: C stacks are moved out and back in."""
    count = 150
    fresh = [greenlet(interface.doubler) for _ in range(count)]
    for step in range(4):
        for index, g in enumerate(fresh):
            assert g.switch(index + step) == 2 * (index + step)
    assert [g.switch(None) for g in fresh] == [4] * count


def test_switches_below_frames_of_c(interface: ModuleType) -> None:
    def wait(depth: int) -> Any:
        return interface.call_below(park, depth)

    waiting = [greenlet(wait) for _ in range(100)]
    for depth, g in enumerate(waiting):
        g.switch(depth)
    tokens = [object() for _ in waiting]
    assert [g.switch(token) for g, token in zip(waiting, tokens, strict=True)] == tokens


def test_context_variables_in_c_switches(interface: ModuleType) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def run() -> str:
        seen = variable.get()
        variable.set("theirs")
        park(seen)
        return variable.get()

    token = variable.set("ours")
    g = interface.new(run, interface.NULL)
    assert interface.switch(g, (), interface.NULL) == "unset"
    assert variable.get() == "ours"
    assert interface.switch(g, (), interface.NULL) == "theirs"
    variable.reset(token)

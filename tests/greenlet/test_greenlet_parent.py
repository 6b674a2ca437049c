"""The `parent` attribute: what may be assigned, and where a finished greenlet goes."""

from __future__ import annotations

from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet


def fail() -> None:
    raise LookupError("from the child")


def receive(*args: Any) -> tuple[str, tuple[Any, ...]]:
    """A run function for a parent: shows that it was started and with what."""
    return "parent got", args


def finished() -> greenlet:
    g = greenlet(lambda: None)
    g.switch()
    assert g.dead
    return g


def test_main_has_no_parent() -> None:
    assert getcurrent().parent is None


@pytest.mark.parametrize("value", [5, None, "x", object(), greenlet])
def test_parent_setter_wants_a_greenlet(value: Any) -> None:
    g = greenlet(lambda: None)
    with pytest.raises(TypeError):
        g.parent = value
    assert g.parent is getcurrent()


def test_parent_cannot_be_deleted() -> None:
    g = greenlet(lambda: None)
    with pytest.raises(AttributeError):
        del g.parent
    assert g.parent is getcurrent()


def test_main_parent_cannot_be_set_or_deleted() -> None:
    main = getcurrent()
    with pytest.raises(AttributeError):
        main.parent = greenlet(lambda: None)
    with pytest.raises(AttributeError):
        del main.parent
    assert main.parent is None


def test_own_parent_is_a_cycle() -> None:
    g = greenlet(lambda: None)
    with pytest.raises(ValueError, match="cyclic"):
        g.parent = g


def test_cycles_of_any_length_are_refused() -> None:
    chain = [greenlet(lambda: None)]
    for _ in range(5):
        chain.append(greenlet(lambda: None, chain[-1]))
    for descendant in chain[1:]:
        with pytest.raises(ValueError, match="cyclic"):
            chain[0].parent = descendant
    assert chain[0].parent is getcurrent()


def test_cycle_refused_while_running() -> None:
    def body() -> str:
        child = greenlet(lambda: None)
        with pytest.raises(ValueError, match="cyclic"):
            getcurrent().parent = child
        return "checked"

    assert greenlet(body).switch() == "checked"


def test_setting_the_same_parent_again() -> None:
    g = greenlet(lambda: "x")
    g.parent = g.parent
    assert g.switch() == "x"


def test_result_goes_to_the_parent_not_to_the_switcher() -> None:
    log = []

    def parent_body() -> str:
        log.append(getcurrent().parent.switch("parent parked"))
        return "parent done"

    parent = greenlet(parent_body)
    assert parent.switch() == "parent parked"
    child = greenlet(lambda: "child result", parent)
    assert child.switch() == "parent done"
    assert log == ["child result"]


def test_parent_changed_while_parked() -> None:
    log = []

    def parent_body() -> str:
        log.append(getcurrent().parent.switch())
        return "new parent done"

    new_parent = greenlet(parent_body)
    new_parent.switch()
    child = greenlet(lambda: (main.switch("parked"), "result")[1])
    main = getcurrent()
    assert child.switch() == "parked"
    child.parent = new_parent
    assert child.parent is new_parent
    assert child.switch() == "new parent done"
    assert log == ["result"]


def test_parent_changed_by_the_greenlet_itself() -> None:
    other = greenlet(receive)

    def body() -> str:
        getcurrent().parent = other
        return "ret"

    assert greenlet(body).switch() == ("parent got", ("ret",))


def test_unstarted_parent_is_started_with_the_result() -> None:
    parent = greenlet(receive)
    assert greenlet(lambda: "result", parent).switch() == ("parent got", ("result",))
    assert parent.dead


def test_tuple_result_starts_the_parent_with_one_argument() -> None:
    parent = greenlet(receive)
    assert greenlet(lambda: (1, 2), parent).switch() == ("parent got", ((1, 2),))


def test_exception_kills_an_unstarted_parent_and_goes_on() -> None:
    ran = []
    parent = greenlet(lambda *args: ran.append(args))
    with pytest.raises(LookupError, match="from the child"):
        greenlet(fail, parent).switch()
    assert parent.dead
    assert ran == []


def test_result_skips_dead_parents() -> None:
    grandparent = greenlet(receive)
    dead = [greenlet(lambda: None, grandparent)]
    dead.append(greenlet(lambda: None, dead[-1]))
    child = greenlet(lambda: "result", dead[-1])
    # Finish the ancestors without starting the grandparent.
    for g in dead:
        parent = g.parent
        g.parent = getcurrent()
        g.switch()
        g.parent = parent
        assert g.dead
    assert child.switch() == ("parent got", ("result",))


def test_exception_skips_dead_parents() -> None:
    log = []

    def grandparent_body() -> str:
        try:
            getcurrent().parent.switch()
        except LookupError as exc:
            log.append(str(exc))
        return "handled"

    grandparent = greenlet(grandparent_body)
    grandparent.switch()
    dead = finished()
    dead.parent = grandparent
    assert greenlet(fail, dead).switch() == "handled"
    assert log == ["from the child"]


def test_exit_value_skips_dead_parents() -> None:
    def leave() -> None:
        raise GreenletExit("bye")

    value = greenlet(leave, finished()).switch()
    assert isinstance(value, GreenletExit)
    assert value.args == ("bye",)


def test_switching_to_a_dead_greenlet_reaches_its_parent() -> None:
    dead = finished()
    dead.parent = greenlet(receive)
    assert dead.switch(9) == ("parent got", (9,))


def test_throwing_into_a_dead_greenlet_reaches_its_parent() -> None:
    log = []

    def parent_body() -> str:
        try:
            getcurrent().parent.switch()
        except LookupError as exc:
            log.append(exc)
        return "handled"

    dead = finished()
    dead.parent = greenlet(parent_body)
    dead.parent.switch()
    error = LookupError("late")
    assert dead.throw(error) == "handled"
    assert log == [error]


def test_parent_kept_alive_by_its_child() -> None:
    parent = greenlet(receive)
    child = greenlet(lambda: "kept", parent)
    del parent
    assert child.switch() == ("parent got", ("kept",))


def test_long_chain_of_unstarted_parents() -> None:
    g = greenlet(lambda value: value + 1)
    for _ in range(500):
        g = greenlet(lambda value: value + 1, g)
    assert g.switch(0) == 501


def test_long_chain_of_unstarted_parents_and_an_exception() -> None:
    ran = []
    g = getcurrent()
    for _ in range(500):
        g = greenlet(ran.append, g)
    with pytest.raises(LookupError):
        greenlet(fail, g).switch()
    assert ran == []
    assert g.dead


def test_parent_whose_run_cannot_be_looked_up_stays_unstarted() -> None:
    """The error goes to whoever would go on with the result, as often as that is tried."""

    class Perverse(greenlet):
        @property
        def run(self) -> Any:
            raise LookupError("no run")

    parent = Perverse()
    ran: list[int] = []
    child = greenlet(lambda: ran.append(1), parent)
    for _ in range(2):
        with pytest.raises(LookupError, match="no run"):
            child.switch()
        assert child.dead
        assert not parent.dead
        assert not parent
    assert ran == [1]


def test_parent_without_run_can_be_given_one_later() -> None:
    parent = greenlet()
    child = greenlet(lambda: "result", parent)
    with pytest.raises(AttributeError, match="run"):
        child.switch()
    parent.run = receive
    assert child.switch("again") == ("parent got", ("again",))
    assert parent.dead


def test_error_of_a_parent_without_run_goes_to_the_next() -> None:
    def grandparent_body() -> Any:
        try:
            child.switch()
        except AttributeError:
            return "grandparent got it"

    grandparent = greenlet(grandparent_body)
    parent = greenlet(parent=grandparent)
    child = greenlet(lambda: None, parent)
    assert grandparent.switch() == "grandparent got it"
    assert not parent.dead


def test_run_of_a_parent_is_looked_up_once() -> None:
    class Counting(greenlet):
        def __getattribute__(self, name: str) -> Any:
            names.append(name)
            return super().__getattribute__(name)

    names: list[str] = []
    parent = Counting(receive)
    child = greenlet(lambda: 1, parent)
    assert child.switch() == ("parent got", (1,))
    assert names == ["run"]


def test_main_refuses_any_parent_before_it_looks_at_it() -> None:
    with pytest.raises(AttributeError, match="cannot set the parent of a main greenlet"):
        getcurrent().parent = 5  # type: ignore[assignment]

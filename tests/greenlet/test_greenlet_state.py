"""What can be asked of a greenlet: dead, truth, gr_frame, __dict__, weak references, repr."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from greenlet_support import finished, park


def started() -> greenlet:
    g = greenlet(park)
    g.switch()
    return g


def test_dead_and_truth_over_a_life() -> None:
    log = []

    def body() -> None:
        log.append((g.dead, bool(g)))
        park()
        log.append((g.dead, bool(g)))

    g = greenlet(body)
    assert (g.dead, bool(g)) == (False, False)
    g.switch()
    assert (g.dead, bool(g)) == (False, True)
    g.switch()
    assert (g.dead, bool(g)) == (True, False)
    assert log == [(False, True)] * 2


def test_dead_after_an_exception() -> None:
    g = greenlet(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        g.switch()
    assert g.dead is True
    assert bool(g) is False


def test_main_is_active() -> None:
    main = getcurrent()
    assert main.dead is False
    assert bool(main) is True
    assert greenlet(lambda: (main.dead, bool(main))).switch() == (False, True)


@pytest.mark.parametrize("name", ["dead", "gr_frame", "_stack_saved"])
def test_read_only(name: str) -> None:
    for g in (greenlet(lambda: None), started(), finished(), getcurrent()):
        with pytest.raises(AttributeError):
            setattr(g, name, None)
        with pytest.raises(AttributeError):
            delattr(g, name)


def test_stack_saved_is_a_count() -> None:
    for g in (greenlet(lambda: None), started(), finished(), getcurrent()):
        assert type(g._stack_saved) is int
        assert g._stack_saved >= 0
    assert finished()._stack_saved == 0


def test_gr_frame_over_a_life() -> None:
    def body() -> Any:
        inside = getcurrent().gr_frame
        park()
        return inside

    g = greenlet(body)
    assert g.gr_frame is None
    g.switch()
    assert g.gr_frame.f_code is park.__code__
    assert g.gr_frame.f_back.f_code is body.__code__
    assert g.gr_frame.f_back.f_back is None
    # The running greenlet's frames are the interpreter's own: sys._getframe() has them.
    assert g.switch() is None
    assert g.gr_frame is None


def test_gr_frame_of_current_main_is_none() -> None:
    assert getcurrent().gr_frame is None


def test_gr_frame_of_parked_main() -> None:
    main = getcurrent()
    frame = greenlet(lambda: main.gr_frame).switch()
    assert frame.f_code is test_gr_frame_of_parked_main.__code__


def test_instance_attributes() -> None:
    g = greenlet(lambda: g.note)
    g.note = "kept"
    assert g.__dict__ == {"note": "kept"}
    assert vars(g) == {"note": "kept"}
    assert g.switch() == "kept"
    del g.note
    assert g.__dict__ == {}


def test_run_is_not_in_the_dict() -> None:
    assert greenlet(lambda: None).__dict__ == {}


def test_dict_can_be_replaced() -> None:
    g = greenlet(lambda: None)
    g.__dict__ = {"a": 1}
    assert g.a == 1
    with pytest.raises(TypeError):
        g.__dict__ = 5  # type: ignore[assignment]


def test_main_takes_attributes() -> None:
    main = getcurrent()
    main.note = 1
    try:
        assert greenlet(lambda: main.note).switch() == 1
    finally:
        del main.note


def test_identity_equality_and_hash() -> None:
    a, b = greenlet(lambda: None), greenlet(lambda: None)
    assert a == a
    assert a != b
    assert len({a, b, a}) == 2
    with pytest.raises(TypeError):
        a < b  # type: ignore[operator]  # noqa: B015


def test_weak_references() -> None:
    called = []
    g = greenlet(lambda: None)
    ref = weakref.ref(g, called.append)
    assert ref() is g
    g.switch()
    assert ref() is g
    del g
    assert ref() is None
    assert called == [ref]


def test_weak_reference_to_a_parked_greenlet() -> None:
    g = started()
    ref = weakref.ref(g)
    del g
    assert ref() is None


def test_weak_key_dictionary() -> None:
    table = weakref.WeakKeyDictionary({(g := greenlet(lambda: None)): "value"})
    assert len(table) == 1
    del g
    assert len(table) == 0


@pytest.mark.parametrize("make", [lambda: greenlet(park), started, finished, getcurrent])
def test_copy_and_pickle_are_refused(make: Any) -> None:
    g = make()
    with pytest.raises(TypeError):
        copy.copy(g)
    with pytest.raises(TypeError):
        copy.deepcopy(g)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(g, protocol)


def words(g: greenlet) -> list[str]:
    """The state words at the end of the repr."""
    text = repr(g)
    assert text.startswith("<greenlet.greenlet object at 0x")
    assert text.endswith(">")
    return text[:-1].rsplit(")", 1)[1].split()


def test_repr() -> None:
    main = getcurrent()
    assert words(greenlet(park)) == ["pending"]
    assert words(started()) == ["suspended", "active", "started"]
    assert words(finished()) == ["dead"]
    assert words(main) == ["current", "active", "started", "main"]
    assert greenlet(lambda: words(getcurrent())).switch() == ["current", "active", "started"]
    assert greenlet(lambda: words(main)).switch() == ["suspended", "active", "started", "main"]


def test_repr_names_the_address() -> None:
    g = greenlet(park)
    assert f"object at {id(g):#x} " in repr(g)

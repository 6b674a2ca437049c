"""References taken and given back exactly: arguments, results, exceptions, contexts."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet


class Token:
    pass


def park(*args: Any, **kwargs: Any) -> Any:
    return getcurrent().parent.switch(*args, **kwargs)


def drain(g: greenlet) -> None:
    while not g.dead:
        g.switch()


def one_argument(token: Any) -> None:
    greenlet(lambda x: None).switch(token)


def many_arguments(token: Any) -> None:
    greenlet(lambda *args: None).switch(token, token, token)


def keyword(token: Any) -> None:
    greenlet(lambda a: None).switch(a=token)


def both(token: Any) -> None:
    greenlet(lambda *args, **kwargs: None).switch(token, token, a=token, b=token)


def result(token: Any) -> None:
    greenlet(lambda: token).switch()


def result_tuple(token: Any) -> None:
    greenlet(lambda: (token, token)).switch()


def out_and_in(token: Any) -> None:
    g = greenlet(park)
    g.switch(token)
    g.switch(token)


def out_and_in_many(token: Any) -> None:
    g = greenlet(park)
    g.switch(token, token)
    g.switch(token, token)


def out_and_in_keywords(token: Any) -> None:
    g = greenlet(park)
    g.switch(token, a=token)
    g.switch(token, a=token)


def parked_and_dropped(token: Any) -> None:
    def body(x: Any) -> None:
        y = x  # noqa: F841
        park(x)

    greenlet(body).switch(token)


def unstarted(token: Any) -> None:
    greenlet(lambda x=token: None)


def as_run(token: Any) -> None:
    with pytest.raises(TypeError):
        greenlet(token).switch()


def wrong_signature(token: Any) -> None:
    with pytest.raises(TypeError):
        greenlet(lambda: None).switch(token, a=token)


def no_run(token: Any) -> None:
    with pytest.raises(AttributeError):
        greenlet().switch(token, a=token)


def to_dead(token: Any) -> None:
    g = greenlet(lambda: None)
    g.switch()
    g.switch(token)
    g.switch(token, token)
    g.switch(a=token)


def to_itself(token: Any) -> None:
    getcurrent().switch(token)
    getcurrent().switch(token, token)
    getcurrent().switch(token, a=token)


def raised(token: Any) -> None:
    def body() -> None:
        raise ValueError(token)

    with pytest.raises(ValueError):
        greenlet(body).switch()


def thrown(token: Any) -> None:
    g = greenlet(park)
    g.switch()
    with pytest.raises(ValueError):
        g.throw(ValueError(token))


def thrown_type_value(token: Any) -> None:
    g = greenlet(park)
    g.switch()
    with pytest.raises(ValueError):
        g.throw(ValueError, token)


def thrown_and_caught(token: Any) -> None:
    def body() -> None:
        try:
            park()
        except ValueError:
            pass

    g = greenlet(body)
    g.switch()
    g.throw(ValueError, token)


def thrown_into_unstarted(token: Any) -> None:
    with pytest.raises(ValueError):
        greenlet(lambda: None).throw(ValueError, token)


def thrown_bad(token: Any) -> None:
    g = greenlet(park)
    g.switch()
    with pytest.raises(TypeError):
        g.throw(token)
    with pytest.raises(TypeError):
        g.throw(ValueError(), token)
    with pytest.raises(TypeError):
        g.throw(ValueError, token, token)


def exit_value(token: Any) -> None:
    g = greenlet(park)
    g.switch()
    assert g.throw(GreenletExit, token).args == (token,)


def through_parents(token: Any) -> None:
    g = greenlet(lambda x: x)
    for _ in range(5):
        g = greenlet(lambda x: x, g)
    g.switch(token)


def attribute(token: Any) -> None:
    g = greenlet(lambda: None)
    g.token = token
    g.switch()


def bad_parent(token: Any) -> None:
    with pytest.raises(TypeError):
        greenlet(None, token)
    with pytest.raises(TypeError):
        greenlet(None).parent = token


ACTIONS = [
    one_argument,
    many_arguments,
    keyword,
    both,
    result,
    result_tuple,
    out_and_in,
    out_and_in_many,
    out_and_in_keywords,
    parked_and_dropped,
    unstarted,
    as_run,
    wrong_signature,
    no_run,
    to_dead,
    to_itself,
    raised,
    thrown,
    thrown_type_value,
    thrown_and_caught,
    thrown_into_unstarted,
    thrown_bad,
    exit_value,
    through_parents,
    attribute,
    bad_parent,
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_object_passed_around(action: Callable[[Any], None]) -> None:
    token = Token()
    action(token)
    gc.collect()
    before = sys.getrefcount(token)
    for _ in range(50):
        action(token)
    gc.collect()
    assert sys.getrefcount(token) == before
    ref = weakref.ref(token)
    del token
    assert ref() is None


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_current_greenlet(action: Callable[[Any], None]) -> None:
    main = getcurrent()
    token = Token()
    action(token)
    gc.collect()
    before = sys.getrefcount(main)
    for _ in range(50):
        action(token)
    gc.collect()
    assert sys.getrefcount(main) == before


def test_object_count_of_a_greenlet() -> None:
    g = greenlet(lambda: [park() for _ in range(100)])
    before = sys.getrefcount(g)
    g.switch()
    parked = sys.getrefcount(g)
    for _ in range(99):
        g.switch()
        assert sys.getrefcount(g) == parked
    g.switch()
    assert sys.getrefcount(g) == before


def test_singletons_passed_around() -> None:
    g = greenlet(lambda: [park(None) for _ in range(1000)])
    before = sys.getrefcount(None)
    drain(g)
    del g
    # Immortal from 3.12 on, so this can only move on 3.11; leave room for unrelated code.
    assert abs(sys.getrefcount(None) - before) < 500


def test_greenlets_are_all_freed() -> None:
    gc.collect()
    before = sum(isinstance(o, greenlet) for o in gc.get_objects())
    refs = []
    for i in range(200):
        g = greenlet(park)
        if i % 2:
            g.switch()
        if i % 4 == 3:
            g.switch()
        refs.append(weakref.ref(g))
    del g
    gc.collect()
    assert all(ref() is None for ref in refs)
    assert sum(isinstance(o, greenlet) for o in gc.get_objects()) == before


def test_frames_are_freed() -> None:
    def body() -> None:
        park()

    g = greenlet(body)
    g.switch()
    token = Token()
    frame = g.gr_frame.f_back
    code_refs = sys.getrefcount(frame)
    for _ in range(100):
        assert g.gr_frame.f_back is frame
    assert sys.getrefcount(frame) == code_refs
    del token


def test_exception_state_frees_its_exceptions() -> None:
    refs = []

    class Marker(Exception):
        pass

    def body() -> None:
        try:
            raise Marker
        except Marker as exc:
            refs.append(weakref.ref(exc))
            park()

    for finish in (True, False):
        g = greenlet(body)
        g.switch()
        assert refs[-1]() is not None
        if finish:
            g.switch()
        del g
        gc.collect()
        assert refs[-1]() is None

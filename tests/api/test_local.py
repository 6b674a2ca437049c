"""local: attributes that belong to the greenlet."""

import gc
import weakref

import gevent
import pytest
from gevent.local import local


class Payload:
    pass


def test_each_greenlet_has_its_own_attributes():
    data = local()
    data.x = "main"

    def function(value):
        assert not hasattr(data, "x")
        data.x = value
        gevent.sleep(0)
        return data.x

    gs = [gevent.spawn(function, i) for i in range(10)]
    gevent.joinall(gs)
    assert [g.value for g in gs] == list(range(10))
    assert data.x == "main"


def test_missing_attributes():
    data = local()
    with pytest.raises(AttributeError, match="x"):
        data.x  # noqa: B018 - reading it is what is tested
    with pytest.raises(AttributeError):
        del data.x
    data.x = 1
    del data.x
    assert not hasattr(data, "x")
    assert getattr(data, "x", 5) == 5


def test_dict_is_the_greenlets_own():
    data = local()
    data.x = 1
    assert data.__dict__ == {"x": 1}
    assert gevent.spawn(lambda: dict(data.__dict__)).get() == {}
    data.__dict__["y"] = 2
    assert data.y == 2


def test_dict_cannot_be_replaced():
    data = local()
    with pytest.raises(AttributeError):
        data.__dict__ = {}
    with pytest.raises(AttributeError):
        del data.__dict__


def test_subclass_init_runs_once_per_greenlet_with_the_same_arguments():
    calls = []

    class Mine(local):
        kind = "class attribute"

        def __init__(self, *args, **kwargs):
            calls.append((gevent.getcurrent(), args, kwargs))
            self.items = []

    data = Mine(1, 2, key=3)
    data.items.append("main")

    def function():
        data.items.append("other")
        return data.items, data.kind

    g = gevent.spawn(function)
    assert g.get() == (["other"], "class attribute")
    assert data.items == ["main"]
    assert calls == [(gevent.getcurrent(), (1, 2), {"key": 3}), (g, (1, 2), {"key": 3})]


def test_arguments_without_an_init_are_refused():
    with pytest.raises(TypeError):
        local(1)
    with pytest.raises(TypeError):
        local(a=1)


def test_values_die_with_the_greenlet():
    data = local()

    def function():
        data.payload = Payload()
        return weakref.ref(data.payload)

    g = gevent.spawn(function)
    ref = g.get()
    del g
    gevent.sleep(0)
    gc.collect()
    assert ref() is None


def test_values_die_with_the_local():
    data = local()
    data.payload = Payload()
    ref = weakref.ref(data.payload)
    del data
    gc.collect()
    assert ref() is None


def test_two_locals_are_independent():
    first, second = local(), local()
    first.x = 1
    assert not hasattr(second, "x")


def test_works_in_raw_greenlets():
    data = local()
    seen = []

    def function():
        data.x = 1
        seen.append(data.x)

    gevent.spawn_raw(function)
    gevent.sleep(0)
    assert seen == [1]
    assert not hasattr(data, "x")

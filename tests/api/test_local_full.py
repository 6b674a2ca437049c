"""local: properties, slots, copies, dir, errors in __init__."""

import copy

import gevent
import pytest
from gevent.local import local


def test_dir_and_vars_show_the_greenlets_attributes():
    data = local()
    data.x = 1
    assert "x" in dir(data)
    assert vars(data) == {"x": 1}
    assert "x" not in gevent.spawn(dir, data).get()


def test_properties_and_methods_of_a_subclass():
    class Mine(local):
        @property
        def doubled(self):
            return self.x * 2

        @doubled.setter
        def doubled(self, value):
            self.x = value / 2

        def method(self):
            return self.x

        @classmethod
        def make(cls):
            return cls()

        @staticmethod
        def constant():
            return 7

    data = Mine.make()
    data.x = 3
    assert data.doubled == 6
    data.doubled = 8
    assert data.method() == 4
    assert data.constant() == 7


def test_slots_are_shared_between_greenlets():
    class Slotted(local):
        __slots__ = ("shared",)

    data = Slotted()
    data.shared = 1
    data.own = 2

    def function():
        return data.shared, hasattr(data, "own")

    assert gevent.spawn(function).get() == (1, False)


def test_copy_copies_the_current_greenlets_values():
    data = local()
    data.items = [1]
    copied = copy.copy(data)
    assert copied.items is data.items
    copied.other = 1
    assert not hasattr(data, "other")
    assert gevent.spawn(hasattr, copied, "items").get() is False


def test_init_that_fails_in_one_greenlet(capsys):
    main = gevent.getcurrent()

    class Mine(local):
        def __init__(self):
            if gevent.getcurrent() is not main:
                raise ValueError("init")
            self.x = 1

    data = Mine()
    g = gevent.spawn(getattr, data, "x")
    g.join()
    assert isinstance(g.exception, ValueError)
    assert data.x == 1


def test_setattr_override():
    class Mine(local):
        def __setattr__(self, name, value):
            super().__setattr__(name, value + 1)

    data = Mine()
    data.x = 1
    assert data.x == 2


def test_getattr_override():
    class Mine(local):
        def __getattr__(self, name):
            return f"missing {name}"

    data = Mine()
    data.x = 1
    assert data.x == 1
    assert data.y == "missing y"


def test_class_attributes_are_defaults():
    class Mine(local):
        x = "default"

    data = Mine()
    assert data.x == "default"
    data.x = "own"
    assert gevent.spawn(getattr, data, "x").get() == "default"
    del data.x
    assert data.x == "default"


def test_what_a_missing_attribute_says():
    class Mine(local):
        __slots__ = ("slot",)

        @property
        def broken(self):
            raise AttributeError("inside")

    mine = Mine()
    for name in ("missing", "slot"):
        with pytest.raises(AttributeError, match=f"Mine' object has no attribute '{name}'") as info:
            getattr(mine, name)
        assert (info.value.name, info.value.obj) == (name, mine)
    with pytest.raises(AttributeError, match="inside") as info:
        _ = mine.broken
    assert info.traceback[-1].name == "broken"
    assert getattr(mine, "missing", 5) == 5


class LikeDict:
    """A name that is equal to `__dict__`, as those of subclasses of str may be."""

    def __eq__(self, other):
        return other == "__dict__"

    __hash__ = None


@pytest.mark.parametrize("name", ["__dict__", type("Name", (str,), {})("__dict__"), LikeDict()])
def test_the_dict_cannot_be_replaced(name):
    data = local()
    with pytest.raises(AttributeError, match="attribute '__dict__' is read-only"):
        data.__setattr__(name, {})
    with pytest.raises(AttributeError, match="attribute '__dict__' is read-only"):
        data.__delattr__(name)


def test_names_are_strings():
    data = local()
    for change in (lambda: data.__setattr__(1, 2), lambda: data.__delattr__(1)):
        with pytest.raises(TypeError, match="attribute name must be string, not 'int'"):
            change()

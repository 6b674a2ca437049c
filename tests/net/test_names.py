"""Modules that stand for standard ones have their names, and say what they do with each."""

from importlib import import_module

import pytest

NAMES = ("contextvars", "queue", "select", "selectors", "signal", "socket", "ssl", "time")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_standard_module(name):
    ours, theirs = import_module(f"gevent.{name}"), import_module(name)
    names = getattr(theirs, "__all__", None) or [it for it in dir(theirs) if it[0] != "_"]
    assert [it for it in names if not hasattr(ours, it)] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_module_says_of_its_names(name):
    ours, theirs = import_module(f"gevent.{name}"), import_module(name)
    for it in ours.__implements__:
        assert getattr(ours, it) is not getattr(theirs, it), it
    for it in getattr(ours, "__imports__", ()):
        assert getattr(ours, it) is getattr(theirs, it), it
    for it in getattr(ours, "__extensions__", ()):
        assert hasattr(ours, it), it
        assert not hasattr(theirs, it), it
    exported: dict[str, object] = {}
    exec(f"from gevent.{name} import *", exported)
    exported.pop("__builtins__")
    assert sorted(exported) == sorted(ours.__all__)

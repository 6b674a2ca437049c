"""The module's own names."""

from __future__ import annotations

import re
import sys
import threading
import time
import weakref
from typing import Any

import greenlet
import pytest


def test_version() -> None:
    assert re.match(r"\d+\.\d+", greenlet.__version__)


@pytest.mark.parametrize("name", ["GreenletExit", "__version__", "error", "getcurrent", "greenlet"])
def test_public_names(name: str) -> None:
    assert name in greenlet.__all__
    assert hasattr(greenlet, name)


def test_all_exists() -> None:
    for name in greenlet.__all__:
        assert hasattr(greenlet, name), name


@pytest.mark.parametrize("feature", ["GC", "TRACING", "CONTEXT_VARS"])
def test_feature_flags(feature: str) -> None:
    # Old programs test these before they rely on the feature; modern greenlets have them all.
    assert getattr(greenlet, f"GREENLET_USE_{feature}")


def test_type_names() -> None:
    assert greenlet.greenlet.__name__ == "greenlet"
    assert greenlet.greenlet.__module__ == "greenlet"
    assert greenlet.error.__module__ == "greenlet"
    assert greenlet.GreenletExit.__module__ == "greenlet"


def test_class_carries_the_module_functions() -> None:
    assert greenlet.greenlet.getcurrent() is greenlet.getcurrent()
    assert greenlet.greenlet.GreenletExit is greenlet.GreenletExit
    assert greenlet.greenlet.error is greenlet.error


@pytest.mark.parametrize("name", ["switch", "throw", "dead", "parent", "run", "gr_frame"])
def test_class_attributes(name: str) -> None:
    assert hasattr(greenlet.greenlet, name)


@pytest.mark.parametrize("obj", ["greenlet", "getcurrent"])
def test_docstrings(obj: str) -> None:
    assert getattr(greenlet, obj).__doc__
    assert greenlet.greenlet.switch.__doc__
    assert greenlet.greenlet.throw.__doc__


def test_extension_module() -> None:
    """Programs that check for the C implementation, and greenlet's tests, import this one."""
    from greenlet import _greenlet

    assert sys.modules["greenlet._greenlet"] is _greenlet
    assert _greenlet.greenlet is greenlet.greenlet
    assert _greenlet.GREENLET_USE_STANDARD_THREADING


def test_main_greenlets_are_counted() -> None:
    from greenlet._greenlet import get_pending_cleanup_count, get_total_main_greenlets

    greenlet.getcurrent()
    before = get_total_main_greenlets()
    assert before >= 1
    counts: list[int] = []
    mains: list[greenlet.greenlet] = []

    def use_greenlets() -> None:
        mains.append(greenlet.getcurrent())
        counts.append(get_total_main_greenlets())

    thread = threading.Thread(target=use_greenlets)
    thread.start()
    thread.join()
    assert counts == [before + 1]
    assert mains.pop() is not greenlet.getcurrent()
    # The peer drops what an ended thread leaves behind a little later.
    deadline = time.monotonic() + 30
    while get_total_main_greenlets() > before or get_pending_cleanup_count():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_optional_cleanup() -> None:
    assert greenlet.CLOCKS_PER_SEC > 1
    clocks = greenlet.get_clocks_used_doing_optional_cleanup()
    assert clocks is not None
    assert clocks >= 0
    try:
        greenlet.enable_optional_cleanup(False)
        assert greenlet.get_clocks_used_doing_optional_cleanup() is None
    finally:
        greenlet.enable_optional_cleanup([True])
    assert greenlet.get_clocks_used_doing_optional_cleanup() == 0

    class Undecided:
        def __bool__(self) -> bool:
            raise LookupError

    with pytest.raises(LookupError):
        greenlet.enable_optional_cleanup(Undecided())


def test_value_for_the_thread() -> None:
    """It lives until the thread ends, whatever greenlet it was set in."""
    from greenlet._greenlet import set_thread_local

    class Value:
        pass

    refs: list[weakref.ref[Value]] = []

    def body() -> None:
        value = Value()
        refs.append(weakref.ref(value))
        set_thread_local("key of a test", value)

    def use_greenlets() -> None:
        greenlet.greenlet(body).switch()
        alive.append(refs[0]() is not None)

    alive: list[bool] = []
    thread = threading.Thread(target=use_greenlets)
    thread.start()
    thread.join()
    assert alive == [True]
    assert refs[0]() is None
    with pytest.raises(TypeError, match="hashable"):
        set_thread_local([], 1)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the interpreter does not count any more")
def test_trash_nesting_belongs_to_the_greenlet() -> None:
    from greenlet._greenlet import get_tstate_trash_delete_nesting as nesting

    class Witness:
        def __del__(self) -> None:
            inside.append((nesting(), greenlet.greenlet(nesting).switch()))

    inside: list[tuple[int, int]] = []
    assert nesting() == 0
    chain: Any = Witness()
    for _ in range(5):
        chain = (chain,)
    del chain
    ((depth, depth_in_another),) = inside
    assert depth >= 5
    assert depth_in_another == 0
    assert nesting() == 0

"""Patching of what tracers and profilers have wrapped, before or after it."""

from __future__ import annotations

from typing import Any

import pytest

WRAPPERS = """
import functools, wrapt

calls = []

def by_functools(original):
    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        calls.append(original)
        return original(*args, **kwargs)
    return wrapper

def by_wrapt(original):
    def wrapper(wrapped, instance, args, kwargs):
        calls.append(wrapped)
        return wrapped(*args, **kwargs)
    return wrapt.FunctionWrapper(original, wrapper)

def twice(original):
    return by_wrapt(by_functools(original))

def without_a_place(original):
    table = {"original": original}
    @functools.wraps(original)
    def wrapper(*args):
        calls.append(table["original"])
        return table["original"](*args)
    return wrapper

def plain(original):
    def wrapper(*args):
        calls.append(original)
        return original(*args)
    return wrapper
"""


@pytest.fixture
def run(run_script: Any) -> Any:
    """A function that runs a script in which `wrapper` is one of those above."""

    def run(wrapper: str, script: str, **options: Any) -> Any:
        return run_script(WRAPPERS + f"wrapper = {wrapper}\n" + script, **options)

    return run


KEPT = pytest.mark.parametrize("wrapper", ["by_functools", "by_wrapt", "twice"])


@KEPT
def test_wrapped_before(run: Any, wrapper: str) -> None:
    """The wrapper stays, and calls what is cooperative."""
    script = """
import time
original = time.sleep
time.sleep = wrapped = wrapper(original)
from gevent import monkey
monkey.patch_all()
import gevent

assert time.sleep is wrapped
assert monkey.get_original("time", "sleep") is original
assert monkey.is_object_patched("time", "sleep")
order = []
other = gevent.spawn(order.append, "other")
time.sleep(0.01)
assert order == ["other"]
assert calls and original not in calls
"""
    run(wrapper, script).check_quiet()


@KEPT
def test_a_wrapped_lock(run: Any, wrapper: str) -> None:
    script = """
import threading
native = type(threading.Lock())
threading.Lock = wrapped = wrapper(threading.Lock)
from gevent import monkey
monkey.patch_all()
import gevent, queue

assert threading.Lock is wrapped
lock = threading.Lock()
assert calls and type(lock) is not native
lock.acquire()
gevent.spawn(lock.release)
lock.acquire()
before = len(calls)
shared = queue.Queue()
shared.mutex  # made when somebody asks for it
assert len(calls) > before
gevent.spawn(shared.put, "item")
assert shared.get() == "item"
"""
    run(wrapper, script).check_quiet()


@pytest.mark.parametrize("wrapper", ["by_functools", "by_wrapt", "twice", "plain"])
def test_wrapped_after(run: Any, wrapper: str) -> None:
    """Patching again leaves what is there, and the original is the one from before patching."""
    script = """
import threading, time
original = time.sleep
from gevent import monkey
monkey.patch_all()
time.sleep = sleep = wrapper(time.sleep)
threading.Lock = lock = wrapper(threading.Lock)
monkey.patch_time()
monkey.patch_thread()
assert time.sleep is sleep and threading.Lock is lock
assert monkey.get_original("time", "sleep") is original
assert threading.Lock().acquire()
"""
    run(wrapper, script).check_quiet()


def test_a_wrapper_that_cannot_stay(run: Any) -> None:
    script = """
import time, warnings
original = time.sleep
time.sleep = wrapper(original)
from gevent import monkey
with warnings.catch_warnings(record=True) as caught:
    monkey.patch_time()
[warning] = caught
assert issubclass(warning.category, monkey.MonkeyPatchWarning)
print(str(warning.message).partition(" by ")[0])
time.sleep(0)
assert not calls
assert monkey.get_original("time", "sleep") is original
"""
    assert run("without_a_place", script).check_quiet() == "time.sleep has been wrapped\n"


def test_a_lock_that_is_replaced_by_something_else(run: Any) -> None:
    """Nothing tells what it wraps: it would go on to make native locks."""
    script = """
import threading, warnings
threading.Lock = wrapper(threading.Lock)
from gevent import monkey
with warnings.catch_warnings(record=True) as caught:
    monkey.patch_all()
    monkey.patch_thread()
[warning] = caught
print(str(warning.message).partition(" by ")[0])
import gevent
lock = threading.Lock()
lock.acquire()
gevent.spawn(lock.release)
lock.acquire()
assert not calls
"""
    assert run("plain", script).check_quiet() == "threading.Lock had been replaced\n"

"""Exceptions that ctypes has the interpreter raise in threads that are greenlets."""

from __future__ import annotations

from typing import Any

import pytest

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import ctypes, sys, threading, time

class Stop(Exception):
    pass

def stop(ident, error=Stop):
    return ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(error)
    )
"""

#: What is done in a thread that is to be stopped.
WAITS = {
    "sleep": "time.sleep(100)",
    "lock": "threading.Event().wait()",
    "loop": "while True: time.sleep(0)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_thread_is_stopped(run_script: Any, wait: str) -> None:
    script = f"""
{PROGRAM}
def work():
    try:
        running.set()
        {WAITS[wait]}
    except Stop:
        print("stopped")

running = threading.Event()
thread = threading.Thread(target=work)
thread.start()
running.wait()
print(stop(thread.ident))
thread.join(60)
print(thread.is_alive(), stop(thread.ident), stop(2**60 + 1))
"""
    assert run_script(script).check_quiet() == "1\nstopped\nFalse 0 0\n"


def test_a_timer_stops_the_main_thread_and_not_itself(run_script: Any) -> None:
    script = f"""
{PROGRAM}
def ring():
    print(stop(main))
    print("the timer goes on")

main = threading.get_ident()
timer = threading.Timer(0.001, ring)
timer.start()
try:
    time.sleep(100)
except Stop:
    print("stopped")
timer.join()
"""
    assert run_script(script).check_quiet() == "1\nthe timer goes on\nstopped\n"


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_thread_stops_itself_at_once(run_script: Any, where: str) -> None:
    script = f"""
{PROGRAM}
def work():
    try:
        print(stop(threading.get_ident()))
        while True:
            pass
    except Stop:
        print("stopped")

if {where == "main"}:
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
    assert run_script(script).check_quiet().endswith("stopped\n")


def test_a_thread_that_has_not_begun_is_stopped_where_it_waits(run_script: Any) -> None:
    script = f"""
{PROGRAM}
import _thread

def work():
    print("began")
    try:
        time.sleep(100)
    finally:
        done.set()

done = threading.Event()
sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__)
ident = _thread.start_new_thread(work, ())
print(stop(ident))
done.wait()
time.sleep(0)
"""
    assert run_script(script).check_quiet() == "1\nbegan\nStop\n"


def test_what_has_not_been_raised_can_be_taken_back_or_replaced(run_script: Any) -> None:
    script = f"""
{PROGRAM}
class Other(Exception):
    pass

def work():
    try:
        time.sleep(0.05)
        print("not stopped")
        threading.Event().wait()
    except Exception as error:
        print(type(error).__name__)
    time.sleep(0.05)
    print("goes on")

thread = threading.Thread(target=work)
thread.start()
nothing = (None, 0, ctypes.py_object())
for it in nothing:
    print(stop(thread.ident), end=" ")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), it)
time.sleep(0.2)
stop(thread.ident)
stop(thread.ident, Other)
thread.join()
"""
    assert run_script(script).check_quiet() == "1 1 1 not stopped\nOther\ngoes on\n"


def test_the_function_is_configured_as_any_other(run_script: Any) -> None:
    script = f"""
{PROGRAM}
function = ctypes.pythonapi.PyThreadState_SetAsyncExc
function.argtypes = (ctypes.c_ulong, ctypes.py_object)
assert function.argtypes == (ctypes.c_ulong, ctypes.py_object)
assert function.restype is ctypes.c_int

thread = threading.Thread(target=time.sleep, args=(100,))
threading.excepthook = lambda args: print(args.exc_type.__name__)
thread.start()
print(function(thread.ident, Stop), function(-1, Stop))
thread.join()
try:
    function("no number", Stop)
except ctypes.ArgumentError:
    print("refused")
"""
    assert run_script(script).check_quiet() == "1 0\nStop\nrefused\n"


def test_threads_that_are_native_are_the_interpreters(run_script: Any) -> None:
    script = f"""
{PROGRAM}
def work():
    idents.append(native_ident())
    try:
        while True:
            native_sleep(0.001)
    except Stop:
        print("stopped")

idents = []
native_ident = monkey.get_original("threading", "get_ident")
native_sleep = monkey.get_original("time", "sleep")
import gevent
pool = gevent.get_hub().threadpool
result = pool.spawn(work)
while not idents:
    time.sleep(0.001)
stopped = stop(idents[0])
result.get()
print(stopped)
"""
    assert run_script(script).check_quiet() == "stopped\n1\n"

"""Loops within other loops: what `loop.fileno()` tells whoever waits on it."""

import os
import select
import signal
import threading

import gevent
import pytest
from gevent import core

GUARD = 60


@pytest.fixture
def loop():
    made = core.loop(default=False)
    if made.fileno() is None:
        made.destroy()
        pytest.skip("the backend has no descriptor")
    yield made
    made.destroy()


def is_told(loop, timeout=0):
    return bool(select.select([loop.fileno()], [], [], timeout)[0])


def call_in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def by_async(loop, called):
    watcher = loop.async_()
    watcher.start(called.append, watcher)
    return watcher.send


def by_async_of_a_thread(loop, called):
    send = by_async(loop, called)
    return lambda: call_in_thread(send)


def by_callback_of_a_thread(loop, called):
    return lambda: call_in_thread(loop.run_callback_threadsafe, called.append, None)


def by_callback(loop, called):
    return lambda: loop.run_callback(called.append, None)


def by_feeding(loop, called):
    watcher = loop.io(0, core.READ)
    return lambda: watcher.feed(core.READ, called.append, watcher)


def by_signal(loop, called):
    watcher = loop.signal(signal.SIGUSR1)
    watcher.start(called.append, watcher)
    return lambda: os.kill(os.getpid(), signal.SIGUSR1)


WAYS = [
    by_async,
    by_async_of_a_thread,
    by_callback_of_a_thread,
    by_callback,
    by_feeding,
    by_signal,
]


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_on_the_descriptor_is_told(loop, way):
    called = []
    wake = way(loop, called)
    assert not is_told(loop)
    for count in range(1, 4):
        wake()
        assert is_told(loop, GUARD)
        loop.run(nowait=True)
        assert len(called) == count
        assert not is_told(loop)


@pytest.mark.parametrize("way", WAYS)
def test_what_came_before_the_descriptor_was_asked_for_is_told(way):
    loop = core.loop(default=False)
    called = []
    way(loop, called)()
    if loop.fileno() is None:
        pytest.skip("the backend has no descriptor")
    assert is_told(loop, GUARD)
    loop.run(nowait=True)
    assert len(called) == 1
    assert not is_told(loop)
    loop.destroy()


def test_what_is_left_by_break_is_told(loop):
    called = []
    loop.run_callback(loop.break_)
    loop.run_callback(called.append, 1)
    loop.run()
    assert called == []
    assert is_told(loop)
    loop.run(nowait=True)
    assert called == [1]
    assert not is_told(loop)


def test_a_forked_child_is_told_of_its_own_loop(loop):
    called = []
    watcher = loop.async_()
    watcher.start(called.append, 1)
    watcher.send()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # What was pending still is, and what is sent later is told anew.
            for count in (1, 2):
                if not is_told(loop, GUARD):
                    os._exit(2)
                loop.run(nowait=True)
                if len(called) != count or is_told(loop):
                    os._exit(3)
                watcher.send()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert is_told(loop, GUARD)
    loop.run(nowait=True)
    assert called == [1]


def test_a_loop_in_a_loop(loop):
    outer = core.loop(default=False)
    called = []
    watcher = loop.async_()

    def tell():
        called.append(len(called))
        if len(called) == 3:
            outer.break_()

    watcher.start(tell)
    inner = outer.io(loop.fileno(), core.READ)
    inner.start(lambda: loop.run(nowait=True))
    guard = outer.timer(GUARD)
    guard.start(outer.break_)

    def send():
        for count in range(3):
            watcher.send()
            while len(called) == count:
                pause.wait(0.001)

    pause = threading.Event()
    sender = threading.Thread(target=send)
    sender.start()
    outer.run()
    pause.set()
    sender.join()
    assert called == [0, 1, 2]
    outer.destroy()


def test_many_threads_lose_nothing(loop):
    """Callbacks from threads that race with a loop that is waited for from outside."""
    threads, each = 3, 2000
    called = [0]

    def count():
        called[0] += 1

    def work():
        for _ in range(each):
            loop.run_callback_threadsafe(count)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    while called[0] < threads * each:
        assert is_told(loop, GUARD), "a wake-up was lost"
        loop.run(nowait=True)
    for worker in workers:
        worker.join()


def test_greenlets_wait_on_it(loop):
    called = []
    watcher = loop.async_()
    watcher.start(called.append, 1)
    sender = threading.Timer(0.01, watcher.send)
    sender.start()
    with gevent.Timeout(GUARD):
        gevent.get_hub().wait(gevent.get_hub().loop.io(loop.fileno(), core.READ))
    loop.run(nowait=True)
    assert called == [1]
    sender.join()

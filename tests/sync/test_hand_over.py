"""A call handed to a worker thread begins whatever the hub does meanwhile."""

import threading

import greenloop
from greenloop.threadpool import ThreadPool

GUARD = 60


def idle_pool():
    """A pool with one thread, which waits for a job."""
    pool = ThreadPool(1)
    pool.apply(int)
    greenloop.sleep(0.01)
    return pool


def test_a_prepare_watcher_that_blocks():
    pool, started = idle_pool(), threading.Event()
    loop = greenloop.get_hub().loop
    watcher = loop.prepare()
    in_time = []

    def block():
        watcher.stop()
        in_time.append(started.wait(GUARD))

    for _ in range(3):
        started.clear()
        watcher.start(block)
        assert pool.apply(started.set) is None
    assert in_time == [True] * 3
    pool.kill()


def test_a_callback_that_blocks():
    pool, started = idle_pool(), threading.Event()
    loop = greenloop.get_hub().loop
    in_time = []

    def block():
        in_time.append(started.wait(GUARD))

    watcher = loop.prepare()
    watcher.start(lambda: (watcher.stop(), loop.run_callback(block)))
    pool.apply(started.set)
    assert in_time == [True]
    pool.kill()


def test_another_loop_that_is_run():
    pool, started = idle_pool(), threading.Event()
    hub = greenloop.get_hub()
    other = greenloop.core.loop(default=False)
    ended = other.async_()
    ended.start(other.break_)
    in_time = []

    def run_other():
        watcher.stop()
        guard = other.timer(GUARD)
        guard.start(other.break_)
        other.run()
        in_time.append(started.is_set())
        guard.stop()

    watcher = hub.loop.prepare()
    watcher.start(run_other)
    pool.apply(lambda: (started.set(), ended.send()))
    assert in_time == [True]
    pool.kill()
    ended.stop()
    other.destroy()


def test_a_call_that_nobody_waits_for_any_more():
    pool, called = idle_pool(), threading.Event()
    waiting = greenloop.spawn(pool.apply, called.set)
    hub = greenloop.get_hub()
    watcher = hub.loop.prepare()
    watcher.start(lambda: (watcher.stop(), waiting.kill(block=False)))
    greenloop.sleep(0)
    waiting.join()
    assert called.wait(GUARD)
    pool.kill()


def test_idle_watchers_do_not_keep_it_back():
    pool, started = idle_pool(), threading.Event()
    watcher = greenloop.get_hub().loop.idle()
    in_time = []
    watcher.start(lambda: in_time.append(started.wait(GUARD)))
    pool.apply(started.set)
    watcher.stop()
    assert in_time
    assert all(in_time)
    pool.kill()

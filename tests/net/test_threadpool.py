"""Native threads for blocking calls."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import threading
import time
import weakref

import gevent
import pytest
from conftest import GUARD
from gevent.threadpool import ThreadPool, ThreadPoolExecutor

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
ours_only = pytest.mark.skipif(PEER, reason="about greenloop's own pool")


@pytest.fixture
def pool():
    """A pool of three threads."""
    pool = ThreadPool(3)
    yield pool
    pool.kill()


def test_apply_runs_in_another_thread(pool):
    assert pool.apply(threading.get_ident) != threading.get_ident()
    assert pool.apply(divmod, (7, 2)) == (3, 1)
    assert pool.apply(dict, kwds={"a": 1}) == {"a": 1}


def test_apply_lets_others_run(pool):
    go = threading.Event()
    waiting = gevent.spawn(pool.apply, go.wait, (GUARD,))
    gevent.sleep(0.01)
    assert not waiting.ready()
    go.set()
    assert waiting.get(timeout=GUARD) is True


def test_errors_are_raised_where_the_result_is_wanted(pool):
    with pytest.raises(ZeroDivisionError):
        pool.apply(divmod, (1, 0))
    result = pool.spawn(divmod, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(timeout=GUARD)
    assert isinstance(result.exception, ZeroDivisionError)
    assert caught.tb is not None
    assert pool.apply(abs, (-1,)) == 1


def test_spawn_gives_a_result(pool):
    results = [pool.spawn(pow, index, 2) for index in range(10)]
    assert [result.get(timeout=GUARD) for result in results] == [i * i for i in range(10)]
    assert pool.spawn(sorted, [1, 2], reverse=True).get(timeout=GUARD) == [2, 1]


def test_maps(pool):
    assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]
    assert list(pool.imap(abs, range(-20, 0))) == list(range(20, 0, -1))
    assert sorted(pool.imap_unordered(abs, range(-20, 0))) == list(range(1, 21))
    assert pool.map_async(abs, [-1]).get(timeout=GUARD) == [1]
    assert pool.apply_async(abs, (-1,)).get(timeout=GUARD) == 1
    with pytest.raises(TypeError):
        pool.map(abs, ["x"])


def test_number_of_threads_is_limited(pool):
    lock = threading.Lock()
    state = {"now": 0, "most": 0}

    def task():
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        time.sleep(0.002)
        with lock:
            state["now"] -= 1

    greenlets = [gevent.spawn(pool.apply, task) for _ in range(30)]
    gevent.joinall(greenlets, timeout=GUARD, raise_error=True)
    assert 1 <= state["most"] <= 3
    assert pool.size <= 3


def test_threads_are_started_when_they_are_needed(pool):
    assert pool.size == 0
    pool.apply(abs, (1,))
    assert pool.size == 1
    for _ in range(5):
        pool.apply(abs, (1,))
        gevent.sleep(0.005)
    assert pool.size == 1


def test_spawn_waits_while_the_pool_is_full():
    pool = ThreadPool(1)
    go = threading.Event()
    spawned = []

    def spawn():
        for _ in range(5):
            spawned.append(pool.spawn(go.wait, GUARD))  # noqa: PERF401 -- seen while it waits

    spawning = gevent.spawn(spawn)
    gevent.sleep(0.02)
    assert len(spawned) == 2
    go.set()
    spawning.get(timeout=GUARD)
    gevent.wait(spawned, timeout=GUARD)
    assert all(result.get() for result in spawned)
    pool.kill()


def test_join_waits_for_all_calls(pool):
    done = []

    def task():
        time.sleep(0.005)
        done.append(1)

    for _ in range(6):
        gevent.spawn(pool.apply, task)
    gevent.sleep(0)
    assert len(pool) > 0
    pool.join()
    assert len(done) == 6
    assert len(pool) == 0
    pool.join()


def test_killed_waiter_leaves_the_thread(pool):
    go = threading.Event()
    finished = threading.Event()

    def task():
        go.wait(GUARD)
        finished.set()

    for kill in (True, False):
        go.clear()
        finished.clear()
        waiting = gevent.spawn(pool.apply, task)
        gevent.sleep(0.005)
        if kill:
            waiting.kill()
        else:
            with pytest.raises(gevent.Timeout), gevent.Timeout(0.005):
                waiting.get()
            waiting.kill()
        go.set()
        pool.join()
        assert finished.is_set()
    assert pool.apply(abs, (-5,)) == 5


def test_maxsize_can_be_changed():
    pool = ThreadPool(1)
    go = threading.Event()
    results = []
    spawning = gevent.spawn(lambda: results.extend(pool.spawn(go.wait, GUARD) for _ in range(6)))
    gevent.sleep(0.01)
    pool.maxsize = 5
    assert pool.maxsize == 5
    spawning.get(timeout=GUARD)
    deadline = time.monotonic() + GUARD
    while pool.size < 5 and time.monotonic() < deadline:
        gevent.sleep(0.001)
    assert pool.size == 5
    go.set()
    pool.join()
    pool.maxsize = 2
    while pool.size > 2 and time.monotonic() < deadline:
        gevent.sleep(0.001)
    assert pool.size <= 2
    for _ in range(10):
        assert pool.spawn(abs, -1).get(timeout=GUARD) == 1
    pool.kill()
    with pytest.raises(ValueError, match="must not be negative"):
        pool.maxsize = -1
    with pytest.raises(TypeError, match="must be integer"):
        pool.maxsize = "2"


def test_size_can_be_set(pool):
    pool.size = 2
    assert pool.size == 2
    pool.size = 0
    assert pool.size == 0
    assert pool.apply(abs, (-1,)) == 1
    with pytest.raises(ValueError, match="cannot be negative"):
        pool.size = -1
    with pytest.raises(ValueError, match="cannot be bigger than maxsize"):
        pool.size = 4


def test_nothing_is_kept_of_a_call(pool):
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    assert pool.apply(lambda x: x, (thing,)) is thing
    assert pool.spawn(lambda x: x, thing).get(timeout=GUARD) is thing
    del thing
    gevent.sleep(0.01)
    gc.collect()
    assert gone() is None


def test_nested_apply(pool):
    assert pool.apply(lambda: pool.apply(abs, (-1,))) == 1


def test_pool_of_the_hub():
    pool = gevent.get_hub().threadpool
    assert isinstance(pool, ThreadPool)
    assert pool.apply(abs, (-3,)) == 3


@ours_only
def test_waiting_in_vain_is_noticed_with_idle_threads(pool):
    # Threads that wait for work will not wake anybody.
    pool.map(abs, range(5))
    script_thread_count = pool.size
    assert script_thread_count >= 1
    with pytest.raises(gevent.exceptions.LoopExit):
        gevent.event.Event().wait()


def test_executor():
    with ThreadPoolExecutor(2) as executor:
        future = executor.submit(divmod, 7, 2)
        assert future.result(timeout=GUARD) == (3, 1)
        assert future.done()
        failing = executor.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            failing.result(timeout=GUARD)
        if not PEER:
            assert isinstance(failing.exception(), ZeroDivisionError)
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        called = []
        slow = executor.submit(time.sleep, 0.01)
        slow.add_done_callback(called.append)
        with pytest.raises(concurrent.futures.TimeoutError):
            slow.result(timeout=0)
        gevent.wait([slow], timeout=GUARD)
        gevent.sleep(0)
        assert called == [slow]
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


EXITS = """
    import sys, threading, time
    import gevent
    from gevent.threadpool import ThreadPool

    pool = ThreadPool(4)
    pool.map(abs, range(10))
    for seconds in (0.2, 60):
        gevent.spawn(pool.apply, time.sleep, (seconds,))

    def compute():
        while True:
            sum(range(1000))

    gevent.spawn(pool.apply, compute)
    gevent.sleep(0.02)
    print("done")
"""


def test_threads_do_not_keep_the_process(run_script):
    start = time.monotonic()
    assert run_script(EXITS).check() == "done\n"
    assert time.monotonic() - start < 50


FORKS = """
    import os, threading, time
    import gevent
    from gevent.threadpool import ThreadPool

    pool = ThreadPool(2)
    pool.map(abs, range(10))
    gevent.spawn(pool.apply, time.sleep, (60,))
    gevent.sleep(0.02)
    pid = gevent.fork()
    if pid == 0:
        ok = pool.apply(divmod, (7, 2)) == (3, 1)
        ok = ok and pool.spawn(abs, -1).get(timeout=30) == 1
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert pool.apply(abs, (-2,)) == 2
    print("done")
"""


@ours_only
def test_pool_in_a_forked_child(run_script):
    assert run_script(FORKS).check() == "done\n"

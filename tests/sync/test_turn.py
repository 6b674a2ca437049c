"""Code for threads that relies on being interrupted: locks give way to others."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.lock import RLock

from greenloop.lock import Lock
from greenloop.thread import RLock as ThreadRLock

# A hang guard: seconds.
LIMIT = 30.0


@pytest.fixture(autouse=True)
def hub():
    """Locks give way only where there is a hub."""
    return gevent.get_hub()


def spin(condition, action):
    """Do something until a condition comes true; return whether it has."""
    end = time.perf_counter() + LIMIT
    while not condition():
        action()
        if time.perf_counter() > end:
            return False
    return True


def take_and_release(lock):
    with lock:
        pass


@pytest.mark.parametrize("kind", [Lock, ThreadRLock])
def test_who_takes_locks_all_the_time_lets_others_run(kind):
    ran = []
    lock = kind()
    other = gevent.spawn(ran.append, True)
    assert spin(lambda: ran, lambda: take_and_release(lock))
    other.join()


@pytest.mark.parametrize("kind", [Lock, ThreadRLock])
def test_timers_run_meanwhile(kind):
    ran = []
    lock = kind()
    other = gevent.spawn_later(0.01, ran.append, True)
    assert spin(lambda: ran, lambda: take_and_release(lock))
    other.join()


@pytest.mark.parametrize("kind", [Lock, ThreadRLock])
def test_who_tries_a_lock_again_and_again_lets_its_owner_run(kind):
    lock = kind()
    acquired = []

    def own():
        with lock:
            gevent.sleep(0)

    owner = gevent.spawn(own)
    gevent.sleep(0)
    assert lock.locked()
    assert spin(lambda: acquired, lambda: lock.acquire(False) and acquired.append(True))
    lock.release()
    owner.join()


def test_a_timeout_ends_it(hub):
    lock = Lock()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        spin(lambda: False, lambda: take_and_release(lock))
    assert not lock.locked()


def test_taken_again_by_its_owner_it_does_not_give_way():
    ran = []
    lock = ThreadRLock()
    with lock:
        other = gevent.spawn(ran.append, True)
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            take_and_release(lock)
        assert not ran
    other.join()


@pytest.mark.parametrize("kind", [Lock, ThreadRLock])
def test_single_attempts_do_not_give_way(kind, hub):
    """As finalizers make them, however long the greenlet has run."""
    ran = []
    locks = [kind() for _ in range(100)]
    for lock in locks:
        gevent.spawn(lock.acquire).join()
    other = gevent.spawn(ran.append, True)
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        for lock in locks:
            assert not lock.acquire(False)
            assert not lock.acquire(blocking=False)
    assert not ran
    other.join()


def test_gevents_own_lock_does_not_give_way():
    ran = []
    lock = RLock()
    other = gevent.spawn(ran.append, True)
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        take_and_release(lock)
    assert not ran
    other.join()


def test_it_takes_the_switch_interval(hub):
    interval = gevent.getswitchinterval()
    ran = []
    lock = Lock()
    gevent.setswitchinterval(3600)
    try:
        other = gevent.spawn(ran.append, True)
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            take_and_release(lock)
        assert not ran
    finally:
        gevent.setswitchinterval(interval)
    other.join()


def test_not_in_the_hub(hub):
    """Where nothing may wait."""
    lock = Lock()
    done = []

    def call():
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            take_and_release(lock)
        done.append(True)

    hub.loop.run_callback(call)
    gevent.sleep(0.01)
    assert done == [True]


def test_polling_a_queue(run_script):
    """Threads that ask again and again: none of them keeps the others from running."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, threading

        tasks = queue.Queue()
        results = []

        def work():
            while True:
                try:
                    results.append(tasks.get(block=False))
                except queue.Empty:
                    continue
                if results[-1] is None:
                    return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for item in range(100):
            tasks.put(item)
        while not tasks.empty():
            pass
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            thread.join()
        assert sorted(item for item in results if item is not None) == list(range(100))
        """
    run_script(script).check_quiet()

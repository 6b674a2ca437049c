"""DummySemaphore, the link protocol of semaphores, text forms, native threads."""

import threading

import gevent
import pytest
from gevent.lock import BoundedSemaphore, DummySemaphore, RLock, Semaphore


def test_dummy_semaphore_is_never_locked():
    lock = DummySemaphore()
    DummySemaphore(5)
    for _ in range(3):
        assert lock.acquire() is True
        assert lock.acquire(False) is True
        assert lock.acquire(blocking=True, timeout=0) is True
    assert lock.locked() is False
    assert lock.ready() is True
    assert lock.wait() == 1
    assert lock.wait(timeout=0) == 1
    assert lock.release() is None
    with lock:
        pass
    assert lock.rawlink(print) is None
    assert lock.unlink(print) is None
    assert str(lock) == "<DummySemaphore>"


def test_ready_is_the_opposite_of_locked():
    lock = Semaphore(1)
    assert lock.ready()
    lock.acquire()
    assert not lock.ready()


def test_release_returns_the_counter():
    lock = BoundedSemaphore(2)
    lock.acquire()
    lock.acquire()
    assert lock.release() == 1
    assert lock.release() == 2


def test_enter_returns_none():
    with Semaphore() as entered:
        assert entered is None


def test_rawlink_and_unlink():
    lock = Semaphore(0)
    seen, other = [], []
    lock.rawlink(seen.append)
    lock.rawlink(other.append)
    lock.unlink(other.append)
    lock.release()
    gevent.sleep(0)
    assert seen == [lock]
    assert other == []


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_who_linked_first_is_told_first(kind):
    lock = kind(1)
    lock.acquire()
    seen = []

    def wait():
        lock.acquire()
        seen.append("acquired")
        lock.release()

    lock.rawlink(lambda _: seen.append("first"))
    waiters = [gevent.spawn(wait) for _ in range(2)]
    gevent.sleep(0)
    lock.release()
    gevent.joinall(waiters)
    gevent.sleep(0)
    assert seen == ["first", "acquired", "acquired"]


def test_rawlink_needs_a_callable():
    with pytest.raises(TypeError):
        Semaphore().rawlink(5)


def test_can_be_waited_for():
    lock = Semaphore(0)
    gevent.spawn(lock.release)
    assert gevent.wait([lock], timeout=30) == [lock]
    assert lock.counter == 1


def test_str():
    lock = Semaphore(3)
    assert str(lock) == f"<Semaphore at {hex(id(lock))} counter=3 _links[0]>"
    assert str(BoundedSemaphore()).startswith("<BoundedSemaphore at 0x")


def test_rlock_locked_and_repr():
    lock = RLock()
    assert lock.locked() is False
    assert repr(lock).startswith(f"<RLock at {hex(id(lock))} ")
    with lock:
        assert lock.locked() is True


def test_many_permits_wake_many_waiters():
    lock = Semaphore(0)
    gs = [gevent.spawn(lock.acquire) for _ in range(10)]
    gevent.sleep(0)
    for _ in range(10):
        lock.release()
    gevent.joinall(gs, timeout=30)
    assert [g.value for g in gs] == [True] * 10
    assert lock.counter == 0


def test_released_by_a_native_thread():
    lock = Semaphore(1)
    lock.acquire()
    thread = threading.Timer(0.01, lock.release)
    thread.start()
    assert lock.acquire(timeout=30) is True
    thread.join()


def test_shared_by_native_threads_without_hubs():
    lock = BoundedSemaphore(1)
    total = 0

    def worker():
        nonlocal total
        for _ in range(100):
            with lock:
                seen = total
                total = seen + 1

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        gevent.sleep(0.001)
    assert total == 300
    assert lock.counter == 1

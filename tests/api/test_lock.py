"""Semaphore, BoundedSemaphore and RLock."""

import weakref

import gevent
import pytest
from gevent import Timeout
from gevent.lock import BoundedSemaphore, RLock, Semaphore

SEMAPHORES = [Semaphore, BoundedSemaphore]


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_acquire_and_release_count(kind):
    lock = kind(2)
    assert lock.counter == 2
    assert not lock.locked()
    assert lock.acquire() is True
    assert lock.counter == 1
    assert not lock.locked()
    assert lock.acquire() is True
    assert lock.counter == 0
    assert lock.locked()
    lock.release()
    lock.release()
    assert lock.counter == 2


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_default_value_is_one(kind):
    assert kind().counter == 1


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_bad_values(kind):
    with pytest.raises(ValueError):
        kind(-1)
    with pytest.raises(TypeError):
        kind("x")
    with pytest.raises(TypeError):
        kind(None)


@pytest.mark.parametrize("kind", [*SEMAPHORES, RLock])
def test_acquire_without_blocking(kind, never_switches):
    lock = kind(1) if kind is not RLock else RLock()
    holder = gevent.spawn(lambda: (lock.acquire(), gevent.sleep(100)))
    gevent.sleep(0)
    with never_switches():
        assert lock.acquire(False) is False
        assert lock.acquire(blocking=False) is False
        assert lock.acquire(blocking=0) is False
    holder.kill()


@pytest.mark.parametrize("timeout", [0, 0.001, -1])
@pytest.mark.parametrize("kind", SEMAPHORES)
def test_acquire_returns_false_when_the_timeout_expires(kind, timeout):
    lock = kind(1)
    lock.acquire()
    assert lock.acquire(timeout=timeout) is False
    assert lock.acquire(True, timeout) is False
    assert lock.counter == 0
    lock.release()
    assert lock.acquire(timeout=timeout) is True


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_acquire_with_a_timeout_that_is_no_number(kind):
    lock = kind(1)
    lock.acquire()
    with pytest.raises(TypeError):
        lock.acquire(timeout="x")


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_waiters_acquire_in_the_order_they_waited(kind):
    lock = kind(1)
    lock.acquire()
    order = []

    def waiter(i):
        with lock:
            order.append(i)
            gevent.sleep(0)

    gs = [gevent.spawn(waiter, i) for i in range(20)]
    gevent.sleep(0)
    lock.release()
    gevent.joinall(gs)
    assert order == list(range(20))
    assert lock.counter == 1


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_mutual_exclusion(kind):
    lock = kind(3)
    inside = 0
    most = 0

    def worker():
        nonlocal inside, most
        for _ in range(5):
            with lock:
                inside += 1
                most = max(most, inside)
                gevent.sleep(0)
                inside -= 1

    gevent.joinall([gevent.spawn(worker) for _ in range(10)])
    assert most == 3
    assert lock.counter == 3


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_with_releases_when_the_body_raises(kind):
    lock = kind(1)
    with pytest.raises(KeyError), lock:
        assert lock.locked()
        raise KeyError
    assert not lock.locked()


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_release_does_not_switch(kind, never_switches):
    lock = kind(1)
    lock.acquire()
    waiter = gevent.spawn(lock.acquire)
    gevent.sleep(0)
    with never_switches():
        lock.release()
    assert waiter.get() is True


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_any_greenlet_may_release(kind):
    lock = kind(1)
    lock.acquire()
    gevent.spawn(lock.release).join()
    assert lock.counter == 1


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_foreign_timeout_goes_through_and_takes_no_permit(kind):
    lock = kind(1)
    lock.acquire()
    with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
        lock.acquire(timeout=50)
    assert caught.value is outer
    lock.release()
    assert lock.acquire(blocking=False) is True


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_killed_waiter_takes_no_permit(kind):
    lock = kind(1)
    lock.acquire()
    first, second = gevent.spawn(lock.acquire), gevent.spawn(lock.acquire)
    gevent.sleep(0)
    first.kill()
    lock.release()
    assert second.get() is True
    assert lock.counter == 0


@pytest.mark.parametrize("kind", SEMAPHORES)
def test_wait_returns_the_free_permits_without_taking_one(kind):
    lock = kind(2)
    assert lock.wait() == 2
    assert lock.counter == 2
    lock.acquire()
    lock.acquire()
    assert lock.wait(timeout=0.001) == 0
    gevent.spawn(lock.release)
    assert lock.wait() == 1
    assert lock.counter == 1


def test_semaphore_may_exceed_its_initial_value():
    lock = Semaphore(1)
    assert lock.release() == 2
    assert lock.counter == 2


def test_bounded_semaphore_refuses_to_exceed_its_initial_value():
    lock = BoundedSemaphore(1)
    with pytest.raises(ValueError):
        lock.release()
    assert lock.counter == 1
    lock.acquire()
    lock.release()
    with pytest.raises(ValueError):
        lock.release()


def test_semaphore_with_no_permits_hands_over():
    lock = Semaphore(0)
    waiter = gevent.spawn(lock.acquire)
    gevent.sleep(0)
    assert not waiter.ready()
    lock.release()
    assert waiter.get() is True
    assert lock.locked()


@pytest.mark.parametrize("kind", [*SEMAPHORES, RLock])
def test_weak_references(kind):
    lock = kind()
    assert weakref.ref(lock)() is lock


def test_rlock_is_reentrant():
    lock = RLock()
    assert lock.acquire()
    assert lock.acquire()
    assert lock.acquire(blocking=False)
    assert gevent.spawn(lock.acquire, False).get() is False
    for _ in range(2):
        lock.release()
        assert gevent.spawn(lock.acquire, False).get() is False
    lock.release()
    assert gevent.spawn(lock.acquire, False).get()


def test_rlock_release_without_holding_it():
    lock = RLock()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()


def test_rlock_release_by_another_greenlet(capsys):
    lock = RLock()
    with lock:
        g = gevent.spawn(lock.release)
        g.join()
        assert isinstance(g.exception, RuntimeError)
        assert lock.acquire(blocking=False)
        lock.release()


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_rlock_acquire_with_timeout(timeout):
    lock = RLock()
    with lock:
        assert gevent.spawn(lock.acquire, timeout=timeout).get() is False
    assert gevent.spawn(lock.acquire, timeout=timeout).get()


def test_rlock_waiters_in_order():
    lock = RLock()
    order = []

    def waiter(i):
        with lock, lock:
            order.append(i)
            gevent.sleep(0)

    lock.acquire()
    gs = [gevent.spawn(waiter, i) for i in range(10)]
    gevent.sleep(0)
    lock.release()
    gevent.joinall(gs)
    assert order == list(range(10))


def test_rlock_with_releases_when_the_body_raises():
    lock = RLock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert gevent.spawn(lock.acquire, False).get()

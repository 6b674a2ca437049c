"""Lock and RLock as threading.Lock and threading.RLock: arguments, errors, use by Condition."""

import gc
import re
import sys
import threading
import weakref

import gevent
import pytest
from gevent import Timeout
from gevent.lock import RLock, Semaphore

from greenloop.lock import Lock
from greenloop.thread import RLock as ThreadRLock
from greenloop.thread import get_ident

KINDS = [Lock, RLock, ThreadRLock]


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_acquire(kind):
    lock = kind()
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(False, 1)
    with pytest.raises(ValueError, match="non-negative"):
        lock.acquire(timeout=-5)
    with pytest.raises(ValueError, match="NaN"):
        lock.acquire(timeout=float("nan"))
    with pytest.raises(OverflowError):
        lock.acquire(timeout=threading.TIMEOUT_MAX + 1)
    with pytest.raises(OverflowError):
        lock.acquire(timeout=1e100)
    with pytest.raises(TypeError):
        lock.acquire(timeout="1")
    with pytest.raises(TypeError):
        lock.acquire(True, 1, 2)
    assert not lock.locked()
    assert lock.acquire(False, -1) is True
    lock.release()
    assert lock.acquire(timeout=threading.TIMEOUT_MAX - 1) is True


@pytest.mark.parametrize("kind", KINDS)
def test_release_when_nobody_has_it(kind):
    with pytest.raises(RuntimeError):
        kind().release()


def test_release_of_an_unlocked_lock_says_so():
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        Lock().release()


@pytest.mark.parametrize("kind", KINDS)
def test_with_gives_true(kind):
    with kind() as entered:
        assert entered is True


def test_aliases():
    lock = Lock()
    assert lock.acquire_lock() is True
    assert lock.acquire_lock(False) is False
    assert lock.locked_lock() is True
    lock.release_lock()
    assert lock.locked_lock() is False


@pytest.mark.parametrize("kind", KINDS)
def test_timed_acquire(kind):
    lock = kind()
    lock.acquire()
    assert gevent.spawn(lock.acquire, timeout=0.001).get() is False
    assert gevent.spawn(lock.acquire, True, 0).get() is False
    waiter = gevent.spawn(lock.acquire, timeout=60)
    gevent.sleep(0)
    lock.release()
    assert waiter.get() is True


def test_any_greenlet_may_release_a_lock():
    lock = Lock()
    lock.acquire()
    gevent.spawn(lock.release).join()
    assert not lock.locked()


@pytest.mark.parametrize("kind", KINDS)
def test_reinit_after_fork_unlocks(kind):
    lock = kind()
    lock.acquire()
    lock._at_fork_reinit()
    assert not lock.locked()
    assert lock.acquire(blocking=False)
    lock.release()


@pytest.mark.parametrize("kind", [RLock, ThreadRLock])
def test_subclasses(kind):
    class Mine(kind):
        pass

    lock = Mine()
    lock.note = 1
    with lock:
        assert lock.locked()
    ref = weakref.ref(lock)
    del lock
    gc.collect()
    assert ref() is None


def test_lock_has_no_subclasses_as_the_standard_one_has_none():
    with pytest.raises(TypeError, match=r"_thread\.lock"):
        type("Mine", (Lock,), {})
    lock = Lock()
    ref = weakref.ref(lock)
    del lock
    assert ref() is None


def test_the_text_of_a_lock_is_as_of_the_standard_one():
    lock = ThreadRLock()
    assert re.fullmatch(r"<unlocked _thread\.RLock object owner=0 count=0 at 0x\w+>", repr(lock))
    lock.acquire()
    lock.acquire()
    text = rf"<locked _thread\.RLock object owner={threading.get_ident()} count=2 at 0x\w+>"
    assert re.fullmatch(text, repr(lock))
    other = ThreadRLock()
    owner = gevent.spawn(other.acquire)
    owner.join()
    assert f"owner={get_ident(owner)} count=1 at" in repr(other)
    assert re.match(r"<unlocked _thread\.lock object at ", repr(Lock()))


def test_arguments_of_rlock_are_those_of_the_standard_one():
    if sys.version_info >= (3, 15):
        with pytest.raises(TypeError):
            ThreadRLock(1)
        with pytest.raises(TypeError):
            ThreadRLock(a=1)
    else:
        assert not ThreadRLock(1, 2, a=3).locked()

    class Mine(ThreadRLock):
        def __init__(self, name, *, size):
            super().__init__()
            self.name, self.size = name, size

    lock = Mine("mine", size=1)
    assert (lock.name, lock.size, lock.locked()) == ("mine", 1, False)


def test_a_lock_on_its_way_is_nobodys():
    lock = Lock()
    lock.acquire()
    waiter = gevent.spawn(lock.acquire)
    gevent.sleep(0)
    lock.release()
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()
    waiter.join()
    assert lock.locked()


def test_reinit_while_a_lock_is_on_its_way():
    lock = Lock()
    lock.acquire()
    waiter = gevent.spawn(lock.acquire)
    gevent.sleep(0)
    lock.release()
    lock._at_fork_reinit()
    waiter.join()
    assert lock.acquire(blocking=False)
    assert lock.locked()
    lock.release()


def test_repr_of_a_lock_says_whether_it_is_locked():
    lock = Lock()
    assert repr(lock).startswith("<unlocked _thread.lock object at 0x")
    with lock:
        assert repr(lock).startswith("<locked _thread.lock object at 0x")


def test_rlock_knows_its_owner():
    lock = RLock()
    assert not lock._is_owned()
    assert lock._recursion_count() == 0
    with lock, lock:
        assert lock._is_owned()
        assert lock._recursion_count() == 2
        assert gevent.spawn(lock._is_owned).get() is False
        assert gevent.spawn(lock._recursion_count).get() == 0
    with pytest.raises(RuntimeError):
        lock._release_save()


def test_rlock_release_save_and_restore():
    lock = RLock()
    lock.acquire()
    lock.acquire()
    state = lock._release_save()
    assert not lock.locked()
    lock._acquire_restore(state)
    assert lock._recursion_count() == 2
    lock.release()
    lock.release()
    assert not lock.locked()


def test_rlock_does_not_take_the_threads_of_others_for_its_own():
    lock = RLock()
    seen = []
    with lock:
        thread = threading.Thread(
            target=lambda: seen.append((lock._is_owned(), lock.acquire(blocking=False)))
        )
        thread.start()
        thread.join()
    assert seen == [(False, False)]


@pytest.mark.parametrize("kind", KINDS)
def test_condition_between_greenlets(kind, monkeypatch):
    # What the condition makes for each who waits.
    monkeypatch.setattr(threading, "_allocate_lock", Lock)
    condition = threading.Condition(kind())
    items, got = [], []

    def consume():
        with condition:
            while not items:
                condition.wait()
            got.append(items.pop(0))

    consumers = [gevent.spawn(consume) for _ in range(5)]
    gevent.sleep(0)
    for item in range(5):
        with condition:
            items.append(item)
            condition.notify()
    gevent.joinall(consumers, timeout=60)
    assert got == list(range(5))


def test_a_killed_waiter_of_a_condition_has_the_lock_again(monkeypatch):
    monkeypatch.setattr(threading, "_allocate_lock", Lock)
    lock = RLock()
    condition = threading.Condition(lock)
    errors = []

    def wait():
        try:
            with condition:
                condition.wait()
        except RuntimeError as error:
            errors.append(error)

    waiter = gevent.spawn(wait)
    gevent.sleep(0)
    with lock:
        waiter.kill(block=False)
        gevent.sleep(0)
        # It waits for the lock, and a second kill does not change that.
        waiter.kill(block=False)
        gevent.sleep(0)
        assert not waiter.ready()
    waiter.join()
    assert errors == []
    assert isinstance(waiter.value, gevent.GreenletExit)
    assert not lock.locked()


def test_a_lock_that_nobody_can_release_is_a_loop_exit():
    lock = Lock()
    lock.acquire()
    with pytest.raises(gevent.hub.LoopExit, match=r"_thread\.lock"):
        lock.acquire()
    condition_lock = RLock()
    condition_lock.acquire()
    state = condition_lock._release_save()
    gevent.spawn(condition_lock.acquire).join()
    with pytest.raises(gevent.hub.LoopExit):
        condition_lock._acquire_restore(state)


def test_a_subclass_semaphore_is_entered_by_its_own_methods():
    log = []

    class Logged(Semaphore):
        def __init__(self, name):
            super().__init__(1)
            self.name = name

        def acquire(self, *args, **kwargs):
            log.append("acquire")
            return super().acquire(*args, **kwargs)

        def release(self):
            log.append("release")
            return super().release()

    with Logged("x") as entered:
        assert entered is None
    assert log == ["acquire", "release"]


def test_a_timeout_object_as_a_limit():
    lock = Semaphore(0)
    assert lock.acquire(timeout=Timeout(0.001)) is False
    limit = Timeout.start_new(0.001)
    assert lock.acquire(timeout=limit) is False
    limit.close()


@pytest.mark.parametrize("wait", [Semaphore(0).acquire, Semaphore(0).wait])
def test_not_a_number_is_refused(wait):
    with pytest.raises(ValueError):
        wait(timeout=float("nan"))

"""One object for greenlets of several native threads."""

import threading
import time

import gevent
import pytest
from gevent.event import AsyncResult, Event
from gevent.lock import BoundedSemaphore, RLock, Semaphore
from gevent.queue import Channel, PriorityQueue, Queue, SimpleQueue

from greenloop._core import get_hub_if_exists
from greenloop.lock import Lock


def in_threads(count, function):
    """Run `function(i)` in native threads at once and wait, letting greenlets run meanwhile."""
    errors = []

    def run(i):
        try:
            function(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        gevent.sleep(0.001)
    assert errors == []


@pytest.mark.parametrize("kind", [Lock, RLock, Semaphore, BoundedSemaphore])
def test_mutual_exclusion(kind):
    lock = kind()
    inside = 0

    def enter():
        nonlocal inside
        for _ in range(100):
            with lock:
                inside += 1
                assert inside == 1
                # Gives the GIL away in the middle.
                time.sleep(0)
                inside -= 1

    def work(i):
        gevent.joinall([gevent.spawn(enter) for _ in range(3)], raise_error=True)

    in_threads(3, work)
    assert inside == 0
    assert not lock.locked()


def test_event_wakes_waiters_of_all_threads():
    event = Event()
    started = Semaphore(0)
    woken = []

    def work(i):
        def wait():
            started.release()
            woken.append(event.wait(60))

        gevent.joinall([gevent.spawn(wait) for _ in range(3)])

    def set_when_all_wait():
        for _ in range(9):
            started.acquire()
        event.set()

    setter = gevent.spawn(set_when_all_wait)
    in_threads(3, work)
    setter.join()
    assert woken == [True] * 9


def test_result_of_another_thread():
    result = AsyncResult()
    seen = []
    in_threads(2, lambda i: seen.append(result.get(timeout=60)) if i else result.set("value"))
    assert seen == ["value"]


@pytest.mark.parametrize("make", [SimpleQueue, Queue, lambda: Queue(2), PriorityQueue, Channel])
def test_queues_deliver_each_item_once(make):
    queue = make()
    got = []
    count = 200

    def work(i):
        if i < 2:
            for item in range(count):
                queue.put((item, i))
        else:
            got.extend(queue.get(timeout=60) for _ in range(count))

    in_threads(4, work)
    assert sorted(got) == sorted((item, i) for item in range(count) for i in range(2))


def test_join_waits_for_the_work_of_other_threads():
    queue = Queue()
    for item in range(50):
        queue.put(item)

    def work(i):
        for _ in range(25):
            queue.get()
            time.sleep(0)
            queue.task_done()

    done = gevent.spawn(queue.join)
    in_threads(2, work)
    assert done.get(timeout=60) is True


def test_a_link_is_called_in_the_thread_that_made_it():
    event = Event()
    ready = threading.Event()
    called_in = []

    def work(i):
        me = threading.get_ident()
        here = Event()
        event.rawlink(lambda source: (called_in.append(threading.get_ident() == me), here.set()))
        ready.set()
        assert here.wait(60)

    setter = threading.Thread(target=lambda: (ready.wait(60), event.set()))
    setter.start()
    in_threads(1, work)
    setter.join()
    assert called_in == [True]


def test_what_does_not_wait_makes_no_hub():
    hubs = []

    def work(i):
        event, result, lock, queue = Event(), AsyncResult(), Semaphore(), Queue(1)
        event.set()
        event.wait()
        event.clear()
        result.set(1)
        result.get()
        lock.acquire()
        assert lock.acquire(blocking=False) is False
        lock.release()
        with RLock(), Lock():
            pass
        queue.put(1)
        assert queue.get() == 1
        queue.put_nowait(1)
        queue.shutdown(immediate=True)
        repr((event, result, lock, queue))
        hubs.append(get_hub_if_exists())

    in_threads(1, work)
    assert hubs == [None]


def test_the_waiters_of_a_thread_that_has_ended_are_passed_over():
    lock = Semaphore(0)
    queue = Queue()

    def work(i):
        gevent.spawn(lock.acquire)
        gevent.spawn(queue.get)
        gevent.sleep(0)

    in_threads(1, work)
    waiter, getter = gevent.spawn(lock.acquire), gevent.spawn(queue.get)
    gevent.sleep(0)
    lock.release()
    queue.put("item")
    assert waiter.get(timeout=60) is True
    assert getter.get(timeout=60) == "item"

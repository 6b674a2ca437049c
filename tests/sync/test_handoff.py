"""Hand-off: what is released goes to whoever has waited longest, and comes back if that is killed.

A greenlet that is told to die before it is woken dies with what the wake-up brought in its hands:
the tests call `kill(block=False)` first and release or put then.
"""

import random

import gevent
import pytest
from gevent import Timeout
from gevent.lock import BoundedSemaphore, RLock, Semaphore
from gevent.queue import Channel, Empty, LifoQueue, PriorityQueue, Queue, SimpleQueue

from greenloop.lock import Lock

LOCKS = [Lock, RLock, Semaphore, BoundedSemaphore]
QUEUES = [SimpleQueue, Queue, LifoQueue, PriorityQueue]


def parked(function, *args):
    """A greenlet that has run until it had to wait."""
    greenlet = gevent.spawn(function, *args)
    gevent.sleep(0)
    assert not greenlet.ready()
    return greenlet


@pytest.mark.parametrize("kind", LOCKS)
def test_nobody_gets_in_before_those_who_wait(kind):
    lock = kind()
    lock.acquire()
    waiter = parked(lock.acquire)
    lock.release()
    assert lock.acquire(blocking=False) is False
    assert waiter.get() is True
    assert lock.locked()


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_handed_to_a_dying_greenlet_passes_to_the_next(kind):
    lock = kind()
    lock.acquire()
    first, second = parked(lock.acquire), parked(lock.acquire)
    first.kill(block=False)
    lock.release()
    assert second.get() is True
    assert isinstance(first.value, gevent.GreenletExit)
    assert lock.locked()


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_handed_to_a_dying_greenlet_is_free_if_nobody_waits(kind):
    lock = kind()
    lock.acquire()
    waiter = parked(lock.acquire)
    waiter.kill(block=False)
    lock.release()
    assert lock.acquire(blocking=False) is False
    waiter.join()
    assert isinstance(waiter.value, gevent.GreenletExit)
    assert not lock.locked()
    assert lock.acquire(blocking=False) is True


@pytest.mark.parametrize("kind", LOCKS)
def test_a_kill_that_comes_after_the_release_finds_the_lock_taken(kind):
    lock = kind()
    lock.acquire()
    waiter = parked(lock.acquire)
    lock.release()
    waiter.kill()
    assert waiter.value is True
    assert lock.locked()


def test_a_permit_that_comes_back_is_told_to_those_who_watch():
    lock = Semaphore(0)
    acquirer = parked(lock.acquire)
    watcher = parked(lock.wait)
    linked = []
    lock.rawlink(linked.append)
    lock.release()
    gevent.sleep(0)
    # The permit was for the acquirer.
    assert acquirer.get() is True
    assert not watcher.ready()
    lock.release()
    assert watcher.get() == 1
    gevent.sleep(0)
    assert linked == [lock]

    lock.acquire()
    acquirer, watcher = parked(lock.acquire), parked(lock.wait)
    acquirer.kill(block=False)
    lock.release()
    assert watcher.get() == 1


def test_a_higher_counter_serves_those_who_wait():
    lock = Semaphore(0)
    waiters = [parked(lock.acquire) for _ in range(3)]
    lock.counter += 2
    assert lock.counter == 0
    gevent.sleep(0)
    assert [waiter.ready() for waiter in waiters] == [True, True, False]
    lock.counter = 5
    assert lock.counter == 4
    assert waiters[2].get() is True


def test_a_negative_counter_takes_that_many_releases_to_make_up_for():
    lock = Semaphore(0)
    waiter = parked(lock.acquire)
    lock.counter = -1
    assert lock.release() == 0
    gevent.sleep(0)
    assert not waiter.ready()
    lock.release()
    assert waiter.get() is True


@pytest.mark.parametrize("kind", QUEUES)
def test_an_item_for_a_waiting_getter_is_not_there_for_others(kind):
    queue = kind()
    getter = parked(queue.get)
    queue.put("item")
    assert queue.qsize() == 0
    assert queue.empty()
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.peek_nowait()
    assert getter.get() == "item"


@pytest.mark.parametrize("kind", QUEUES)
def test_an_item_for_a_dying_getter_passes_to_the_next(kind):
    queue = kind()
    first, second = parked(queue.get), parked(queue.get)
    first.kill(block=False)
    queue.put("item")
    assert second.get() == "item"
    assert queue.empty()


def test_items_given_back_keep_their_order():
    queue = Queue()
    getters = [parked(queue.get) for _ in range(4)]
    getters[0].kill(block=False)
    getters[2].kill(block=False)
    for item in range(6):
        queue.put(item)
    assert queue.qsize() == 2
    gevent.joinall(getters)
    got = [g.value for g in getters if not isinstance(g.value, gevent.GreenletExit)]
    rest = [queue.get_nowait() for _ in range(queue.qsize())]
    assert got + rest == list(range(6))


def test_a_peek_leaves_the_item_to_the_getter_behind_it():
    queue = Queue()
    peeker, getter = parked(queue.peek), parked(queue.get)
    queue.put("item")
    assert peeker.get() == "item"
    assert getter.get() == "item"
    assert queue.empty()


def test_a_dying_peek_leaves_the_item_to_the_getter_behind_it():
    queue = Queue()
    peeker, getter = parked(queue.peek), parked(queue.get)
    peeker.kill(block=False)
    queue.put("item")
    assert getter.get() == "item"


def test_room_goes_to_those_who_wait_for_it():
    queue = Queue(1, [0])
    putters = [parked(queue.put, 1), parked(queue.put, 2)]
    assert queue.get_nowait() == 0
    # The item is in before its owner runs.
    assert queue.full()
    assert queue.peek_nowait() == 1
    assert not putters[0].ready()
    assert [queue.get_nowait(), queue.get_nowait()] == [1, 2]
    gevent.joinall(putters)
    assert queue.empty()


def test_a_dying_putter_whose_item_was_taken():
    queue = Queue(1, [0])
    putter = parked(queue.put, 1)
    putter.kill(block=False)
    assert [queue.get_nowait(), queue.get_nowait()] == [0, 1]
    putter.join()
    assert queue.empty()
    assert isinstance(putter.value, gevent.GreenletExit)


def test_more_room_lets_putters_in():
    queue = Queue(1, [0])
    putters = [parked(queue.put, i) for i in range(1, 4)]
    queue.maxsize = 3
    assert queue.qsize() == 3
    queue.maxsize = None
    assert queue.qsize() == 4
    gevent.joinall(putters)


def test_a_claim_on_items_that_somebody_removed_waits_again():
    queue = Queue()
    getter = parked(queue.get)
    queue.put("removed")
    queue.queue.clear()
    gevent.sleep(0)
    assert not getter.ready()
    queue.put("kept")
    assert getter.get() == "kept"


def test_shutdown_between_the_put_and_the_getters_turn():
    queue = Queue()
    first, second = parked(queue.get), parked(queue.get)
    queue.put("item")
    queue.shutdown()
    assert first.get() == "item"
    with pytest.raises(gevent.queue.ShutDown):
        second.get()


def test_put_nowait_on_a_channel_needs_somebody_who_waits():
    channel = Channel()
    first, second = parked(channel.get), parked(channel.get)
    channel.put_nowait("a")
    channel.put_nowait("b")
    with pytest.raises(gevent.queue.Full):
        channel.put_nowait("c")
    assert (first.get(), second.get()) == ("a", "b")


def test_an_item_for_a_dying_channel_getter_is_there_for_the_next():
    channel = Channel()
    getter = parked(channel.get)
    getter.kill(block=False)
    channel.put_nowait("item")
    with pytest.raises(Empty):
        channel.get_nowait()
    getter.join()
    assert channel.get_nowait() == "item"
    assert channel.balance == 0


def test_a_channel_putter_that_dies_before_the_getter_it_woke_runs():
    channel = Channel()
    getter = parked(channel.get)
    putter = gevent.spawn(channel.put, "withdrawn")
    # Runs after the putter has woken the getter and before the getter's turn.
    gevent.get_hub().loop.run_callback(putter.throw, gevent.GreenletExit)
    gevent.sleep(0)
    assert isinstance(putter.value, gevent.GreenletExit)
    gevent.sleep(0)
    assert not getter.ready()
    channel.put("kept")
    assert getter.get() == "kept"
    assert channel.balance == 0


@pytest.mark.parametrize("seed", range(8))
def test_random_kills_and_timeouts_keep_the_order_of_items(seed):
    """One producer, so that the order of the items is known, and killed consumers."""
    rng = random.Random(seed)
    queue = Queue(rng.choice([None, 1, 2, 5]))
    got = []

    def consume():
        while True:
            with Timeout(rng.choice([None, 0, 0.0002]), False):
                got.append(queue.get(timeout=rng.choice([None, 50])))

    def produce():
        for item in range(400):
            queue.put(item)
            if rng.random() < 0.3:
                gevent.sleep(0)

    producer = gevent.spawn(produce)
    consumers = [gevent.spawn(consume) for _ in range(4)]
    while not producer.ready():
        i = rng.randrange(4)
        consumers[i].kill(block=rng.random() < 0.5)
        consumers[i] = gevent.spawn(consume)
        gevent.sleep(rng.choice([0, 0, 0.0003]))
    gevent.killall(consumers)
    got.extend(queue.get_nowait() for _ in range(queue.qsize()))
    assert got == list(range(400))


@pytest.mark.parametrize("seed", range(8))
def test_random_use_of_a_channel_delivers_each_item_once(seed):
    rng = random.Random(seed)
    channel = Channel()
    serial = iter(range(10**9))
    put, maybe, got = [], set(), []

    def produce():
        while True:
            item = next(serial)
            maybe.add(item)
            with Timeout(rng.choice([None, 0, 0.0002]), False):
                channel.put(item)
                put.append(item)

    def consume():
        while True:
            with Timeout(rng.choice([None, 0, 0.0002]), False):
                got.append(channel.get())

    workers = [gevent.spawn(rng.choice([produce, consume])) for _ in range(8)]
    for _ in range(200):
        i = rng.randrange(8)
        workers[i].kill(block=rng.random() < 0.5)
        workers[i] = gevent.spawn(rng.choice([produce, consume]))
        gevent.sleep(0 if rng.random() < 0.9 else 0.0005)
    gevent.killall(workers)
    assert channel.balance == 0
    assert len(got) > 20
    assert len(got) == len(set(got)), "an item came out twice"
    assert set(put) <= set(got) <= maybe

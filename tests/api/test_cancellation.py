"""Kill and Timeout while waiting: no item, permit or wake-up is lost or given twice.

Random kills and time-outs, from a fixed seed, hit greenlets that use one shared object;
afterwards everything must add up.
"""

import random

import gevent
import pytest
from gevent import GreenletExit, Timeout
from gevent.event import AsyncResult, Event
from gevent.lock import BoundedSemaphore, RLock, Semaphore
from gevent.pool import Pool
from gevent.queue import Empty, Full, Queue

SEEDS = range(6)
WORKERS = 8
STEPS = 300


def disturb(rng, spawn, steps=STEPS):
    """Keep `WORKERS` greenlets made by `spawn` running and kill random ones, `steps` times."""
    workers = [spawn() for _ in range(WORKERS)]
    for _ in range(steps):
        choice = rng.random()
        if choice < 0.5:
            i = rng.randrange(WORKERS)
            workers[i].kill(block=rng.random() < 0.5)
            workers[i] = spawn()
        gevent.sleep(0 if choice < 0.95 else 0.0005)
    gevent.killall(workers)


def random_wait(rng):
    """A way to bound a wait: (its own timeout argument, a foreign Timeout around it)."""
    kind = rng.random()
    if kind < 0.3:
        return None, None
    if kind < 0.65:
        return rng.choice([0, 0.0002]), None
    return None, rng.choice([0, 0.0002])


@pytest.mark.parametrize("maxsize", [None, 1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_queue_neither_loses_nor_repeats_items(seed, maxsize):
    rng = random.Random(seed)
    queue = Queue(maxsize)
    put, maybe_put, got = [], set(), []
    serial = iter(range(10**9))

    def producer():
        while True:
            item = next(serial)
            timeout, around = random_wait(rng)
            maybe_put.add(item)
            try:
                with Timeout(around):
                    queue.put(item, timeout=timeout)
            except Full:
                # The queue itself said that it did not take the item.
                maybe_put.discard(item)
            except Timeout:
                pass
            else:
                put.append(item)
            if maxsize is None or rng.random() < 0.2:
                gevent.sleep(0)

    def consumer():
        while True:
            timeout, around = random_wait(rng)
            try:
                with Timeout(around):
                    item = queue.get(timeout=timeout)
            except (Empty, Timeout):
                continue
            got.append(item)

    disturb(rng, lambda: gevent.spawn(rng.choice([producer, consumer])))
    gevent.sleep(0)
    while not queue.empty():
        got.append(queue.get_nowait())
    assert len(got) > 20
    assert len(got) == len(set(got)), "an item came out twice"
    assert set(put) <= set(got), "an item was lost"
    assert set(got) <= maybe_put, "an item came out that the queue had refused"


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
@pytest.mark.parametrize("seed", SEEDS)
def test_semaphore_neither_loses_nor_invents_permits(seed, kind):
    rng = random.Random(seed)
    permits = 2
    lock = kind(permits)
    inside = most = entered = 0

    def worker():
        nonlocal inside, most, entered
        while True:
            timeout, around = random_wait(rng)
            try:
                with Timeout(around):
                    acquired = lock.acquire(timeout=timeout)
            except Timeout:
                continue
            if not acquired:
                continue
            try:
                inside += 1
                entered += 1
                most = max(most, inside)
                gevent.sleep(0)
            finally:
                inside -= 1
                lock.release()

    disturb(rng, lambda: gevent.spawn(worker))
    assert entered > 20
    assert inside == 0
    assert most == permits
    assert lock.counter == permits
    assert gevent.spawn(lock.acquire, timeout=20).get() is True


@pytest.mark.parametrize("seed", SEEDS)
def test_rlock_is_free_after_its_users_were_killed(seed):
    rng = random.Random(seed)
    lock = RLock()
    owners = []
    most = entered = 0

    def worker():
        nonlocal most, entered
        while True:
            timeout, around = random_wait(rng)
            try:
                with Timeout(around):
                    acquired = lock.acquire(timeout=timeout)
            except Timeout:
                continue
            if not acquired:
                continue
            try:
                owners.append(gevent.getcurrent())
                most = max(most, len(owners))
                entered += 1
                with lock:
                    gevent.sleep(0)
            finally:
                owners.pop()
                lock.release()

    disturb(rng, lambda: gevent.spawn(worker))
    assert entered > 20
    assert owners == []
    assert most == 1
    assert lock.acquire(timeout=20)
    lock.release()


@pytest.mark.parametrize("kind", [Event, AsyncResult])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_surviving_waiter_is_woken(seed, kind):
    rng = random.Random(seed)
    for _ in range(20):
        shared = kind()
        woken = []

        def waiter(i, shared=shared, woken=woken):
            shared.wait()
            woken.append(i)

        waiters = [gevent.spawn(waiter, i) for i in range(20)]
        gevent.sleep(0)
        victims = rng.sample(range(20), 8)
        before, after = victims[:4], victims[4:]
        for i in before:
            waiters[i].kill(block=False)
        shared.set()
        for i in after:
            waiters[i].kill(block=False)
        gevent.joinall(waiters, timeout=20)
        assert all(g.ready() for g in waiters)
        survivors = [i for i in range(20) if i not in victims]
        assert [i for i in woken if i not in victims] == survivors
        assert not set(before) & set(woken)


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_places_come_back(seed):
    rng = random.Random(seed)
    pool = Pool(3)
    ran = []

    def job():
        ran.append(1)
        gevent.sleep(0)

    def submitter():
        while True:
            _, around = random_wait(rng)
            try:
                with Timeout(around):
                    pool.spawn(job)
            except Timeout:
                continue

    disturb(rng, lambda: gevent.spawn(submitter))
    pool.join()
    gevent.sleep(0)
    assert len(ran) > 20
    assert len(pool) == 0
    assert pool.free_count() == 3
    assert pool.wait_available(timeout=0) == 3


def test_kill_after_the_item_was_put_but_before_the_getter_ran():
    queue = Queue()
    getter = gevent.spawn(queue.get)
    gevent.sleep(0)
    queue.put("item")
    getter.kill()
    gevent.sleep(0)
    if isinstance(getter.value, GreenletExit):
        assert queue.get_nowait() == "item"
    else:
        assert getter.value == "item"
        assert queue.empty()


def test_kill_before_the_item_was_put():
    queue = Queue()
    getter = gevent.spawn(queue.get)
    gevent.sleep(0)
    getter.kill(block=False)
    queue.put("item")
    getter.join()
    if isinstance(getter.value, GreenletExit):
        assert queue.get_nowait() == "item"
    else:
        assert getter.value == "item"


def test_kill_between_release_and_the_waiters_turn():
    lock = Semaphore(0)
    first, second = gevent.spawn(lock.acquire), gevent.spawn(lock.acquire)
    gevent.sleep(0)
    lock.release()
    first.kill(block=False)
    gevent.joinall([first, second], timeout=0.05)
    taken = [g for g in (first, second) if g.value is True]
    assert len(taken) + lock.counter == 1
    assert second in taken or first in taken
    second.kill()


def test_kill_interrupts_every_kind_of_wait():
    sleeper = gevent.spawn(gevent.sleep, 100)
    waits = [
        lambda: gevent.sleep(100),
        Event().wait,
        AsyncResult().get,
        AsyncResult().wait,
        Queue().get,
        Queue(1, [0]).join,
        lambda: Queue(1, [0]).put(1),
        Semaphore(0).acquire,
        Semaphore(0).wait,
        sleeper.join,
        sleeper.get,
        lambda: gevent.joinall([sleeper]),
        lambda: gevent.wait([Event()]),
    ]
    gs = [gevent.spawn(wait) for wait in waits]
    gevent.sleep(0)
    gevent.killall(gs, timeout=30)
    assert not sleeper.ready()
    sleeper.kill()
    assert all(isinstance(g.value, GreenletExit) for g in gs)

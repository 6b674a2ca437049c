"""Random kills and time-outs in several threads at once: everything adds up afterwards.

A crowd is a set of greenlets of one thread that use a shared object, some of which are killed at
random and replaced. There is one in the main thread, one in a native thread, and one in a thread of
a thread pool. What each does is chosen by a seed; how the threads run among each other is not.
"""

import itertools
import random
import threading
import time

import pytest

import greenloop
from greenloop import GreenletExit, Timeout, shield, sleep
from greenloop.event import AsyncResult, Event
from greenloop.lock import BoundedSemaphore, Lock, RLock, Semaphore
from greenloop.queue import (
    Channel,
    Empty,
    Full,
    JoinableQueue,
    LifoQueue,
    PriorityQueue,
    Queue,
    SimpleQueue,
)
from greenloop.threadpool import ThreadPool

GUARD = 60
SEEDS = range(2)
CROWDS = 3
MEMBERS = 5
STEPS = 100


class Stop(Exception):
    """Another way to end a greenlet than GreenletExit."""


@pytest.fixture(autouse=True)
def guard():
    with Timeout(GUARD, AssertionError("the test hangs")):
        yield


def brief(rng):
    """A limit for a wait: None, none at all, or one that may or may not be over in time."""
    return rng.choice([None, 0, 0.0001, 0.001])


def limited(rng, wait):
    """Call `wait(timeout)` with a random limit: its argument, or a Timeout around it, or neither.

    Raises Timeout if that around it was over.
    """
    if rng.random() < 0.5:
        return wait(brief(rng))
    with Timeout(brief(rng)):
        return wait(None)


def disturb(rng, make, steps=STEPS):
    """Keeps a crowd going, each of which runs a function that `make()` returns, and kills some."""
    members = [greenloop.spawn(make()) for _ in range(MEMBERS)]
    for _ in range(steps):
        if rng.random() < 0.5:
            index = rng.randrange(MEMBERS)
            members[index].kill(rng.choice([GreenletExit, Stop]), block=rng.random() < 0.4)
            members[index] = greenloop.spawn(make())
        sleep(rng.choice([0, 0, 0, 0, 0.0005]))
    greenloop.killall(members)


def in_crowds(function, seed):
    """Calls `function(rng, index)` in all crowds at once, and waits for it."""
    pool = ThreadPool(1)
    errors = []

    def run(index):
        try:
            function(random.Random(f"{seed} {index}"), index)
        except BaseException as error:
            errors.append(error)

    try:
        in_pool = pool.spawn(run, 2)
        thread = threading.Thread(target=run, args=(1,))
        thread.start()
        run(0)
        in_pool.get()
        while thread.is_alive():
            sleep(0.001)
    finally:
        pool.kill()
    assert errors == []


QUEUES = {
    "SimpleQueue": SimpleQueue,
    "Queue": Queue,
    "Queue(1)": lambda: Queue(1),
    "Queue(3)": lambda: Queue(3),
    "JoinableQueue(2)": lambda: JoinableQueue(2),
    "LifoQueue(2)": lambda: LifoQueue(2),
    "PriorityQueue": PriorityQueue,
    "Channel": Channel,
}
IN_ORDER = ["SimpleQueue", "Queue", "Queue(1)", "Queue(3)", "JoinableQueue(2)", "Channel"]


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("seed", SEEDS)
def test_items(kind, seed):
    queue = QUEUES[kind]()
    # Of each producer, what it has put for sure, and what it may have put.
    put, maybe_put = [], set()
    got = [[] for _ in range(CROWDS)]
    serial = itertools.count()
    calm = threading.Event()

    def crowd(rng, index):
        def produce():
            producer = next(serial)
            for number in itertools.count():
                item = (number, producer)
                maybe_put.add(item)
                try:
                    limited(rng, lambda timeout, item=item: queue.put(item, timeout=timeout))
                except Full:
                    # The queue said that it did not take it.
                    maybe_put.discard(item)
                except Timeout:
                    pass
                else:
                    put.append(item)
                sleep(0)

        def consume():
            while True:
                try:
                    if rng.random() < 0.1 and hasattr(queue, "peek"):
                        limited(rng, lambda timeout: queue.peek(timeout=timeout))
                    got[index].append(limited(rng, lambda timeout: queue.get(timeout=timeout)))
                except (Empty, Timeout):
                    sleep(0)

        disturb(rng, lambda: rng.choice([produce, consume]))
        done.release()

        # Those who are left alone get what there is.
        def take_all():
            while True:
                got[index].append(queue.get())

        consumers = [greenloop.spawn(take_all) for _ in range(2)]
        while not calm.is_set():
            sleep(0.0005)
        greenloop.killall(consumers)

    def watch():
        for _ in range(CROWDS):
            done.acquire()
        # Nobody puts any more. Should somebody who waits have been forgotten, this never ends.
        while queue.qsize() or len(put) > sum(map(len, got)):
            sleep(0.0005)
        calm.set()

    done = Semaphore(0)
    watcher = greenloop.spawn(watch)
    try:
        in_crowds(crowd, seed)
    finally:
        calm.set()
        watcher.kill()

    taken = [item for part in got for item in part]
    assert len(taken) == len(set(taken)), "an item came out twice"
    assert set(put) <= set(taken), "an item was lost"
    assert set(taken) <= maybe_put, "an item came out that was refused"
    assert len(put) > STEPS // 4
    if kind in IN_ORDER:
        for part in got:
            for _, numbers in itertools.groupby(sorted(part, key=lambda item: item[1]), _producer):
                # The sort is stable.
                in_order = [number for number, _ in numbers]
                assert in_order == sorted(in_order), "items of one producer changed places"
    # It is as good as new.
    with pytest.raises(Empty):
        queue.get_nowait()
    getter = greenloop.spawn(queue.get)
    sleep(0)
    queue.put_nowait((0, 0))
    assert getter.get() == (0, 0)


def _producer(item):
    return item[1]


@pytest.mark.parametrize("kind", [Lock, RLock, Semaphore, BoundedSemaphore])
@pytest.mark.parametrize("seed", SEEDS)
def test_permits(kind, seed):
    permits = 2 if issubclass(kind, Semaphore) else 1
    lock = kind(permits) if permits > 1 else kind()
    inside, entered, too_many = [], [], []

    def crowd(rng, index):
        def use():
            while True:
                try:
                    if hasattr(lock, "wait") and rng.random() < 0.2:
                        limited(rng, lambda timeout: lock.wait(timeout=timeout))
                    acquired = limited(rng, acquire)
                except Timeout:
                    acquired = False
                if not acquired:
                    sleep(0)
                    continue
                try:
                    inside.append(None)
                    entered.append(index)
                    if len(inside) > permits:
                        too_many.append(index)
                    # Lets other threads, and other greenlets.
                    time.sleep(0)
                    sleep(rng.choice([0, 0.0002]))
                finally:
                    inside.pop()
                    lock.release()

        def acquire(timeout):
            return lock.acquire(timeout=-1 if timeout is None and kind is Lock else timeout)

        disturb(rng, lambda: use)

    in_crowds(crowd, seed)
    assert too_many == []
    assert inside == []
    assert len(entered) > STEPS // 10
    if permits > 1:
        assert lock.counter == permits
    for _ in range(permits):
        assert lock.acquire(blocking=False)
    assert greenloop.spawn(lock.acquire, blocking=False).get() is False
    for _ in range(permits):
        lock.release()


@pytest.mark.parametrize("kind", [Event, AsyncResult])
@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_is_woken(kind, seed):
    rounds = 8
    shared = [kind() for _ in range(rounds)]
    waiting = Semaphore(0)
    woken, killed = [], []

    def crowd(rng, index):
        for number, each in enumerate(shared):

            def wait(name, each=each):
                waiting.release()
                assert each.wait()
                woken.append(name)

            members = {
                greenloop.spawn(wait, (number, index, member)): (number, index, member)
                for member in range(MEMBERS)
            }
            sleep(0)
            for victim in rng.sample(list(members), 2):
                if not victim.ready():
                    victim.kill(block=rng.random() < 0.5)
            greenloop.joinall(members)
            killed.extend(name for member, name in members.items() if member.value is not None)

    def set_all():
        rng = random.Random(seed)
        for each in shared:
            # Before all wait, or after.
            for _ in range(rng.randrange(CROWDS * MEMBERS)):
                waiting.acquire()
            each.set(*([True] if kind is AsyncResult else []))

    setter = greenloop.spawn(set_all)
    in_crowds(crowd, seed)
    setter.get()
    names = set(itertools.product(range(rounds), range(CROWDS), range(MEMBERS)))
    assert len(woken) == len(set(woken))
    assert set(woken) | set(killed) == names
    assert not set(woken) & set(killed)


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_in_threads(seed):
    """Each call that a pool was given is made once, whoever waits for it."""
    pool = ThreadPool(2)
    calls, results, wrong = [], [], []
    serial = itertools.count()

    def call(number):
        calls.append(number)
        time.sleep(0)
        return number

    def crowd(rng, index):
        def use():
            while True:
                number = next(serial)
                try:
                    with Timeout(brief(rng)):
                        if rng.random() < 0.5:
                            result = pool.apply(call, (number,))
                        else:
                            result = pool.spawn(call, number).get()
                except Timeout:
                    continue
                results.append(number)
                if result != number:
                    wrong.append((number, result))

        disturb(rng, lambda: use)

    in_crowds(crowd, seed)
    pool.join()
    assert wrong == []
    assert len(calls) == len(set(calls))
    assert set(results) <= set(calls)
    assert len(results) > STEPS // 4
    assert pool.apply(call, (-1,)) == -1
    pool.kill()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_done_in_a_shield_is_done_wholly(seed):
    """Items that are moved from one queue to the other in a shield are never in neither."""
    source, target = Queue(), Queue(2)
    total = 200
    for item in range(total):
        source.put(item)
    moved = []

    def crowd(rng, index):
        def move():
            while True:
                try:
                    with Timeout(brief(rng)), shield():
                        item = source.get()
                        if rng.random() < 0.3:
                            sleep(0)
                        target.put(item)
                except Timeout:
                    sleep(0)

        disturb(rng, lambda: move, STEPS // 2)

    def collect():
        while True:
            moved.append(target.get())

    collector = greenloop.spawn(collect)

    def feed():
        # Those who are in their shield wait for an item when the others have ended.
        for item in itertools.count(total):
            source.put(item)
            sleep(0.0005)

    feeder = greenloop.spawn(feed)
    in_crowds(crowd, seed)
    feeder.kill()
    while not target.empty():
        sleep(0)
    collector.kill()
    left = []
    while not source.empty():
        left.append(source.get())
    assert len(moved) > total // 4
    everything = moved + left
    assert sorted(everything) == list(range(len(everything)))


def served(kind):
    """Something that makes wait: what to wait with, what lets one go on, whether one could."""
    if kind in (Semaphore, BoundedSemaphore, Lock):
        lock = kind()
        lock.acquire()
        return lock.acquire, lock.release, lambda: not lock.locked()
    if kind == "put":
        full = Queue(1)
        full.put(None)
        return lambda: full.put(None), full.get, lambda: not full.full()
    if kind == "channel put":
        channel = Channel()
        return lambda: channel.put(None), channel.get, lambda: False
    queue = kind()
    if kind is Channel:
        return queue.get, lambda: greenloop.spawn(queue.put, None), lambda: queue.balance > 0
    return queue.get, lambda: queue.put(0), lambda: not queue.empty()


SERVED = [Lock, Semaphore, BoundedSemaphore, Queue, SimpleQueue, PriorityQueue, LifoQueue]


@pytest.mark.parametrize("kind", [*SERVED, Channel, "put", "channel put"])
@pytest.mark.parametrize("seed", range(5))
def test_first_come_first_served(kind, seed):
    rng = random.Random(seed)
    wait, let_one_go, could_go_on = served(kind)
    count = 40
    order = []
    let_go = 0

    def member(name):
        wait()
        order.append(name)

    def kill(name):
        members[name].kill(block=False)
        killed.add(name)

    members = [greenloop.spawn(member, name) for name in range(count)]
    sleep(0)
    killed = set()
    while waiting := [name for name in range(count) if not members[name].ready()]:
        # Some are killed while they wait, some when they have been woken, the first above all.
        for name in rng.sample(waiting[:4], min(rng.randrange(3), len(waiting))):
            kill(name)
        for _ in range(rng.randrange(1, 3) if kind in SERVED else 1):
            if kind in (Lock, BoundedSemaphore) and could_go_on():
                break
            let_one_go()
            let_go += 1
        if rng.random() < 0.3:
            kill(waiting[0])
        for _ in range(5):
            sleep(0)
        if not all(greenlet.ready() for greenlet in members):
            assert not could_go_on(), "somebody waits who could go on"
            if kind in SERVED:
                assert len(order) == let_go, "what was given has got lost"
    assert order == sorted(order)
    assert set(range(count)) - killed <= set(order)

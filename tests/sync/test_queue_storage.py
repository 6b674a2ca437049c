"""Where queues keep their items: the attribute `queue`, subclass hooks, comparisons that fail."""

import gc
import weakref
from collections import deque

import gevent
import pytest
from gevent.queue import LifoQueue, PriorityQueue, Queue, SimpleQueue


def test_the_attribute_queue_is_where_the_items_are():
    queue = Queue()
    queue.put(1)
    items = queue.queue
    assert items == deque([1])
    queue.put(2)
    assert items == deque([1, 2])
    items.appendleft(0)
    assert queue.qsize() == 3
    assert [queue.get() for _ in range(3)] == [0, 1, 2]
    assert queue.queue is items
    items.extend("ab")
    items.clear()
    assert queue.empty()


def test_the_attribute_queue_of_the_others_is_a_list():
    lifo = LifoQueue(items=[1, 2])
    assert lifo.queue == [1, 2]
    lifo.put(3)
    assert lifo.peek() == 3
    assert [lifo.get() for _ in range(3)] == [3, 2, 1]
    heap = PriorityQueue(items=[3, 1, 2])
    assert sorted(heap.queue) == [1, 2, 3]
    assert heap.queue[0] == 1
    heap.put(0)
    assert heap.peek() == 0
    assert [heap.get() for _ in range(4)] == [0, 1, 2, 3]


def test_the_attribute_queue_can_be_set():
    queue = Queue()
    queue.put("dropped")
    queue.queue = [1, 2]
    assert len(queue) == 2
    queue.queue = deque("ab")
    assert queue.get() == "a"


def test_a_subclass_with_a_place_of_its_own():
    class Unique(Queue):
        def _init(self, maxsize, items=()):
            self.queue = set(items)

        def _put(self, item):
            self.queue.add(item)

        def _get(self):
            return self.queue.pop()

    queue = Unique(5)
    for item in (1, 1, 1):
        queue.put(item)
    assert queue.qsize() == 1
    getter = gevent.spawn(queue.get)
    assert getter.get() == 1
    getter = gevent.spawn(queue.get)
    gevent.sleep(0)
    queue.put(2)
    assert getter.get() == 2


def test_a_subclass_with_another_container():
    class Listed(SimpleQueue):
        def _create_queue(self, items=()):
            return list(items)

        def _get(self):
            return self.queue.pop(0)

        def _peek(self):
            return self.queue[0]

    queue = Listed(None, "ab")
    assert queue.queue == ["a", "b"]
    assert queue.peek() == "a"
    queue.put("c")
    assert [queue.get() for _ in range(3)] == list("abc")


def test_a_subclass_with_its_own_size():
    class Weighed(Queue):
        def _qsize(self):
            return sum(self.queue)

    queue = Weighed(10)
    queue.put(7)
    assert not queue.full()
    queue.put(3)
    assert queue.full()
    with pytest.raises(gevent.queue.Full):
        queue.put_nowait(1)
    putter = gevent.spawn(queue.put, 4)
    gevent.sleep(0)
    queue.get()
    putter.join()
    assert queue.qsize() == 7


def test_a_subclass_with_an_init_of_its_own():
    class Named(Queue):
        def __init__(self, name):
            super().__init__(2)
            self.name = name

    queue = Named("mine")
    assert (queue.name, queue.maxsize) == ("mine", 2)

    class Silent(Queue):
        def __init__(self):
            pass

    silent = Silent()
    silent.put(1)
    assert silent.get() == 1


def test_a_hook_that_fails_when_a_waiting_putter_is_let_in():
    class Picky(Queue):
        def _put(self, item):
            if item == "bad":
                raise ValueError("picky")
            super()._put(item)

    queue = Picky(1)
    queue.put("first")
    bad = gevent.spawn(queue.put, "bad")
    good = gevent.spawn(queue.put, "good")
    gevent.sleep(0)
    assert queue.get() == "first"
    gevent.joinall([bad, good])
    assert isinstance(bad.exception, ValueError)
    assert queue.get() == "good"
    assert queue.unfinished_tasks == 2


def test_a_get_hook_that_fails_leaves_the_item_to_the_next():
    class Flaky(Queue):
        fail = True

        def _get(self):
            if self.fail:
                self.fail = False
                raise ValueError("flaky")
            return super()._get()

    queue = Flaky()
    first, second = gevent.spawn(queue.get), gevent.spawn(queue.get)
    gevent.sleep(0)
    queue.put("item")
    gevent.joinall([first, second], timeout=60)
    assert isinstance(first.exception, ValueError)
    assert second.value == "item"


class Item:
    """Compares by its key, and does something while it does."""

    def __init__(self, key, during=lambda: None):
        self.key = key
        self.during = during

    def __lt__(self, other):
        self.during()
        other.during()
        return self.key < other.key


def fail():
    raise ZeroDivisionError


def test_a_comparison_that_fails_changes_nothing():
    queue = PriorityQueue()
    items = [Item(key) for key in (4, 2, 6, 1, 3)]
    for item in items:
        queue.put(item)
    with pytest.raises(ZeroDivisionError):
        queue.put(Item(0, fail))
    assert queue.qsize() == 5
    assert queue.unfinished_tasks == 5
    items[2].during = fail
    with pytest.raises(ZeroDivisionError):
        for _ in range(5):
            queue.get_nowait()
    items[2].during = lambda: None
    left = [queue.get_nowait().key for _ in range(queue.qsize())]
    assert left == sorted(left)
    assert len(left) >= 1


def test_a_comparison_that_uses_the_queue():
    queue = PriorityQueue(items=[Item(key) for key in (5, 3, 8)])
    meddling = [Item(1), Item(9)]

    def meddle():
        if meddling:
            queue.put(meddling.pop())

    queue.put(Item(4, meddle))
    assert meddling == []
    assert [queue.get().key for _ in range(6)] == [1, 3, 4, 5, 8, 9]


def test_random_heap_operations():
    import random

    rng = random.Random(1)
    queue, model = PriorityQueue(), []
    for _ in range(2000):
        if model and rng.random() < 0.45:
            model.sort()
            assert queue.get_nowait() == model.pop(0)
        else:
            item = rng.randrange(50)
            queue.put(item)
            model.append(item)
    assert [queue.get_nowait() for _ in range(queue.qsize())] == sorted(model)


@pytest.mark.parametrize("kind", [SimpleQueue, Queue, LifoQueue, PriorityQueue])
def test_cycles_through_a_queue_are_collected(kind):
    class Node:
        pass

    node = Node()
    node.queue = kind()
    node.queue.put(node)
    ref = weakref.ref(node)
    del node
    gc.collect()
    assert ref() is None


def test_items_whose_finalizers_use_the_queue():
    queue = Queue()
    log = []

    class Finalized:
        def __del__(self):
            queue.put_nowait("from a finalizer")
            log.append(queue.qsize())

    queue.put(Finalized())
    queue.get()
    assert log == [1]
    queue.put(Finalized())
    queue.queue.clear()
    assert log == [1, 1]
    assert [queue.get_nowait(), queue.qsize()] == ["from a finalizer", 0]


def test_text_of_a_long_queue_is_short():
    queue = Queue(items=range(100_000))
    assert len(repr(queue)) < 200

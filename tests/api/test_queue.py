"""Queue: put, get, limits, iteration."""

import gevent
import pytest
from gevent import Timeout
from gevent.queue import Empty, Full, Queue


def test_first_in_first_out():
    queue = Queue()
    for i in range(5):
        assert queue.put(i) is None
    assert [queue.get() for _ in range(5)] == list(range(5))


def test_sizes():
    queue = Queue(2)
    assert (queue.qsize(), len(queue), queue.empty(), queue.full()) == (0, 0, True, False)
    queue.put(1)
    assert (queue.qsize(), len(queue), queue.empty(), queue.full()) == (1, 1, False, False)
    queue.put(2)
    assert (queue.qsize(), len(queue), queue.empty(), queue.full()) == (2, 2, False, True)
    assert queue.maxsize == 2


def test_an_empty_queue_is_true():
    assert bool(Queue()) is True


def test_exceptions_are_the_standard_librarys():
    import queue

    assert Empty is queue.Empty
    assert Full is queue.Full


def test_get_blocks_until_put():
    queue = Queue()
    getter = gevent.spawn(queue.get)
    gevent.sleep(0)
    assert not getter.ready()
    queue.put("item")
    assert getter.get() == "item"


def test_put_blocks_until_get():
    queue = Queue(1)
    queue.put(1)
    putter = gevent.spawn(queue.put, 2)
    gevent.sleep(0)
    assert not putter.ready()
    assert queue.get() == 1
    putter.join()
    assert queue.get() == 2


def test_non_blocking_calls(never_switches):
    queue = Queue(1)
    with never_switches():
        with pytest.raises(Empty):
            queue.get_nowait()
        with pytest.raises(Empty):
            queue.get(block=False)
        with pytest.raises(Empty):
            queue.get(False, 5)
        queue.put_nowait(1)
        with pytest.raises(Full):
            queue.put_nowait(2)
        with pytest.raises(Full):
            queue.put(2, block=False)
        with pytest.raises(Full):
            queue.put(2, False, 5)
        assert queue.get_nowait() == 1


def test_put_nowait_does_not_switch_to_a_waiting_getter(never_switches):
    queue = Queue()
    getter = gevent.spawn(queue.get)
    gevent.sleep(0)
    with never_switches():
        queue.put_nowait(1)
    assert getter.get() == 1


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_get_and_put_time_out(timeout):
    queue = Queue(1)
    with pytest.raises(Empty):
        queue.get(timeout=timeout)
    queue.put(1)
    with pytest.raises(Full):
        queue.put(2, timeout=timeout)
    assert queue.get(timeout=timeout) == 1


def test_negative_timeouts():
    queue = Queue(1)
    with pytest.raises(ValueError):
        queue.get(timeout=-1)
    with pytest.raises(ValueError):
        queue.put(1, timeout=-1)
    queue.put(1, False, -1)
    assert queue.get(False, -1) == 1


@pytest.mark.parametrize("timeout", ["x", object()])
def test_a_timeout_that_is_no_number(timeout):
    queue = Queue(1)
    with pytest.raises(TypeError):
        queue.get(timeout=timeout)
    with pytest.raises(TypeError):
        queue.put(1, timeout=timeout)


def test_foreign_timeout_goes_through():
    with pytest.raises(Timeout) as caught, Timeout(0.001) as outer:
        Queue().get(timeout=50)
    assert caught.value is outer


@pytest.mark.parametrize("maxsize", [None, -1, -100])
def test_unbounded(maxsize):
    queue = Queue(maxsize)
    assert queue.maxsize is None
    for i in range(1000):
        queue.put_nowait(i)
    assert not queue.full()
    assert len(queue) == 1000


@pytest.mark.parametrize("maxsize", ["x", object()])
def test_maxsize_that_is_no_number(maxsize):
    with pytest.raises(TypeError):
        Queue(maxsize)


def test_initial_items():
    queue = Queue(items=[1, 2, 3])
    assert len(queue) == 3
    assert queue.get() == 1


def test_getters_are_served_in_the_order_they_waited():
    queue = Queue()
    got = []

    def getter(i):
        got.append((i, queue.get()))

    gs = [gevent.spawn(getter, i) for i in range(10)]
    gevent.sleep(0)
    for i in range(10):
        queue.put(i)
    gevent.joinall(gs)
    assert got == [(i, i) for i in range(10)]


def test_putters_are_served_in_the_order_they_waited():
    queue = Queue(1)
    queue.put("first")
    gs = [gevent.spawn(queue.put, i) for i in range(10)]
    gevent.sleep(0)
    got = [queue.get() for _ in range(11)]
    gevent.joinall(gs)
    assert got == ["first", *range(10)]


def test_many_producers_and_consumers_lose_nothing():
    queue = Queue(3)
    got = []

    def producer(base):
        for i in range(50):
            queue.put(base + i)

    def consumer():
        for item in iter(queue.get, None):
            got.append(item)

    consumers = [gevent.spawn(consumer) for _ in range(4)]
    gevent.joinall([gevent.spawn(producer, base) for base in range(0, 500, 50)])
    for _ in consumers:
        queue.put(None)
    gevent.joinall(consumers)
    assert sorted(got) == list(range(500))


def test_iteration_ends_at_stop_iteration():
    queue = Queue()
    for item in (1, 2, StopIteration, 3):
        queue.put(item)
    assert list(queue) == [1, 2]
    assert queue.get() == 3


def test_iteration_waits_for_items():
    queue = Queue()

    def feed():
        for item in (1, 2, StopIteration):
            gevent.sleep(0.001)
            queue.put(item)

    gevent.spawn(feed)
    assert list(queue) == [1, 2]


def test_iter_is_the_queue_itself():
    queue = Queue()
    assert iter(queue) is queue
    queue.put(1)
    assert next(queue) == 1


def test_none_and_false_items():
    queue = Queue()
    for item in (None, False, 0, ""):
        queue.put(item)
        assert queue.get() is item


def test_killed_getter_takes_no_item():
    queue = Queue()
    first, second = gevent.spawn(queue.get), gevent.spawn(queue.get)
    gevent.sleep(0)
    first.kill()
    queue.put("item")
    assert second.get() == "item"
    assert queue.empty()


def test_killed_putter_puts_no_item():
    queue = Queue(1)
    queue.put(1)
    putter = gevent.spawn(queue.put, 2)
    gevent.sleep(0)
    putter.kill()
    assert queue.get() == 1
    gevent.sleep(0)
    assert queue.empty()


def test_timed_out_getter_takes_no_item():
    queue = Queue()
    with pytest.raises(Empty):
        queue.get(timeout=0.001)
    queue.put(1)
    gevent.sleep(0.005)
    assert queue.qsize() == 1

"""The other queues: joining, peeking, order, channels, shutdown."""

import gevent
import pytest
from gevent.queue import (
    Channel,
    Empty,
    Full,
    JoinableQueue,
    LifoQueue,
    PriorityQueue,
    Queue,
    ShutDown,
    SimpleQueue,
)

ALL = [SimpleQueue, Queue, JoinableQueue, LifoQueue, PriorityQueue]
JOINABLE = [Queue, JoinableQueue, LifoQueue, PriorityQueue]


@pytest.mark.parametrize("kind", ALL)
def test_every_queue_has_limits(kind):
    queue = kind(2)
    assert queue.maxsize == 2
    assert queue.empty()
    queue.put(1)
    queue.put(2)
    assert queue.full()
    assert len(queue) == queue.qsize() == 2
    assert bool(queue)
    with pytest.raises(Full):
        queue.put_nowait(3)
    with pytest.raises(Full):
        queue.put(3, timeout=0.001)
    assert sorted([queue.get(), queue.get()]) == [1, 2]
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.001)


@pytest.mark.parametrize("kind", ALL)
def test_zero_means_unbounded_with_a_warning(kind):
    with pytest.warns(DeprecationWarning, match="Queue"):
        queue = kind(0)
    assert queue.maxsize is None
    assert not queue.full()


@pytest.mark.parametrize("kind", ALL)
def test_peek_leaves_the_item(kind):
    queue = kind()
    with pytest.raises(Empty):
        queue.peek_nowait()
    with pytest.raises(Empty):
        queue.peek(block=False)
    with pytest.raises(Empty):
        queue.peek(timeout=0.001)
    gevent.spawn(queue.put, 5)
    assert queue.peek() == 5
    assert queue.peek_nowait() == 5
    assert len(queue) == 1
    assert queue.get() == 5


@pytest.mark.parametrize("kind", ALL)
def test_copy_is_independent(kind):
    queue = kind(3, [1, 2])
    copied = queue.copy()
    assert type(copied) is type(queue)
    assert copied.maxsize == 3
    queue.get()
    assert len(copied) == 2


@pytest.mark.parametrize("kind", ALL)
def test_text_forms(kind):
    queue = kind(2)
    name = kind.__name__
    assert repr(queue) == f"<{name} at {hex(id(queue))} maxsize=2>"
    assert str(queue) == f"<{name} maxsize=2>"
    queue.put(1)
    assert "queue=" in repr(queue)
    empty = kind()
    assert str(empty) == f"<{name}>"
    getter = gevent.spawn(empty.get)
    gevent.sleep(0)
    assert str(empty) == f"<{name} getters[1]>"
    getter.kill()
    queue.put(2)
    putter = gevent.spawn(queue.put, 3)
    gevent.sleep(0)
    assert "putters[1]" in str(queue)
    putter.kill()


@pytest.mark.parametrize("kind", ALL)
def test_classes_take_type_parameters(kind):
    assert kind[int].__origin__ is kind


@pytest.mark.parametrize("kind", ALL)
def test_maxsize_may_be_changed(kind):
    queue = kind(1)
    queue.put(1)
    queue.maxsize = 2
    queue.put_nowait(2)
    queue.maxsize = None
    assert queue.maxsize is None
    queue.put_nowait(3)


@pytest.mark.parametrize("kind", ALL)
def test_iteration(kind):
    queue = kind(items=[1])
    assert next(queue) == 1
    queue.put(StopIteration)
    assert list(queue) == []


def test_lifo_order():
    queue = LifoQueue(items=[1, 2])
    queue.put(3)
    assert queue.peek() == 3
    assert [queue.get() for _ in range(3)] == [3, 2, 1]


def test_priority_order():
    queue = PriorityQueue(items=[5, 1, 3])
    for item in (4, 2):
        queue.put(item)
    assert queue.peek() == 1
    assert [queue.get() for _ in range(5)] == [1, 2, 3, 4, 5]


def test_priority_of_items_that_cannot_be_compared():
    queue = PriorityQueue()
    queue.put(1)
    with pytest.raises(TypeError):
        queue.put("x")


def test_joinable_queue_is_queue():
    assert JoinableQueue is Queue
    assert issubclass(LifoQueue, Queue)
    assert issubclass(PriorityQueue, Queue)
    assert not hasattr(SimpleQueue(), "join")
    assert not hasattr(SimpleQueue(), "shutdown")


@pytest.mark.parametrize("kind", JOINABLE)
def test_join_waits_for_task_done(kind):
    queue = kind()
    assert queue.join() is True
    for i in range(3):
        queue.put(i)
    assert queue.unfinished_tasks == 3
    assert queue.join(timeout=0.001) is False

    def worker():
        for _ in range(3):
            queue.get()
            gevent.sleep(0)
            queue.task_done()

    gevent.spawn(worker)
    assert queue.join() is True
    assert queue.unfinished_tasks == 0


@pytest.mark.parametrize("kind", JOINABLE)
def test_task_done_too_often(kind):
    queue = kind()
    with pytest.raises(ValueError):
        queue.task_done()
    queue.put(1)
    queue.task_done()
    with pytest.raises(ValueError):
        queue.task_done()


@pytest.mark.parametrize("kind", JOINABLE)
def test_initial_items_are_unfinished(kind):
    assert kind(items=[1, 2]).unfinished_tasks == 2
    assert kind(None, [1, 2], 5).unfinished_tasks == 5


def test_get_alone_does_not_finish_a_task():
    queue = Queue()
    queue.put(1)
    queue.get()
    assert queue.join(timeout=0) is False


def test_join_when_a_blocked_put_arrives_later():
    queue = Queue(1)
    queue.put(1)
    putter = gevent.spawn(queue.put, 2)
    gevent.sleep(0)
    queue.get()
    putter.join()
    assert queue.unfinished_tasks == 2


@pytest.mark.parametrize("kind", JOINABLE)
def test_shutdown_lets_the_queue_drain(kind):
    queue = kind()
    queue.put(1)
    queue.shutdown()
    with pytest.raises(ShutDown):
        queue.put(2)
    with pytest.raises(ShutDown):
        queue.put_nowait(2)
    assert queue.get() == 1
    with pytest.raises(ShutDown):
        queue.get()
    with pytest.raises(ShutDown):
        queue.get_nowait()


def test_shutdown_wakes_those_who_wait(capsys):
    queue = Queue()
    getters = [gevent.spawn(queue.get) for _ in range(3)]
    full = Queue(1, [0])
    putters = [gevent.spawn(full.put, i) for i in range(3)]
    gevent.sleep(0)
    queue.shutdown()
    full.shutdown()
    gevent.joinall(getters + putters, timeout=30)
    assert all(isinstance(g.exception, ShutDown) for g in getters + putters)


def test_immediate_shutdown_empties_the_queue():
    queue = Queue(items=[1, 2])
    queue.shutdown(immediate=True)
    assert queue.empty()
    assert queue.join(timeout=0) is True
    with pytest.raises(ShutDown):
        queue.get()


def test_subclass_hooks():
    class Doubling(Queue):
        def _put(self, item):
            super()._put(item * 2)

    queue = Doubling()
    queue.put(4)
    assert queue.get() == 8


def test_channel_has_no_room():
    channel = Channel()
    assert channel.qsize() == 0
    assert channel.empty()
    assert channel.full()
    assert channel.balance == 0
    with pytest.raises(Full):
        channel.put_nowait(1)
    with pytest.raises(Empty):
        channel.get_nowait()
    with pytest.raises(Full):
        channel.put(1, timeout=0.001)
    with pytest.raises(Empty):
        channel.get(timeout=0.001)
    with pytest.raises(ValueError):
        Channel(2)


def test_channel_put_waits_for_get():
    channel = Channel()
    log = []

    def putter():
        for i in range(3):
            channel.put(i)
            log.append(("put", i))

    g = gevent.spawn(putter)
    gevent.sleep(0)
    assert channel.balance == 1
    assert log == []
    assert [channel.get() for _ in range(3)] == [0, 1, 2]
    g.join()
    assert log == [("put", i) for i in range(3)]


def test_channel_get_waits_for_put():
    channel = Channel()
    getters = [gevent.spawn(channel.get) for _ in range(2)]
    gevent.sleep(0)
    assert channel.balance == -2
    channel.put("a")
    channel.put("b")
    assert [g.get() for g in getters] == ["a", "b"]


def test_channel_iteration_and_text():
    channel = Channel()

    def putter():
        for item in (1, 2, StopIteration):
            channel.put(item)

    gevent.spawn(putter)
    assert list(channel) == [1, 2]
    assert repr(channel).startswith(f"<Channel at {hex(id(channel))}")


def test_killed_channel_users_leave_nothing_behind():
    channel = Channel()
    putter = gevent.spawn(channel.put, 1)
    gevent.sleep(0)
    putter.kill()
    assert channel.balance == 0
    getter = gevent.spawn(channel.get)
    gevent.sleep(0)
    getter.kill()
    assert channel.balance == 0


def test_get_nowait_in_a_hub_callback_serves_a_waiting_putter():
    queue = Queue(1, [1])
    putter = gevent.spawn(queue.put, 2)
    gevent.sleep(0)
    got = []

    def callback():
        got.append(queue.get_nowait())
        got.append(queue.get_nowait())

    gevent.get_hub().loop.run_callback(callback)
    gevent.sleep(0)
    putter.join()
    assert got == [1, 2]
    assert queue.empty()


def test_blocking_get_in_the_hub_is_empty():
    seen = []

    def callback():
        try:
            Queue().get()
        except Empty:
            seen.append("empty")

    gevent.get_hub().loop.run_callback(callback)
    gevent.sleep(0)
    assert seen == ["empty"]

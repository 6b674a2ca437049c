"""The standard queue classes after patching: quick as long as nothing has to wait, and the standard
ones down to their parts."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def test_nothing_is_made_and_no_python_runs_before_it_has_to(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, sys

        frames = []
        for kind in (queue.Queue, queue.LifoQueue):
            items = kind(2)
            sys.setprofile(lambda frame, event, _: event == "call" and frames.append(frame.f_code))
            for _ in range(3):
                items.put(1)
                items.put(2, block=False)
                try:
                    items.put(3, False)
                except queue.Full:
                    pass
                assert items.full() and not items.empty() and items.qsize() == 2
                got = [items.get(timeout=1), items.get(block=True, timeout=None)]
                try:
                    items.get(block=False)
                except queue.Empty:
                    pass
                items.task_done()
                items.task_done()
            sys.setprofile(None)
            assert got == ([1, 2] if kind is queue.Queue else [2, 1])
            assert items.unfinished_tasks == 0
            assert not {"mutex", "not_empty", "not_full", "all_tasks_done"} & set(vars(items))
        assert {code.co_filename for code in frames} <= {__file__}, frames
        """
    run_script(script).check_quiet()


def test_parts(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import collections, copy, pickle, queue, threading

        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            items = kind()
            for number in range(3):
                items.put(number)
            assert type(items.queue) is (collections.deque if kind is queue.Queue else list)
            with items.mutex:
                assert items.not_empty._is_owned() and items.all_tasks_done._is_owned()
                assert not items.not_full.acquire(blocking=False)
                items.queue.clear()
            assert items.mutex is vars(items)["mutex"]
            assert items.empty() and items.unfinished_tasks == 3
            items.put(4)
            assert items.get() == 4

            # What is made anew is made with all of it.
            was = items.mutex
            items.__init__(1)
            items.put(1)
            assert items.mutex is not was and items.full() and items.unfinished_tasks == 1

            items = kind(5)
            items.put(1)
            twin = copy.copy(items)
            assert twin.mutex is items.mutex and twin.queue is items.queue and twin.maxsize == 5
            for fail in (pickle.dumps, copy.deepcopy):
                try:
                    fail(kind())
                except TypeError as error:
                    assert "lock" in str(error), error
                else:
                    raise AssertionError("a lock has been pickled")

        assert not hasattr(queue.Queue, "mutex")
        bare = queue.Queue.__new__(queue.Queue)
        for use in (lambda: bare.mutex, bare.qsize, lambda: bare.put(1), bare.get, bare.task_done):
            try:
                use()
            except AttributeError as error:
                assert "'Queue' object has no attribute" in str(error), error
            else:
                raise AssertionError("it has not been initialised")
        assert queue.Queue[int].__origin__ is queue.Queue

        # Those who make a part of their own are asked for theirs.
        items = queue.Queue()
        items.mutex = threading.RLock()
        items.not_empty = items.not_full = threading.Condition(items.mutex)
        items.put(1)
        with items.mutex:
            assert items.get() == 1
        """
    run_script(script).check_quiet()


def test_the_lock_excludes(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, gevent

        calls = {
            "put": lambda items: items.put(9), "get": lambda items: items.get(),
            "get at once": lambda items: items.get(block=False),
            "task_done": lambda items: items.task_done(), "qsize": lambda items: items.qsize(),
            "empty": lambda items: items.empty(), "full": lambda items: items.full(),
        }
        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            items = kind()
            items.put(1)
            items.put(2)
            with items.mutex:
                callers = {name: gevent.spawn(call, items) for name, call in calls.items()}
                for _ in range(5):
                    gevent.sleep(0)
                assert not any(caller.dead for caller in callers.values())
                assert len(items.queue) == items.unfinished_tasks == 2
            gevent.joinall(callers.values(), raise_error=True)
            assert items.qsize() == 1 and items.unfinished_tasks == 2
        """
    run_script(script).check_quiet()


def test_those_who_wait_on_a_condition(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, threading, gevent

        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            items = kind(1)
            events = []

            def wait(name, condition, until):
                with condition:
                    while not until():
                        condition.wait()
                    events.append(name)

            def start(*arguments):
                waiter = gevent.spawn(wait, *arguments)
                gevent.sleep(0)
                return waiter

            waiters = [start("item", items.not_empty, lambda: items.queue)]
            items.put(1)
            gevent.joinall(waiters, raise_error=True)
            waiters = [start("room", items.not_full, lambda: not items.queue),
                       start("done", items.all_tasks_done, lambda: not items.unfinished_tasks)]
            putter = gevent.spawn(items.put, 2)
            gevent.sleep(0)
            assert items.get() == 1
            waiters[0].get()
            # The one that it has told was not the putter: that is how the standard has it.
            with items.not_full:
                items.not_full.notify()
            putter.get()
            joiner = gevent.spawn(items.join)
            gevent.sleep(0)
            items.task_done()
            gevent.sleep(0)
            assert not joiner.dead and not waiters[1].dead
            assert items.get() == 2
            items.task_done()
            gevent.joinall([joiner, *waiters], raise_error=True)
            assert events == ["item", "room", "done"], events

            try:
                items.task_done()
            except ValueError as error:
                assert str(error) == "task_done() called too many times"
            else:
                raise AssertionError("too many tasks were done")
        """
    run_script(script).check_quiet()


def test_hooks(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue
        from unittest import mock

        class Doubles(queue.Queue):
            def _put(self, item):
                super()._put(item * 2)

        class Logs(queue.LifoQueue):
            def __init__(self, *args):
                self.log = []
                super().__init__(*args)

            def put(self, item, block=True, timeout=None):
                self.log.append(item)
                super().put(item, block, timeout)

        class Plain(queue.PriorityQueue):
            pass

        doubles, logs, plain = Doubles(), Logs(1), Plain(maxsize=1)
        for items in (doubles, logs, plain):
            items.put_nowait(4)
            assert "mutex" in vars(items)
        assert doubles.get() == 8 and logs.get() == 4 and plain.get() == 4 and logs.log == [4]

        # One instance, and all of them for a while.
        items = queue.Queue()
        items.put("a")
        items._put = lambda item: items.queue.append(item.upper())
        items.put("b")
        assert [items.get(), items.get()] == ["a", "B"]

        items = queue.LifoQueue()
        items.put("a")
        with mock.patch.object(queue.LifoQueue, "_get", lambda self: "mocked"):
            assert items.get() == "mocked"
        with mock.patch.object(queue.Queue, "_put", lambda self, item: None):
            items.put("c")
            fifo = queue.Queue()
            fifo.put("lost")
            assert fifo.empty()
        with mock.patch.object(queue.Queue, "_qsize", lambda self: 7):
            assert fifo.qsize() == 7 and items.qsize() == 2
        with mock.patch.object(queue.Queue, "_init", lambda self, size: setattr(self, "q", size)):
            assert vars(queue.Queue(3))["q"] == 3
        assert items.get() == "c" and items.get() == "a" and fifo.qsize() == 0

        # One that becomes an instance of another class.
        items = queue.Queue()
        items.put(1)
        items.__class__ = Doubles
        items.put(2)
        assert [items.get(), items.get()] == [1, 4]
        """
    run_script(script).check_quiet()


def test_arguments(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import collections, inspect, queue

        items = queue.Queue(1)
        items.put(1)
        wrong = [
            (TypeError, items.put), (TypeError, lambda: items.put(1, True, 1, 1)),
            (TypeError, lambda: items.put(1, item=1)), (TypeError, lambda: items.get(wait=True)),
            (TypeError, lambda: items.qsize(1)), (TypeError, lambda: queue.Queue(1, 2)),
            (TypeError, lambda: items.get(timeout="soon")),
            (ValueError, lambda: items.get(timeout=-1)),
            (ValueError, lambda: items.put(1, timeout=-0.5)),
            (queue.Full, lambda: items.put(1, False, -1)), (queue.Full, lambda: items.put(2, [])),
            (queue.Full, lambda: items.put(1, timeout=0.001)),
        ]
        for kind, call in wrong:
            try:
                call()
            except kind:
                pass
            else:
                raise AssertionError(f"no {kind}")
        assert items.get(0, -1) == 1 and items.unfinished_tasks == 1

        items.maxsize = 2
        items.put(item=1)
        items.put(2, timeout=0)
        assert items.full()
        items.maxsize = 0
        items.put(3)
        assert not items.full()
        items.maxsize = 2.5
        assert items.full()
        items.maxsize = None
        try:
            items.put(4)
        except TypeError:
            pass

        # Containers of one's own.
        items = queue.Queue()
        items.queue = [5]
        items.put(6)
        assert items.queue == [5, 6]
        items.queue = collections.deque(items.queue, maxlen=2)
        items.put(7)
        assert items.get() == 6

        assert list(inspect.signature(queue.Queue.put).parameters) == [
            "self", "item", "block", "timeout"
        ]
        """
    run_script(script).check_quiet()


def test_comparing_items_lets_others_run(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, gevent

        class Slow:
            def __init__(self, number):
                self.number = number

            def __lt__(self, other):
                gevent.sleep(0)
                return self.number < other.number

        items = queue.PriorityQueue()
        gevent.joinall([gevent.spawn(items.put, Slow(n * 37 % 20)) for n in range(20)])
        assert items.qsize() == 20
        getters = [gevent.spawn(items.get) for _ in range(20)]
        gevent.joinall(getters, raise_error=True)
        assert sorted(getter.value.number for getter in getters) == list(range(20))

        # One that cannot be compared leaves the lock free.
        items.put(1)
        try:
            items.put("a")
        except TypeError:
            pass
        assert items.mutex.acquire(blocking=False)
        """
    run_script(script).check_quiet()


def test_native_threads_make_the_parts_once(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, sys, gevent
        from gevent.threadpool import ThreadPool

        sys.setswitchinterval(1e-6)
        pool = ThreadPool(4)
        for _ in range(100):
            items = queue.Queue()
            names = ["mutex", "not_empty", "not_full", "all_tasks_done"]
            found = [pool.spawn(getattr, items, name) for name in names]
            parts = [part.get() for part in found]
            assert all(part._lock is parts[0] for part in parts[1:])
            assert parts == [getattr(items, name) for name in names]

        items = queue.Queue(3)
        total = 4 * 500

        def produce():
            for number in range(500):
                items.put(number)

        def consume():
            taken = 0
            for _ in range(500):
                taken += items.get()
                items.task_done()
            return taken

        work = [pool.spawn(produce), pool.spawn(consume), pool.spawn(produce), pool.spawn(consume)]
        work += [gevent.spawn(function) for function in (produce, consume, produce, consume)]
        sums = [job.get() for job in work]
        items.join()
        assert sum(taken for taken in sums if taken) == 4 * sum(range(500))
        assert items.empty() and items.unfinished_tasks == 0
        """
    run_script(script).check_quiet()


def test_native_threads_take_while_garbage_is_collected(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import gc, queue, sys
        from gevent.threadpool import ThreadPool

        def run_others(phase, info):
            for _ in range(300):
                pass

        def take(items):
            try:
                return items.get_nowait()
            except queue.Empty:
                return 0

        sys.setswitchinterval(1e-6)
        gc.callbacks.append(run_others)
        pool = ThreadPool(4)
        for _ in range(1000):
            items = queue.Queue()
            items.put(1)
            items.mutex
            gc.set_threshold(1)
            taken = [pool.spawn(take, items) for _ in range(4)]
            assert sum(job.get() for job in taken) == 1
            gc.set_threshold(700)
        """
    run_script(script).check_quiet()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues can be shut down from 3.13 on")
def test_shutdown(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, gevent

        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            items = kind()
            items.put(1)
            assert items.is_shutdown is False
            items.shutdown()
            assert items.is_shutdown
            for use in (lambda: items.put(2), lambda: items.put(2, block=False)):
                try:
                    use()
                except queue.ShutDown:
                    pass
                else:
                    raise AssertionError("it has been shut down")
            assert items.get() == 1
            for use in (items.get, lambda: items.get(block=False)):
                try:
                    use()
                except queue.ShutDown:
                    pass
                else:
                    raise AssertionError("it has been shut down")

            items = kind(1)

            def wait():
                try:
                    items.get()
                except queue.ShutDown:
                    return True

            getter = gevent.spawn(wait)
            gevent.sleep(0)
            items.shutdown(immediate=True)
            assert getter.get()
        """
    run_script(script).check_quiet()


def test_queues_and_classes_from_before(run_script: Any) -> None:
    script = """
        import queue, threading
        from queue import LifoQueue

        class Derived(queue.Queue):
            pass

        early, derived = queue.Queue(2), Derived()
        early.put(1)
        from gevent import monkey; monkey.patch_all()
        import gevent

        early.put(2)
        putter = gevent.spawn(early.put, 3)
        gevent.sleep(0)
        assert [early.get() for _ in range(3)] == [1, 2, 3]
        getter = gevent.spawn(derived.get)
        gevent.sleep(0)
        derived.put(4)
        assert getter.get() == 4
        assert LifoQueue is queue.LifoQueue and "mutex" not in vars(LifoQueue())
        assert monkey.is_object_patched("queue.Queue", "put")
        """
    run_script(script).check_quiet()


def test_spinning_gives_way(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, gevent

        items = queue.Queue()
        gevent.spawn(lambda: items.put(1))
        while items.empty():
            pass
        gevent.spawn(lambda: items.get())
        while items.qsize():
            pass
        gevent.spawn(lambda: items.put(1))
        while True:
            try:
                items.get(block=False)
            except queue.Empty:
                continue
            break
        """
    run_script(script).check_quiet()

"""Locks, conditions, queues and locals after patching: between greenlets, and native threads."""

from __future__ import annotations

from typing import Any

PATCH = "from gevent import monkey; monkey.patch_all()\n"


def test_lock(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time

        lock = threading.Lock()
        order = []

        def work(number):
            with lock:
                order.append(number)
                time.sleep(0.001)
                order.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert order == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], order

        assert lock.acquire()
        assert lock.locked()
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0.01)
        threading.Timer(0.01, lock.release).start()
        assert lock.acquire(timeout=60)
        lock.release()
        for call in [lock.release, lambda: lock.acquire(False, 1), lambda: lock.acquire(True, -2)]:
            try:
                call()
            except (RuntimeError, ValueError) as error:
                print(error)
        """
    assert len(run_script(script).check_quiet().splitlines()) == 3


def test_reentrant_lock(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time

        for make in (threading.RLock, threading._PyRLock):
            lock = make()
            held = []

            def work():
                with lock:
                    with lock:
                        held.append(threading.get_ident())
                        time.sleep(0.001)
                        assert held[-1] == threading.get_ident()

            threads = [threading.Thread(target=work) for _ in range(5)]
            for thread in threads:
                thread.start()
            with lock, lock:
                assert not lock.acquire(False) or lock.release() is None
            for thread in threads:
                thread.join()
            assert len(held) == 5
            try:
                lock.release()
            except RuntimeError as error:
                print(error)
        """
    assert run_script(script).check_quiet() == "cannot release un-acquired lock\n" * 2


def test_condition_with_each_kind_of_lock(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading

        for lock in (None, threading.Lock(), threading.RLock(), threading._PyRLock()):
            condition = threading.Condition(lock)
            items = []
            taken = []

            def consume():
                with condition:
                    assert condition.wait_for(lambda: items, 60)
                    taken.append(items.pop())

            threads = [threading.Thread(target=consume) for _ in range(5)]
            for thread in threads:
                thread.start()
            with condition:
                assert not condition.wait(0.01)
                items.extend(range(2))
                condition.notify(2)
            with condition:
                items.extend(range(2, 5))
                condition.notify_all()
            for thread in threads:
                thread.join()
            assert sorted(taken) == [0, 1, 2, 3, 4]
            try:
                condition.notify()
            except RuntimeError as error:
                print(error)
        """
    assert run_script(script).check_quiet() == "cannot notify on un-acquired lock\n" * 4


def test_event_semaphore_barrier(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time

        event = threading.Event()
        assert not event.wait(0.01)
        threading.Timer(0.01, event.set).start()
        assert event.wait(60) and event.is_set()

        semaphore = threading.BoundedSemaphore(2)
        inside = 0
        most = 0
        barrier = threading.Barrier(5, action=lambda: print("all there"))
        places = []

        def work():
            global inside, most
            with semaphore:
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1
            places.append(barrier.wait(60))

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 2
        assert sorted(places) == [0, 1, 2, 3, 4]
        try:
            semaphore.release()
        except ValueError as error:
            print(error)
        try:
            barrier.wait(0.01)
        except threading.BrokenBarrierError:
            print("broken")
        """
    assert run_script(script).check_quiet().splitlines() == [
        "all there",
        "Semaphore released too many times",
        "broken",
    ]


def test_primitives_between_greenlets_and_native_threads(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, threading, time

        start = monkey.get_original("_thread", "start_new_thread")
        there, back = queue.Queue(5), queue.SimpleQueue()
        lock = threading.RLock()
        total = 0

        def native():
            global total
            for item in iter(there.get, None):
                with lock:
                    was = total
                    time.sleep(0.0001)
                    total = was + 1
                back.put(item)
            back.put(None)

        for _ in range(3):
            start(native, ())

        def produce():
            for number in range(100):
                there.put(number)
                with lock:
                    global total
                    was = total
                    time.sleep(0)
                    total = was + 1

        threads = [threading.Thread(target=produce) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(3):
            there.put(None)
        got = []
        ends = 0
        while ends < 3:
            item = back.get(timeout=60)
            if item is None:
                ends += 1
            else:
                got.append(item)
        assert sorted(got) == sorted(list(range(100)) * 3)
        assert total == 600, total
        """
    run_script(script).check_quiet()


def test_queues(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, threading

        for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            jobs = kind(2)
            results = []

            def work():
                while (item := jobs.get()) < 100:
                    results.append(item)
                    jobs.task_done()

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for number in range(20):
                jobs.put(number)
            jobs.join()
            assert sorted(results) == list(range(20))
            for _ in threads:
                jobs.put(100)
            for thread in threads:
                thread.join()
            try:
                jobs.get(timeout=0.01)
            except queue.Empty:
                pass
            jobs.put(1)
            jobs.put(2)
            try:
                jobs.put(3, timeout=0.01)
            except queue.Full:
                pass
            assert jobs.full() and jobs.qsize() == 2
        """
    run_script(script).check_quiet()


def test_queue_stays_the_standard_class(run_script: Any) -> None:
    script = """
        import queue
        before = queue.Queue
        from gevent import monkey; monkey.patch_all()
        import threading

        assert queue.Queue is before

        class Sets(queue.Queue):
            def _init(self, maxsize):
                self.queue = set()

            def _put(self, item):
                self.queue.add(item)

            def _get(self):
                return self.queue.pop()

        unique = Sets()
        for item in (1, 1, 2):
            unique.put(item)
        with unique.mutex:
            assert unique.queue == {1, 2}
        with unique.not_full:
            pass
        assert isinstance(unique.mutex, type(threading.Lock()))
        assert {unique.get(), unique.get()} == {1, 2}
        """
    run_script(script).check_quiet()


def test_local(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _threading_local, gc, threading, time, weakref

        class Value:
            pass

        class Own(threading.local):
            common = "class"

            def __init__(self, start):
                self.value = start

        assert threading.local is _threading_local.local
        plain, own = threading.local(), Own(7)
        plain.value = "main"
        references = []

        def work(number):
            assert not hasattr(plain, "value")
            assert own.value == 7 and own.common == "class"
            plain.value = Value()
            own.value = number
            references.append(weakref.ref(plain.value))
            time.sleep(0.001)
            assert own.value == number
            assert plain.value is references[number]()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        assert [reference() for reference in references] == [None] * 5
        assert plain.value == "main" and own.value == 7
        """
    run_script(script).check_quiet()


def test_logging(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import io, logging, threading, time

        class Slow(io.StringIO):
            def write(self, text):
                time.sleep(0.001)
                return super().write(text)

        stream = Slow()
        logging.basicConfig(stream=stream, format="%(threadName)s %(thread)d %(message)s")

        def work():
            for number in range(3):
                logging.warning("%d", number)

        threads = [threading.Thread(target=work, name=f"t{number}") for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = [line.split() for line in stream.getvalue().splitlines()]
        assert sorted((name, text) for name, ident, text in lines) == [
            (f"t{a}", str(b)) for a in range(5) for b in range(3)
        ]
        assert {int(ident) for name, ident, text in lines} == {t.ident for t in threads}
        """
    run_script(script).check_quiet()


def test_a_free_lock_is_taken_in_the_hub(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import logging, queue, sys, threading, gevent

        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        items = queue.Queue()
        simple = queue.SimpleQueue()
        event = threading.Event()

        def callback():
            logging.warning("in the hub")
            items.put("item")
            simple.put("simple")
            with threading.Lock(), threading.RLock(), threading.Semaphore():
                event.set()

        gevent.get_hub().loop.run_callback(callback)
        assert event.wait(60)
        print(items.get(), simple.get())
        """
    assert run_script(script).check_quiet() == "in the hub\nitem simple\n"


def test_a_finalizer_does_not_switch(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, threading, gevent

        items = queue.Queue(1)
        lock = threading.Lock()
        ran = []

        class Finalized:
            def __del__(self):
                items.put_nowait(1)
                lock.acquire(False)
                lock.release()
                try:
                    items.put_nowait(2)
                except queue.Full:
                    pass

        other = gevent.spawn(ran.append, 1)
        Finalized()
        assert ran == []
        other.join()
        assert items.get() == 1
        """
    run_script(script).check_quiet()


def test_a_finalizer_does_not_switch_when_others_have_waited_for_long(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, time, gevent

        items = queue.Queue()
        ran = []

        class Finalized:
            def __del__(self):
                items.put_nowait(1)

        other = gevent.spawn(ran.append, 1)
        # Locks look at the clock now and then.
        for _ in range(40):
            end = time.perf_counter() + 0.01
            while time.perf_counter() < end:
                pass
            Finalized()
        assert ran == [] and items.qsize() == 40
        """
    run_script(script).check_quiet()


def test_a_queue_module_imported_afresh(run_script: Any) -> None:
    """As the tests of the standard library do, to have it with and without its accelerator."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import queue, sys, threading

        for names in (["queue"], ["queue", "_queue"]):
            for name in names:
                del sys.modules[name]
            import queue as again
            assert again is not queue
            items = again.SimpleQueue()
            timer = threading.Timer(0.01, items.put, ["item"])
            timer.start()
            assert items.get(timeout=60) == "item"
            try:
                items.get_nowait()
            except again.Empty:
                pass
        """
    run_script(script).check_quiet()

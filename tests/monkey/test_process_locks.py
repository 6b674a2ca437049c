"""The locks, queues and pools of multiprocessing in a patched program."""

from __future__ import annotations

from typing import Any

import pytest

METHODS = ["fork", "spawn", "forkserver"]

PRELUDE = """
        from gevent import monkey; monkey.patch_all()
        import multiprocessing, sys
        import gevent
        from gevent import Timeout
        from gevent.event import Event

"""


@pytest.mark.parametrize("method", METHODS)
def test_a_lock_that_another_process_has_blocks_one_greenlet(run_script: Any, method: str) -> None:
    script = (
        PRELUDE
        + """
        def hold(lock, taken, gate):
            with lock:
                taken.send(True)
                gate.recv()

        def main():
            context = multiprocessing.get_context(sys.argv[1])
            lock = context.Lock()
            taken, taken_there = context.Pipe()
            gate, gate_there = context.Pipe()
            process = context.Process(target=hold, args=(lock, taken_there, gate_there))
            process.start()
            assert taken.recv()
            assert not lock.acquire(block=False)
            assert not lock.acquire(timeout=0.01)
            waiting = [gevent.spawn(lock.acquire) for _ in range(3)]
            gevent.sleep(0.01)
            assert not any(greenlet.ready() for greenlet in waiting)
            waiting.pop(1).kill()
            # What lets them on happens in this greenlet.
            gate.send(True)
            assert waiting[0].get()
            lock.release()
            assert waiting[1].get()
            assert not lock.acquire(block=False)
            lock.release()
            assert lock.acquire(block=False)
            process.join()
            print(process.exitcode)

        if __name__ == "__main__":
            main()
        """
    )
    assert run_script(script, method).check_quiet() == "0\n"


def test_recursive_locks_belong_to_greenlets(run_script: Any) -> None:
    script = (
        PRELUDE
        + """
        lock = multiprocessing.RLock()
        with lock:
            assert lock.acquire()
            other = gevent.spawn(lock.acquire, timeout=0.01)
            assert other.get() is False

            def release():
                try:
                    lock.release()
                except AssertionError:
                    return "refused"

            print(gevent.spawn(release).get())
            lock.release()
            assert not gevent.spawn(lock.acquire, block=False).get()
        assert gevent.spawn(lock.acquire, block=False).get()
        assert not lock.acquire(block=False)
        """
    )
    assert run_script(script).check_quiet() == "refused\n"


def test_a_wait_that_is_given_up_takes_nothing(run_script: Any) -> None:
    script = (
        PRELUDE
        + """
        for made in (multiprocessing.Lock, lambda: multiprocessing.Semaphore(1)):
            lock = made()
            lock.acquire()
            try:
                with Timeout(0.01):
                    lock.acquire()
            except Timeout:
                print("given up")
            lock.release()
            # Once more, with a wait and without.
            assert lock.acquire()
            waiting = gevent.spawn(lock.acquire)
            gevent.sleep(0.001)
            lock.release()
            assert waiting.get()
        """
    )
    assert run_script(script).check_quiet() == "given up\ngiven up\n"


@pytest.mark.parametrize("kind", ["Event", "Condition", "Semaphore", "Barrier"])
def test_what_is_made_of_locks_works_among_greenlets(run_script: Any, kind: str) -> None:
    script = (
        PRELUDE
        + """
        def event():
            event = multiprocessing.Event()
            waiting = [gevent.spawn(event.wait) for _ in range(2)]
            gevent.sleep(0.01)
            event.set()
            return [greenlet.get() for greenlet in waiting]

        def condition():
            condition = multiprocessing.Condition()

            def wait():
                with condition:
                    return condition.wait(60)

            waiting = [gevent.spawn(wait) for _ in range(2)]
            gevent.sleep(0.01)
            with condition:
                condition.notify_all()
            return [greenlet.get() for greenlet in waiting]

        def semaphore():
            semaphore = multiprocessing.BoundedSemaphore(2)
            taken = [gevent.spawn(semaphore.acquire) for _ in range(3)]
            gevent.sleep(0.01)
            assert [greenlet.ready() for greenlet in taken] == [True, True, False]
            semaphore.release()
            taken[2].get()
            semaphore.release()
            semaphore.release()
            try:
                semaphore.release()
            except ValueError:
                return [True, True]

        def barrier():
            barrier = multiprocessing.Barrier(2)
            waiting = [gevent.spawn(barrier.wait) for _ in range(2)]
            return [greenlet.get() in (0, 1) for greenlet in waiting]

        print(vars()[sys.argv[1].lower()]())
        """
    )
    assert run_script(script, kind).check_quiet() == "[True, True]\n"


@pytest.mark.parametrize("method", METHODS)
def test_queues_and_pools_block_one_greenlet(run_script: Any, method: str) -> None:
    script = (
        PRELUDE
        + """
        def echo(source, target):
            for item in iter(source.get, None):
                target.put(item * 2)

        def double(item):
            return item * 2

        def main():
            context = multiprocessing.get_context(sys.argv[1])
            source, target = context.Queue(), context.Queue()
            process = context.Process(target=echo, args=(source, target))
            process.start()
            getting = gevent.spawn(lambda: [target.get() for _ in range(3)])
            gevent.sleep(0.01)
            assert not getting.ready()
            for item in (1, "x", b"y" * 200_000):
                source.put(item)
            assert getting.get() == [2, "xx", b"y" * 400_000]
            source.put(None)
            process.join()
            with context.Pool(2) as pool:
                results = [gevent.spawn(pool.apply, double, (item,)) for item in range(5)]
                print([result.get() for result in results])
            print(process.exitcode)

        if __name__ == "__main__":
            main()
        """
    )
    assert run_script(script, method).check_quiet() == "[0, 2, 4, 6, 8]\n0\n"


def test_who_waits_in_the_parent_does_not_in_the_child(run_script: Any) -> None:
    script = (
        PRELUDE
        + """
        context = multiprocessing.get_context("fork")

        def child(connection):
            waiting = gevent.spawn(lock.acquire)
            gevent.sleep(0.01)
            connection.send(waiting.ready())
            print(waiting.get(), flush=True)

        lock = context.Lock()
        lock.acquire()
        waiting = gevent.spawn(lock.acquire)
        gevent.sleep(0.01)
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        process.start()
        assert not ours.recv()
        waiting.kill()
        lock.release()
        process.join()
        print(process.exitcode)
        """
    )
    assert run_script(script).check_quiet() == "True\n0\n"

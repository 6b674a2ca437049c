"""What greenloop promises where gevent says less, does less, or fails."""

import gc
import os
import re
import threading

import gevent
import pytest
from gevent.event import AsyncResult, Event
from gevent.hub import LoopExit
from gevent.lock import BoundedSemaphore, RLock, Semaphore
from gevent.queue import Queue

HERE = os.path.basename(__file__)


def waits_for_the_event(event):
    event.wait()


def waits_for_the_item(queue):
    queue.get()


def waits_for_the_lock(lock):
    lock.acquire()


def waits_for_the_result(result):
    result.get()


def line_of(function):
    """The line the one-line body of `function` is on."""
    return function.__code__.co_firstlineno + 1


@pytest.mark.parametrize(
    ("function", "made", "name"),
    [
        (waits_for_the_event, Event, "Event"),
        (waits_for_the_item, Queue, "Queue"),
        (waits_for_the_lock, lambda: Semaphore(0), "Semaphore"),
        (waits_for_the_result, AsyncResult, "AsyncResult"),
    ],
)
def test_loop_exit_names_who_waits_on_what_from_where(function, made, name):
    g = gevent.spawn(function, made())
    with pytest.raises(LoopExit) as caught:
        g.join()
    message = str(caught.value)
    assert "This operation would block forever" in message
    assert function.__name__ in message
    assert re.search(rf"\b{name}\b", message)
    assert f"{HERE}:{line_of(function)}" in message
    g.kill()


def test_loop_exit_names_the_main_greenlets_own_wait():
    event = Event()

    def stuck():
        event.wait()

    with pytest.raises(LoopExit) as caught:
        stuck()
    message = str(caught.value)
    assert re.search(r"\bEvent\b", message)
    assert f"{HERE}:{line_of(stuck)}" in message


def test_loop_exit_names_every_one_of_a_few_waiters():
    gs = [
        gevent.spawn(waits_for_the_event, Event()),
        gevent.spawn(waits_for_the_item, Queue()),
    ]
    with pytest.raises(LoopExit) as caught:
        gevent.joinall(gs, raise_error=True)
    message = str(caught.value)
    assert "waits_for_the_event" in message
    assert "waits_for_the_item" in message
    gevent.killall(gs)


def test_loop_exit_message_is_bounded_with_thousands_of_waiters():
    event = Event()
    gs = [gevent.spawn(waits_for_the_event, event) for _ in range(5000)]
    with pytest.raises(LoopExit) as caught:
        gs[0].join()
    message = str(caught.value)
    assert "waits_for_the_event" in message
    assert len(message) < 100_000
    gevent.killall(gs)


def test_loop_exit_printed_by_a_program_names_the_line(run_script):
    result = run_script(
        """
        import gevent
        from gevent.event import Event

        def deadlocked(event):
            event.wait()

        gevent.spawn(deadlocked, Event()).join()
        """
    )
    assert result.returncode == 1
    assert "deadlocked" in result.stderr
    assert "Event" in result.stderr
    assert re.search(r"\w+\.py:\d+", result.stderr)


def test_asyncresult_set_from_a_native_thread():
    result = AsyncResult()
    thread = threading.Timer(0.01, result.set, ("from a thread",))
    thread.start()
    assert result.get(timeout=30) == "from a thread"
    thread.join()


@pytest.mark.parametrize("seconds", [None, 30])
def test_event_set_from_a_native_thread_with_nothing_else_to_do(seconds):
    event = Event()
    waiter = gevent.spawn(event.wait, seconds)
    gevent.sleep(0)
    thread = threading.Thread(target=event.set)
    thread.start()
    thread.join()
    assert waiter.get(timeout=30) is True


def test_queue_between_native_threads():
    queue = Queue()
    count = 500

    def feed():
        for i in range(count):
            queue.put(i)

    thread = threading.Thread(target=feed)
    thread.start()
    got = [queue.get(timeout=30) for _ in range(count)]
    thread.join()
    assert got == list(range(count))


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore, RLock])
def test_one_lock_for_greenlets_and_native_threads(kind):
    lock = kind()
    total = 0

    def work():
        nonlocal total
        for _ in range(50):
            with lock:
                seen = total
                gevent.sleep(0)
                total = seen + 1

    def thread_main():
        gevent.joinall([gevent.spawn(work) for _ in range(2)])

    threads = [threading.Thread(target=thread_main) for _ in range(2)]
    for thread in threads:
        thread.start()
    gevent.joinall([gevent.spawn(work) for _ in range(2)])
    while any(thread.is_alive() for thread in threads):
        gevent.sleep(0.001)
    assert total == 300


def test_non_blocking_calls_in_a_finalizer_never_switch(never_switches):
    lock, queue, event = Semaphore(1), Queue(1), Event()
    log = []

    class Finalized:
        def __del__(self):
            log.append(lock.acquire(blocking=False))
            lock.release()
            queue.put_nowait(1)
            log.append(queue.get_nowait())
            log.append(queue.qsize())
            event.set()
            event.clear()

    with never_switches():
        made = Finalized()
        del made
        gc.collect()
    assert log == [True, 1, 0]


def test_sleep_of_not_a_number_is_refused():
    with pytest.raises(ValueError):
        gevent.sleep(float("nan"))


@pytest.mark.parametrize("ending", ["returned", "failed", "killed"])
def test_iwait_begins_with_greenlets_that_have_ended(ending):
    ended = gevent.Greenlet(int, "x" if ending == "failed" else "1")
    if ending == "killed":
        ended.kill()
    else:
        ended.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gevent.get_hub(), "print_exception", lambda *args: None)
            ended.join()
    ran = []
    other = gevent.spawn(ran.append, 1)
    with gevent.iwait([other, ended]) as ready:
        assert next(ready) is ended
        assert ran == []
        assert next(ready) is other
    assert gevent.wait([ended, other, ended], count=1) == [ended]


def test_iwait_lets_links_of_greenlets_that_have_ended_be_called_first():
    called = []
    ended = gevent.spawn(int)
    ended.link(called.append)
    gevent.sleep(0)  # It has ended, and the link is about to be called.
    assert ended.ready()
    assert called == []
    assert ended.has_links()
    assert list(gevent.iwait([ended])) == [ended]
    assert called == [ended]
    assert not ended.has_links()

"""The hub: one per thread, callbacks, threads, blocking where one must not, LoopExit."""

import threading

import gevent
import pytest
from gevent.event import Event
from gevent.exceptions import BlockingSwitchOutError
from gevent.hub import LoopExit, get_hub
from gevent.lock import Semaphore


def in_thread(function, *args):
    """Run `function` in a native thread and return what it returned or raise what it raised."""
    outcome = []

    def run():
        try:
            outcome.append((function(*args), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    [(value, error)] = outcome
    if error is not None:
        raise error
    return value


def test_there_is_one_hub_per_thread():
    hub = get_hub()
    assert get_hub() is hub
    assert gevent.get_hub() is hub
    assert gevent.spawn(get_hub).get() is hub

    def other():
        first = get_hub()
        return first is not hub and gevent.spawn(get_hub).get() is first

    assert in_thread(other)


def test_the_hub_is_a_child_of_the_main_greenlet():
    assert gevent.getcurrent().parent is None
    assert get_hub().parent is gevent.getcurrent()


def test_callbacks_run_in_the_hub_in_the_order_queued():
    ran = []
    loop = get_hub().loop
    for i in range(100):
        loop.run_callback(ran.append, i)
    loop.run_callback(lambda: ran.append(gevent.getcurrent()))
    assert ran == []
    gevent.sleep(0)
    assert ran == [*range(100), get_hub()]


def test_callbacks_take_any_number_of_arguments():
    seen = []

    def callback(*args):
        seen.append(args)

    loop = get_hub().loop
    loop.run_callback(callback)
    loop.run_callback(callback, 1)
    loop.run_callback(callback, 1, "two", None)
    gevent.sleep(0)
    assert seen == [(), (1,), (1, "two", None)]


def test_callbacks_and_greenlets_share_one_queue():
    ran = []
    loop = get_hub().loop
    for i in range(0, 10, 2):
        loop.run_callback(ran.append, i)
        gevent.spawn(ran.append, i + 1)
    gevent.sleep(0)
    assert ran == list(range(10))


def test_a_callback_queued_by_a_callback_runs_later():
    ran = []
    loop = get_hub().loop

    def first():
        loop.run_callback(ran.append, "nested")
        ran.append("first")

    loop.run_callback(first)
    loop.run_callback(ran.append, "second")
    gevent.sleep(0)
    gevent.sleep(0)
    assert ran == ["first", "second", "nested"]


def test_run_callback_needs_a_function():
    with pytest.raises(TypeError):
        get_hub().loop.run_callback()


def test_a_stopped_callback_does_not_run():
    ran = []
    callback = get_hub().loop.run_callback(ran.append, 1)
    assert callback.pending
    callback.stop()
    assert not callback.pending
    gevent.sleep(0)
    assert ran == []


def test_a_callback_that_raises_is_reported_and_survived(capsys):
    ran = []
    loop = get_hub().loop
    loop.run_callback(int, "bad")
    loop.run_callback(ran.append, "after")
    gevent.sleep(0)
    assert ran == ["after"]
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err or "ValueError" in err
    assert "ValueError: invalid literal for int()" in err
    assert "failed with ValueError" in err


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_callback_that_raises_a_system_error_interrupts_main(error, capsys):
    def callback():
        raise error("from a callback")

    get_hub().loop.run_callback(callback)
    with pytest.raises(error, match="from a callback"):
        gevent.sleep(10)
    assert gevent.spawn(lambda: "alive").get() == "alive"


def test_run_callback_threadsafe_wakes_a_sleeping_loop():
    loop = get_hub().loop
    event = Event()
    seen = []

    def callback(*args):
        seen.append((args, gevent.getcurrent(), threading.get_ident()))
        event.set()

    timer = threading.Timer(0.02, loop.run_callback_threadsafe, (callback, 1, "two"))
    timer.start()
    assert event.wait(timeout=30)
    timer.join()
    assert seen == [((1, "two"), get_hub(), threading.get_ident())]


def test_run_callback_threadsafe_loses_nothing_and_keeps_each_threads_order():
    loop = get_hub().loop
    seen = []
    done = Event()

    def callback(thread, i):
        seen.append((thread, i))
        if len(seen) == 4000:
            done.set()

    def feed(thread):
        for i in range(1000):
            loop.run_callback_threadsafe(callback, thread, i)

    threads = [threading.Thread(target=feed, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    assert done.wait(timeout=30)
    for n in range(4):
        assert [i for thread, i in seen if thread == n] == list(range(1000))


def block_by_sleep():
    gevent.sleep(1)


def block_by_sleep_zero():
    gevent.sleep(0)


def block_by_event():
    Event().wait()


def block_by_event_timeout():
    Event().wait(0.1)


def block_by_join():
    gevent.spawn(len, "").join()


def block_by_semaphore():
    Semaphore(0).acquire()


@pytest.mark.parametrize(
    "block",
    [
        block_by_sleep,
        block_by_sleep_zero,
        block_by_event,
        block_by_event_timeout,
        block_by_join,
        block_by_semaphore,
    ],
)
def test_blocking_in_the_hub_is_an_error(block):
    caught = []

    def callback():
        try:
            block()
        except BlockingSwitchOutError as error:
            caught.append(error)

    get_hub().loop.run_callback(callback)
    gevent.sleep(0)
    [error] = caught
    assert isinstance(error, AssertionError)
    assert str(error)
    gevent.sleep(0)


def test_loop_exit_when_nothing_can_ever_wake_the_main_greenlet():
    with pytest.raises(LoopExit) as caught:
        Event().wait()
    assert "This operation would block forever" in str(caught.value)
    assert isinstance(caught.value, Exception)


def test_loop_exit_while_joining_a_greenlet_that_waits_forever():
    g = gevent.spawn(Event().wait)
    with pytest.raises(LoopExit):
        g.join()
    assert not g.ready()
    g.kill()


def test_the_hub_works_after_a_loop_exit():
    for _ in range(3):
        with pytest.raises(LoopExit):
            Event().wait()
        gevent.sleep(0.001)
        assert gevent.spawn(lambda: "alive").get() == "alive"


def test_no_loop_exit_while_a_timer_runs():
    event = Event()
    gevent.spawn_later(0.01, event.set)
    assert event.wait() is True


def test_hub_in_a_native_thread_runs_greenlets():
    def other():
        log = []
        gevent.joinall([gevent.spawn(log.append, i) for i in range(3)])
        gevent.sleep(0.001)
        return log

    assert in_thread(other) == [0, 1, 2]


def test_switching_to_another_threads_greenlet_is_an_error():
    import greenlet

    g = gevent.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    with pytest.raises(greenlet.error):
        in_thread(g.switch)
    g.kill()

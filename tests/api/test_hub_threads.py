"""The hub and its loop, used from threads that are not theirs, and at the edges of its life."""

import os
import sys
import threading

import gevent
import greenlet
import pytest
from gevent.event import AsyncResult, Event
from gevent.lock import Semaphore
from gevent.queue import Queue

if os.environ.get("GREENLOOP_TEST_PEER") == "1":
    pytest.skip("what greenloop promises beyond gevent", allow_module_level=True)

from greenloop.exceptions import BlockingSwitchOutError, InvalidThreadUseError, LoopExit


def in_thread(function, *args):
    """Run a function in a native thread while this thread's hub runs; its result or exception."""
    return gevent.get_hub().threadpool.apply(function, args)


# --- the loop


def test_what_may_be_asked_of_a_loop_by_another_thread():
    hub = gevent.get_hub()
    loop = hub.loop
    before = loop.now()

    def ask():
        return loop.now(), loop.activecnt, loop.pendingcnt, loop.backend, repr(loop), repr(hub)

    now, active, pending, backend, loop_text, hub_text = in_thread(ask)
    assert now >= before
    assert active >= 0
    assert pending >= 0
    assert backend == loop.backend
    assert backend in loop_text
    assert "Hub" in hub_text


def test_active_count_of_a_loop_that_polls():
    loop = gevent.get_hub().loop
    timers = [gevent.spawn_later(100, print) for _ in range(7)]
    try:
        assert in_thread(lambda: loop.activecnt) >= 7
    finally:
        gevent.killall(timers)


@pytest.mark.parametrize("name", ["update", "update_now", "reinit"])
def test_what_may_not_be_done_to_a_loop_by_another_thread(name):
    loop = gevent.get_hub().loop
    with pytest.raises(InvalidThreadUseError):
        in_thread(getattr(loop, name))


def test_asking_while_the_loop_is_busy():
    loop = gevent.get_hub().loop
    stop = threading.Event()
    failures = []

    def ask():
        while not stop.is_set():
            try:
                assert loop.now() > 0
                assert loop.activecnt >= 0
                repr(loop)
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        gevent.joinall(
            [gevent.spawn(lambda: [gevent.sleep(0.0005) for _ in range(20)]) for _ in range(50)]
        )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


# --- destroy


def test_another_thread_cannot_destroy_a_hub_at_work():
    hub = gevent.get_hub()
    with pytest.raises(InvalidThreadUseError):
        in_thread(hub.destroy)
    assert not hub.dead
    gevent.sleep(0)


def test_another_thread_may_destroy_the_hub_of_an_ended_thread():
    hubs = []
    thread = threading.Thread(target=lambda: hubs.append(gevent.get_hub()))
    thread.start()
    thread.join()
    while not hubs[0].dead:
        gevent.sleep(0.001)
    hubs[0].destroy()


@pytest.mark.parametrize(
    "wait",
    [
        "gevent.sleep(0.01, ref=False)",
        "gevent.get_hub().join(0.01)",
        "gevent.get_hub().threadpool.apply(len, ('abc',))",
        "select.poll(0.01)",
        "gevent.idle()",
    ],
)
def test_hub_destroyed_in_the_middle_of_a_wait(run_script, wait):
    """What the wait does at its end concerns the hub that it began in."""
    result = run_script(
        f"""
        import gc
        import gevent
        import gevent.select
        from gevent import hub

        class select:
            @staticmethod
            def poll(seconds):
                import os
                reader, writer = os.pipe()
                poll = gevent.select.poll()
                poll.register(reader, gevent.select.POLLIN)
                poll.poll(seconds * 1000)

        def wait():
            {wait}

        def destroyer():
            gevent.get_hub().destroy()

        gevent.spawn(destroyer)
        try:
            wait()
        except (AssertionError, hub.LoopExit):
            pass
        gc.collect()
        junk = [bytearray(600) for _ in range(1000)]
        try:
            gevent.sleep(0.001)
        except AssertionError:
            # The wait was over before the hub was.
            gevent.sleep(0.001)
        print("end")
        """,
        env={"PYTHONMALLOC": "debug"},
    )
    assert (result.stdout, result.returncode) == ("end\n", 0), result.stderr


# --- timers


def test_key_of_a_timer_means_nothing_to_another_hub(run_script):
    result = run_script(
        """
        import gevent

        delayed = gevent.spawn_later(100, print, "delayed")
        gevent.get_hub().destroy()
        # The first timers of the new hub: none of them is the one of `delayed`.
        sleepers = [gevent.spawn_later(0.01, print, "slept") for _ in range(3)]
        delayed.kill()
        gevent.joinall(sleepers, timeout=10)
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("slept\n" * 3, "", 0)


@pytest.mark.parametrize("block", [True, False])
def test_kill_of_a_delayed_greenlet_from_another_thread(block):
    ran = []
    delayed = gevent.spawn_later(1000, ran.append, 1)
    in_thread(lambda: delayed.kill(block=block))
    delayed.join(10)
    assert delayed.dead
    assert delayed.successful()
    assert isinstance(delayed.value, gevent.GreenletExit)
    assert not ran
    # The timer is gone: nothing is left that the loop could wait for.
    assert gevent.get_hub().join(10)


def test_kill_of_a_delayed_greenlet_of_an_ended_thread():
    made = []
    thread = threading.Thread(target=lambda: made.append(gevent.spawn_later(1000, print)))
    thread.start()
    thread.join()
    made[0].kill()
    assert made[0].dead


# --- the hub as a greenlet


def test_exception_thrown_into_a_hub_that_has_not_run(run_script):
    result = run_script(
        """
        import gevent

        try:
            gevent.get_hub().throw(ValueError("into the hub"))
        except gevent.hub.LoopExit:
            print("LoopExit")
        gevent.sleep(0.001)
        print(gevent.spawn(len, "abc").get())
        """
    )
    assert (result.stdout, result.returncode) == ("LoopExit\n3\n", 0)
    assert "ValueError: into the hub" in result.stderr


# --- tracing


def test_trace_function_that_waits():
    """It is in the middle of a switch: the wait is refused and nothing else happens."""
    refused = []

    def trace(event, args):
        try:
            gevent.sleep(0.001)
        except BlockingSwitchOutError as error:
            refused.append(error)

    def work():
        for _ in range(5):
            gevent.sleep(0)
        return "done"

    greenlets = [gevent.spawn(work) for _ in range(5)]
    old = greenlet.settrace(trace)
    try:
        gevent.joinall(greenlets)
    finally:
        greenlet.settrace(old)
    assert [g.value for g in greenlets] == ["done"] * 5
    assert refused


def test_trace_function_that_switches_keeps_nothing():
    main = greenlet.getcurrent()
    busy = False

    def trace(event, args):
        nonlocal busy
        if not busy:
            busy = True
            assert greenlet.greenlet(lambda: 5).switch() == 5
            busy = False

    def body():
        main.switch()

    before = sys.getrefcount(main)
    old = greenlet.settrace(trace)
    try:
        for _ in range(10):
            g = greenlet.greenlet(body)
            g.switch()
            g.switch()
    finally:
        greenlet.settrace(old)
    del g
    assert sys.getrefcount(main) == before


# --- LoopExit


def test_loop_exit_names_an_object_that_goes_away_meanwhile(run_script):
    result = run_script(
        """
        import gevent
        from gevent.event import Event

        class Volatile(Event):
            def __repr__(self):
                global waiting
                waiting = None
                return "volatile"

        waiting = Volatile()

        def wait():
            waiting.wait()

        g = gevent.spawn(wait)
        g.name = None

        class Named(gevent.Greenlet):
            def __repr__(self):
                g.kill(block=False)
                return "named"

        Named.spawn(Event().wait)
        gevent.sleep(0)
        try:
            Event().wait()
        except gevent.hub.LoopExit as error:
            print("volatile" in str(error) or "named" in str(error))
        """,
        env={"PYTHONMALLOC": "debug"},
    )
    assert (result.stdout, result.stderr, result.returncode) == ("True\n", "", 0)


# --- what was on its way to a thread that ends


def thread_with(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def until(condition):
    while not condition():
        gevent.sleep(0.001)


def test_permit_on_its_way_to_an_ended_thread_goes_to_another():
    semaphore = Semaphore(0)
    kept = []

    def body():
        kept.extend(gevent.spawn(semaphore.acquire) for _ in range(3))
        gevent.sleep(0)
        # They are woken, and never get to run.
        semaphore.release()
        semaphore.release()

    thread_with(body)
    until(lambda: all(g.dead for g in kept))
    assert semaphore.acquire(timeout=10)
    assert semaphore.acquire(timeout=10)
    assert not semaphore.acquire(blocking=False)


def test_item_on_its_way_to_an_ended_thread_stays():
    queue = Queue()
    kept = []

    def body():
        kept.extend(gevent.spawn(queue.get) for _ in range(3))
        gevent.sleep(0)
        queue.put("item")

    thread_with(body)
    until(lambda: all(g.dead for g in kept))
    assert queue.get(timeout=10) == "item"


def test_waits_of_an_ended_thread_leave_the_objects():
    event, result, semaphore = Event(), AsyncResult(), Semaphore(0)
    kept = []

    def body():
        for wait in (event.wait, result.get, semaphore.acquire):
            kept.extend(gevent.spawn(wait) for _ in range(3))
        gevent.sleep(0)

    thread_with(body)
    until(lambda: all(g.dead for g in kept))
    event.set()
    result.set(1)
    semaphore.release()
    assert semaphore.acquire(timeout=10)


def test_ended_threads_close_the_hubs_that_their_last_acts_need(run_script):
    result = run_script(
        """
        import os
        import threading
        import gevent

        finished = []

        def work():
            try:
                gevent.sleep(100)
            finally:
                gevent.sleep(0.001)
                finished.append(1)

        def body():
            for _ in range(5):
                gevent.spawn(work)
            gevent.sleep(0)

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        gevent.sleep(0.001)
        before = descriptors()
        for n in range(20):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
            while len(finished) < 5 * (n + 1):
                gevent.sleep(0.001)
        while descriptors() > before:
            gevent.sleep(0.001)
        print(len(finished))
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("100\n", "", 0)


def test_out_of_work_is_told():
    with pytest.raises(LoopExit):
        gevent.hub.Waiter().get()


def test_greenlets_that_wait_in_the_hub_end_with_their_thread():
    """Nobody could wake them any more: they are ended, kept or not."""
    log, kept = [], []

    def work(wait):
        try:
            wait()
        finally:
            log.append(threading.get_ident())

    def body():
        idents.append(threading.get_ident())
        waits = Event().wait, lambda: gevent.sleep(1000), Queue().get
        kept.extend(gevent.spawn(work, wait) for wait in waits)
        gevent.sleep(0)

    idents = []
    thread_with(body)
    until(lambda: all(g.ready() for g in kept))
    assert log == idents * 3
    assert all(isinstance(g.value, gevent.GreenletExit) for g in kept)


def test_a_greenlet_that_starts_itself_anew_for_ever_does_not_keep_its_thread():
    started, kept = [], []

    def work():
        started.append(1)
        try:
            gevent.sleep(1000)
        finally:
            kept.append(gevent.spawn(work))
            gevent.sleep(0)

    def body():
        kept.append(gevent.spawn(work))
        gevent.sleep(0)

    thread_with(body)
    until(lambda: all(g.dead or not g.started for g in kept))
    assert 2 <= len(started) < 100

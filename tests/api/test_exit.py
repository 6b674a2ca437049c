"""Ctrl-C, leaving the program with greenlets parked, LoopExit in main."""

import os
import signal

import pytest

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="gevent leaves greenlets of ended threads"
)


PARKED = """
    import gevent
    from gevent.event import Event
    from gevent.queue import Queue

    event, queue = Event(), Queue()
    for i in range(5000):
        gevent.spawn((event.wait, queue.get, lambda: gevent.sleep(100))[i % 3])
    gevent.sleep(0)
    print("end")
"""


def test_exit_with_thousands_of_parked_greenlets_is_quiet(run_script):
    result = run_script(PARKED)
    assert result.stdout == "end\n"
    assert result.stderr == ""
    assert result.returncode == 0


def test_exit_by_system_exit_with_parked_greenlets(run_script):
    result = run_script(PARKED + "    raise SystemExit(5)\n")
    assert result.stdout == "end\n"
    assert result.stderr == ""
    assert result.returncode == 5


def test_exit_by_an_exception_with_parked_greenlets(run_script):
    result = run_script(PARKED + "    raise ValueError('last words')\n")
    assert result.stdout == "end\n"
    assert result.stderr.rstrip().endswith("ValueError: last words")
    assert result.returncode == 1


def test_exit_with_greenlets_never_run(run_script):
    result = run_script(
        """
        import gevent

        gs = [gevent.spawn(print, "never") for _ in range(1000)]
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


INTERRUPTED = """
    import os
    import signal
    import sys
    import threading
    import time

    import gevent
    from gevent.event import Event

    def interrupt():
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
"""


@pytest.mark.parametrize(
    "wait",
    [
        "gevent.sleep(20)",
        "gevent.spawn(gevent.sleep, 20).join()",
        "gevent.joinall([gevent.spawn(gevent.sleep, 20) for _ in range(100)])",
        "gevent.spawn_later(20, len) and Event().wait()",
        "gevent.spawn_later(20, len) and gevent.wait()",
    ],
)
def test_keyboard_interrupt_reaches_the_main_greenlet(run_script, wait):
    result = run_script(
        INTERRUPTED
        + f"""
    try:
        {wait}
    except KeyboardInterrupt:
        print("interrupted", gevent.getcurrent().parent)
    gevent.sleep(0)
    print("goes on", gevent.spawn(len, "abc").get())
"""
    )
    assert result.stdout == "interrupted None\ngoes on 3\n"
    assert result.returncode == 0


def test_keyboard_interrupt_not_caught_ends_the_program(run_script):
    result = run_script(INTERRUPTED + "    gevent.sleep(20)\n", signalled=signal.SIGINT)
    assert result.returncode == -signal.SIGINT
    assert result.stderr.rstrip().endswith("KeyboardInterrupt")


def test_loop_exit_in_main_ends_the_program(run_script):
    result = run_script(
        """
        import gevent
        from gevent.event import Event

        Event().wait()
        """
    )
    assert result.returncode == 1
    assert "LoopExit" in result.stderr
    assert "This operation would block forever" in result.stderr


def test_threads_with_hubs_end_quietly(run_script):
    result = run_script(
        """
        import threading
        import gevent

        def run():
            gevent.joinall([gevent.spawn(gevent.sleep, 0.001) for _ in range(10)])
            gevent.spawn(gevent.sleep, 100)
            gevent.sleep(0)

        threads = [threading.Thread(target=run) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("end")
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("end\n", "", 0)


MANY_THREADS = """
    import atexit
    import sys
    import threading
    import time

    import gevent
    import greenlet
    from gevent.event import Event
    from gevent.lock import Semaphore

    kept = []
    ready = threading.Semaphore(0)
    semaphore = Semaphore(0)

    def park():
        greenlet.getcurrent().parent.switch()

    def work(last):
        for _ in range(50):
            g = greenlet.greenlet(park)
            g.switch()
            kept.append(g)
        kept.extend(gevent.spawn(wait) for wait in [semaphore.acquire, Event().wait] * 10)
        gevent.sleep(0)
        ready.release()
        last()

    def start(last, count=4, **options):
        for n in range(count):
            threading.Thread(target=work, args=(last,), **options).start()
        for n in range(count):
            ready.acquire()

    @atexit.register
    def at_exit():
        jobs = [gevent.spawn(lambda n: (gevent.sleep(0.001), n)[1], n) for n in range(3)]
        gevent.joinall(jobs)
        print("at exit", [job.value for job in jobs], flush=True)
"""


@pytest.mark.parametrize(
    "last",
    [
        "lambda: None",
        "lambda: time.sleep(0.05)",
        "lambda: gevent.sleep(0.05)",
        "lambda: greenlet.greenlet(time.sleep).switch(0.05)",
    ],
)
@pytest.mark.parametrize("daemon", [False, True])
def test_exit_with_greenlets_in_several_threads(run_script, last, daemon):
    result = run_script(MANY_THREADS + f"    start({last}, daemon={daemon})\n")
    assert (result.stdout, result.stderr, result.returncode) == ("at exit [0, 1, 2]\n", "", 0)


def test_exit_waits_for_threads_that_still_run_their_hubs(run_script):
    """Threads are joined first, then exit functions are called, then the interpreter goes down."""
    result = run_script(
        MANY_THREADS
        + """
    def last():
        gevent.sleep(0.1)
        # One call: the threads write at the same time.
        sys.stdout.write("over\\n")
        sys.stdout.flush()

    start(last, count=2)
    gevent.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    """
    )
    assert result.stdout == "over\nover\nat exit [0, 1, 2]\n"
    assert (result.stderr, result.returncode) == ("", 0)


def test_exit_of_a_patched_program_with_threads(run_script):
    result = run_script(
        """
        import gevent.monkey

        gevent.monkey.patch_all()
        import atexit
        import threading
        import time

        def work(n):
            time.sleep(0.01 * n)
            print("over", n, flush=True)

        atexit.register(lambda: print("at exit", flush=True))
        for n in range(3):
            threading.Thread(target=work, args=(n,)).start()
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        """
    )
    assert result.stdout == "over 0\nover 1\nover 2\nat exit\n"
    assert (result.stderr, result.returncode) == ("", 0)


@ours_only
def test_exit_with_greenlets_in_a_thread_that_waits_for_the_program(run_script):
    """threading's own exit functions come before those of atexit, and may use greenlets."""
    result = run_script(
        """
        import threading

        import gevent
        from gevent.event import Event

        stop = Event()

        def work():
            jobs = [gevent.spawn(stop.wait) for _ in range(5)]
            gevent.joinall(jobs)
            print("stopped", sum(job.value for job in jobs), flush=True)

        threading._register_atexit(stop.set)
        threading.Thread(target=work).start()
        gevent.sleep(0.01)
        print("end", flush=True)
        """
    )
    assert (result.stdout, result.stderr, result.returncode) == ("end\nstopped 5\n", "", 0)

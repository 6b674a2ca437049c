"""Ctrl-C, leaving the program with greenlets parked, LoopExit in main."""

import signal

import pytest

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

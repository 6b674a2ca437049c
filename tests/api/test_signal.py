"""gevent.signal, and handlers that are set with the signal module."""

from __future__ import annotations

import os
import signal as standard
from typing import Any

import pytest

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="gevent does it differently"
)


@ours_only
def test_a_handler_that_interrupts_nobody_may_wait(run_script: Any):
    # From another process: whoever sends a signal to itself runs.
    script = """
        import os, signal, subprocess
        import gevent
        from gevent.event import Event

        def handler(signum, frame):
            gevent.sleep(0.01)
            print(signum == signal.SIGUSR1)
            done.set()

        done = Event()
        signal.signal(signal.SIGUSR1, handler)
        child = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -USR1 {os.getpid()}"])
        ticks = []

        def tick():
            while not done.is_set():
                ticks.append(1)
                gevent.sleep(0.5)

        gevent.spawn(tick)
        print(done.wait(60))
        child.wait()
        """
    assert run_script(script).check_quiet() == "True\nTrue\n"


@pytest.mark.parametrize("raised", ["SystemExit", "KeyboardInterrupt"])
@ours_only
def test_what_ends_a_program_is_raised_in_the_main_greenlet(run_script: Any, raised: str):
    script = """
        from gevent import monkey; monkey.patch_all()
        import os, signal, sys, threading, time

        def handler(signum, frame):
            raise RAISED("from the handler")

        def work():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.001)
            print("the thread goes on")
            gate.wait(60)

        gate = threading.Event()
        signal.signal(signal.SIGUSR1, handler)
        thread = threading.Thread(target=work)
        try:
            # Raised as soon as the main greenlet runs: before it sleeps, most likely.
            thread.start()
            time.sleep(60)
        except RAISED as error:
            print(error)
        gate.set()
        thread.join()
        """.replace("RAISED", raised)
    out = run_script(script).check_quiet()
    assert sorted(out.splitlines()) == ["from the handler", "the thread goes on"]


def test_an_interrupt_comes_before_the_next_step_of_the_main_greenlet(run_script: Any):
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, signal, threading

        signal.signal(signal.SIGINT, signal.default_int_handler)
        thread = threading.Thread(target=_thread.interrupt_main)
        try:
            # It has ended when start() returns, so that join() has nothing to wait for.
            thread.start()
            thread.join()
        except KeyboardInterrupt:
            print("interrupted")
        """
    assert run_script(script).check_quiet() == "interrupted\n"


def test_an_exit_of_the_main_greenlet_by_a_signal(run_script: Any):
    script = """
        from gevent import monkey; monkey.patch_all()
        import os, signal, sys, time

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        """
    assert run_script(script).returncode == 7


@ours_only
def test_what_a_handler_of_ended_children_raises_is_reported(run_script: Any):
    script = """
        from gevent import monkey; monkey.patch_all()
        import signal, subprocess, time

        def handler(signum, frame):
            called.append(signum)
            raise ValueError("from the handler")

        called = []
        signal.signal(signal.SIGCHLD, handler)
        print(subprocess.call(["true"]))
        while not called:
            time.sleep(0.001)
        print("went on")
        """
    result = run_script(script)
    assert result.stdout == "0\nwent on\n"
    assert "ValueError: from the handler" in result.stderr


def test_handlers_are_told_as_they_were_given(run_script: Any):
    script = """
        import signal
        default = signal.default_int_handler
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        assert before is signal.SIG_DFL
        from gevent import monkey; monkey.patch_all()

        def handler(signum, frame):
            pass

        assert signal.getsignal(signal.SIGINT) is default
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
        assert signal.signal(signal.SIGUSR1, handler) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGUSR1) is handler
        assert signal.signal(signal.SIGUSR1, signal.SIG_DFL) is handler
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        for wrong, error in ((0, ValueError), (10_000, ValueError), ("one", TypeError)):
            try:
                signal.signal(wrong, handler)
            except error:
                pass
        try:
            signal.signal(signal.SIGUSR1, "no handler")
        except TypeError:
            print("refused")
        """
    assert run_script(script).check_quiet() == "refused\n"


@ours_only
def test_threads_that_only_set_handlers_and_raise_signals_take_turns(run_script: Any):
    script = """
        from gevent import monkey; monkey.patch_all()
        import signal, threading

        received = 0
        over = False

        def receive(signum, frame):
            global received
            received += 1

        def send():
            while not over:
                signal.raise_signal(signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, receive)
        sender = threading.Thread(target=send)
        sender.start()
        while received < 100:
            signal.signal(signal.SIGUSR1, receive)
        over = True
        sender.join()
        print(sender.is_alive())
        """
    assert run_script(script).check_quiet() == "False\n"


@ours_only
def test_a_single_signal_lets_nobody_else_run(run_script: Any):
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, signal, time

        _thread.start_new_thread(print, ("the other",))
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
        signal.raise_signal(signal.SIGUSR1)
        print("went on")
        time.sleep(0)
        """
    assert run_script(script).check_quiet() == "handled\nwent on\nthe other\n"


@ours_only
def test_a_thread_blocks_signals_for_itself(run_script: Any):
    script = """
        from gevent import monkey; monkey.patch_all()
        import os, signal, threading, time

        def blocked():
            return signal.pthread_sigmask(signal.SIG_BLOCK, ())

        def inherited():
            with open("/proc/self/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            return bool(int(fields["SigBlk"], 16) >> signal.SIGUSR1 - 1 & 1)

        mine, reached = threading.Event(), threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: reached.set())

        def work():
            assert signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}) == set()
            assert inherited()
            if not os.fork():
                os._exit(0 if inherited() else 1)
            assert os.wait()[1] == 0
            time.sleep(0)
            # Others have run: they get signals, and the thread blocks what it did.
            assert not inherited()
            assert blocked() == {signal.SIGUSR1}
            assert inherited()
            mine.set()
            assert reached.wait(30)
            assert signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1}) == {signal.SIGUSR1}
            assert blocked() == set()

        thread = threading.Thread(target=work)
        thread.start()
        assert mine.wait(30)
        assert blocked() == set() and not inherited()
        # The main thread's are the native thread's, whatever others have meanwhile.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        os.kill(os.getpid(), signal.SIGUSR1)
        thread.join()
        assert blocked() == {signal.SIGUSR2}
        for wrong in ((99, ()), (signal.SIG_BLOCK, {10_000})):
            other = threading.Thread(target=signal.pthread_sigmask, args=wrong)
            threading.excepthook = lambda args: print(args.exc_type.__name__)
            other.start()
            other.join()
        assert blocked() == {signal.SIGUSR2}
        """
    assert run_script(script).check_quiet() == "OSError\nValueError\n"


@ours_only
def test_the_module_has_the_standard_names():
    from gevent import signal

    assert {name for name in dir(standard) if not name.startswith("_")} <= set(dir(signal))
    assert signal.SIGTERM is standard.SIGTERM

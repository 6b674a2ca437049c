"""Signals that arrive while greenlets run. In processes of their own, as signals are global."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts import RunScript


def test_handler_runs_in_the_current_greenlet(run_script: RunScript) -> None:
    result = run_script(
        """
        import os, signal
        from greenlet import greenlet, getcurrent

        seen = []
        signal.signal(signal.SIGUSR1, lambda *args: seen.append(getcurrent()))

        def body():
            os.kill(os.getpid(), signal.SIGUSR1)
            while not seen:
                pass

        g = greenlet(body)
        g.switch()
        print(seen == [g])
        """
    )
    assert result.check_quiet() == "True\n"


def test_handler_may_switch(run_script: RunScript) -> None:
    result = run_script(
        """
        import os, signal
        from greenlet import greenlet, getcurrent

        main = getcurrent()
        signal.signal(signal.SIGUSR1, lambda *args: print("got", main.switch("from handler")))

        def body():
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(1_000):
                pass
            return "body done"

        g = greenlet(body)
        print(g.switch())
        print(g.switch("resumed"))
        """
    )
    assert result.check_quiet().splitlines() == ["from handler", "got resumed", "body done"]


def test_exception_from_a_handler(run_script: RunScript) -> None:
    result = run_script(
        """
        import os, signal
        from greenlet import greenlet

        class Alarm(Exception):
            pass

        def handler(*args):
            raise Alarm

        signal.signal(signal.SIGUSR1, handler)

        def body():
            os.kill(os.getpid(), signal.SIGUSR1)
            while True:
                pass

        g = greenlet(body)
        try:
            g.switch()
        except Alarm:
            print("reached the parent", g.dead)
        """
    )
    assert result.check_quiet() == "reached the parent True\n"


def test_keyboard_interrupt_caught_by_the_parent(run_script: RunScript) -> None:
    result = run_script(
        """
        import os, signal
        from greenlet import greenlet

        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = []

        def body():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                while True:
                    pass
            finally:
                log.append("finally")

        try:
            greenlet(body).switch()
        except KeyboardInterrupt:
            log.append("interrupt")
        print(*log)
        """
    )
    assert result.check_quiet() == "finally interrupt\n"


def test_keyboard_interrupt_uncaught(run_script: RunScript) -> None:
    result = run_script(
        """
        import os, signal
        from greenlet import greenlet

        signal.signal(signal.SIGINT, signal.default_int_handler)

        def body():
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass

        greenlet(body).switch()
        """,
        signalled=signal.SIGINT,
    )
    # As from any Python program: the traceback, then death by the signal itself.
    result.check(-signal.SIGINT)
    assert "in body" in result.stderr
    assert result.stderr.rstrip().endswith("KeyboardInterrupt")


def test_frequent_signals_while_switching(run_script: RunScript) -> None:
    result = run_script(
        """
        import signal
        from greenlet import greenlet, getcurrent

        ticks = 0

        def handler(signum, frame):
            global ticks
            ticks += 1
            f = frame
            while f is not None:
                f = f.f_back
            assert greenlet(lambda: 5).switch() == 5

        def body(n):
            total = n
            while True:
                total += getcurrent().parent.switch(total)

        signal.signal(signal.SIGALRM, handler)
        greenlets = [greenlet(body) for _ in range(50)]
        for n, g in enumerate(greenlets):
            g.switch(n)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        rounds = 0
        while ticks < 200:
            rounds += 1
            for n, g in enumerate(greenlets):
                assert g.switch(1) == n + rounds
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("ticks", ticks >= 200)
        """
    )
    assert result.check_quiet() == "ticks True\n"


def test_switches_while_another_thread_looks_at_the_frames(run_script: RunScript) -> None:
    result = run_script(
        """
        import sys, threading
        from greenlet import greenlet, getcurrent

        sys.setswitchinterval(1e-5)
        main_thread = threading.get_ident()
        looks = 0
        over = threading.Event()

        def watch():
            global looks
            while not over.is_set():
                frame = sys._current_frames()[main_thread]
                while frame is not None:
                    frame.f_lineno
                    frame = frame.f_back
                looks += 1

        def body(n):
            def descend(k):
                if k:
                    return descend(k - 1)
                return getcurrent().parent.switch(n)
            while True:
                descend(n)

        greenlets = [greenlet(body) for _ in range(300)]
        for n, g in enumerate(greenlets):
            g.switch(n)
        watcher = threading.Thread(target=watch)
        watcher.start()
        rounds = 0
        while looks < 300:
            for n, g in enumerate(greenlets):
                assert g.switch() == n
        over.set()
        watcher.join()
        print("looked")
        """
    )
    assert result.check_quiet() == "looked\n"


def test_faulthandler_prints_the_running_greenlet_s_stack(run_script: RunScript) -> None:
    result = run_script(
        """
        import faulthandler, sys
        from greenlet import greenlet

        def inner():
            faulthandler.dump_traceback(sys.stdout)
            sys.stdout.flush()

        def outer():
            inner()

        greenlet(outer).switch()
        """
    )
    out = result.check_quiet()
    assert out.index("in inner") < out.index("in outer")

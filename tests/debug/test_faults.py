"""Tracebacks of faulthandler and the frames that other threads see: the running greenlet's."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from scripts import RunScript


def names(traceback: str) -> list[str]:
    """The functions of a traceback by faulthandler, innermost first."""
    found = []
    for line in traceback.splitlines():
        place, word, name = line.rpartition(" in ")
        if word and place.lstrip().startswith("File "):
            found.append(name)
    return found


NESTED = """
    import ctypes, faulthandler, os, signal, sys, threading, time
    from greenlet import getcurrent, greenlet

    def suspended():
        getcurrent().parent.switch()

    others = [greenlet(suspended) for _ in range(5)]
    for other in others:
        other.switch()

    def outer(function):
        middle(function)

    def middle(function):
        # In C between two Python functions.
        list(map(inner, [function]))

    def inner(function):
        function()
"""


def test_a_fault_in_a_greenlet_shows_its_frames(run_script: RunScript) -> None:
    result = run_script(
        NESTED + "\n    greenlet(outer).switch(lambda: ctypes.string_at(0))\n",
        signalled=signal.SIGSEGV,
    )
    assert result.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in result.stderr
    assert names(result.stderr)[:5] == ["string_at", "<lambda>", "inner", "middle", "outer"]
    assert "suspended" not in result.stderr


def test_abort_in_a_greenlet_of_another_thread_shows_all_threads(run_script: RunScript) -> None:
    result = run_script(
        NESTED
        + """
    def waiting():
        greenlet(outer).switch(lambda: (ready.set(), time.sleep(60)))

    ready = threading.Event()
    threading.Thread(target=waiting, daemon=True).start()
    ready.wait()
    greenlet(outer).switch(os.abort)
""",
        signalled=signal.SIGABRT,
    )
    assert result.returncode == -signal.SIGABRT
    assert names(result.stderr).count("outer") == 2


def test_a_late_dump_shows_whoever_runs(run_script: RunScript, tmp_path: Path) -> None:
    result = run_script(
        NESTED
        + """
    def spin():
        # The dump may not come before this runs, however slow the machine is.
        faulthandler.dump_traceback_later(0.05, file=file)
        # Until the last line is there: the dump is written while this runs. It calls functions
        # in C alone, so that the frames that are read stay as they are.
        while b" in outer\\n" not in os.pread(file.fileno(), 100_000, 0):
            pass

    with open(sys.argv[1], "w+") as file:
        greenlet(outer).switch(spin)
    print(open(sys.argv[1]).read())
""",
        str(tmp_path / "dump"),
    )
    out = result.check_quiet()
    assert names(out)[-4:] == ["spin", "inner", "middle", "outer"]


def test_a_signal_dumps_the_running_greenlet(run_script: RunScript) -> None:
    result = run_script(
        NESTED
        + """
    faulthandler.register(signal.SIGUSR1, file=sys.stdout)
    greenlet(outer).switch(lambda: signal.raise_signal(signal.SIGUSR1))
    print("and on")
"""
    )
    out = result.check_quiet()
    assert names(out) == ["<lambda>", "inner", "middle", "outer"]
    assert out.endswith("and on\n")


@pytest.mark.parametrize("function", ["sys._current_frames", "sys._current_exceptions"])
def test_threads_may_look_while_greenlets_switch(run_script: RunScript, function: str) -> None:
    """Greenlets that start, raise, are moved and end, and a thread that looks at all times."""
    result = run_script(
        f"""
        import sys, threading
        from greenlet import getcurrent, greenlet

        sys.setswitchinterval(1e-5)
        main_thread = threading.get_ident()
        looks = 0
        over = False

        def watch():
            global looks
            while not over:
                found = {function}()[main_thread]
                if hasattr(found, "f_back"):
                    while found is not None:
                        found.f_lineno, found.f_locals
                        found = found.f_back
                elif found is not None:
                    # The exception, or (type, value, traceback).
                    trace = found[2] if isinstance(found, tuple) else found.__traceback__
                    while trace is not None:
                        trace = trace.tb_next
                looks += 1

        def body(n):
            def descend(depth):
                if depth:
                    return list(map(descend, [depth - 1]))[0]
                try:
                    raise KeyError(n)
                except KeyError as error:
                    assert getcurrent().parent.switch(n) is None
                    assert sys.exception() is error
                return n
            return descend(n % 7)

        watcher = threading.Thread(target=watch)
        watcher.start()
        while looks < 300:
            greenlets = [greenlet(body) for _ in range(100)]
            for n, g in enumerate(greenlets):
                assert g.switch(n) == n
            for n, g in enumerate(greenlets):
                assert g.switch(None) == n
        over = True
        watcher.join()
        print("looked")
        """
    )
    assert result.check_quiet() == "looked\n"


def test_exceptions_of_threads_are_those_of_their_running_greenlets(
    run_script: RunScript,
) -> None:
    result = run_script(
        """
        import sys, threading
        from greenlet import getcurrent, greenlet

        def handled():
            found = sys._current_exceptions()[threading.get_ident()]
            return found[1] if isinstance(found, tuple) else found

        def body():
            assert handled() is None
            try:
                raise KeyError
            except KeyError as error:
                assert handled() is error
                getcurrent().parent.switch()
                assert handled() is error
            assert handled() is None

        g = greenlet(body)
        try:
            raise ValueError
        except ValueError as error:
            g.switch()
            assert handled() is error
        assert handled() is None
        g.switch()
        assert handled() is None
        print("done")
        """
    )
    assert result.check_quiet() == "done\n"

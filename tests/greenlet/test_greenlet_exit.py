"""How a process ends that has greenlets: with the right status, cleanly and quietly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scripts import RunScript


def test_with_2000_parked(run_script: RunScript) -> None:
    result = run_script(
        """
        from greenlet import greenlet, getcurrent

        main = getcurrent()

        def body(n):
            try:
                main.switch(n)
            except ValueError:
                pass

        greenlets = [greenlet(body) for _ in range(2_000)]
        for n, g in enumerate(greenlets):
            g.switch(n)
        print("end")
        """
    )
    assert result.check_quiet() == "end\n"


def test_with_parked_ones_that_only_each_other_know(run_script: RunScript) -> None:
    result = run_script(
        """
        from greenlet import greenlet, getcurrent

        def program():
            main = getcurrent()

            def body():
                own = getcurrent()
                cycle = [own]
                main.switch(cycle)

            for _ in range(1_000):
                greenlet(body).switch()

        program()
        print("end")
        """
    )
    assert result.check_quiet() == "end\n"


def test_with_unstarted_and_finished(run_script: RunScript) -> None:
    result = run_script(
        """
        from greenlet import greenlet

        unstarted = [greenlet(print) for _ in range(1_000)]
        finished = [greenlet(int) for _ in range(1_000)]
        for g in finished:
            g.switch()
        print("end")
        """
    )
    assert result.check_quiet() == "end\n"


def test_with_parked_in_other_threads(run_script: RunScript) -> None:
    result = run_script(
        """
        import threading
        from greenlet import greenlet, getcurrent

        kept = []

        def work():
            main = getcurrent()
            for _ in range(200):
                g = greenlet(lambda: main.switch())
                g.switch()
                kept.append(g)

        threads = [threading.Thread(target=work) for _ in range(5)]
        for t in threads: t.start()
        for t in threads: t.join()
        print("end", len(kept))
        """
    )
    assert result.check_quiet() == "end 1000\n"


def test_while_a_daemon_thread_switches(run_script: RunScript) -> None:
    result = run_script(
        """
        import threading
        from greenlet import greenlet, getcurrent

        running = threading.Event()

        def work():
            main = getcurrent()

            def body():
                while True:
                    main.switch()

            g = greenlet(body)
            while True:
                g.switch()
                running.set()

        threading.Thread(target=work, daemon=True).start()
        running.wait()
        print("end")
        """
    )
    assert result.check_quiet() == "end\n"


@pytest.mark.parametrize("depth", [1, 5])
def test_sys_exit_in_a_greenlet(run_script: RunScript, depth: int) -> None:
    result = run_script(
        f"""
        import sys
        from greenlet import greenlet

        def nest(n):
            if n:
                greenlet(nest).switch(n - 1)
            sys.exit(7)

        greenlet(nest).switch({depth} - 1)
        print("not reached")
        """
    )
    assert result.check(7) == ""
    assert result.stderr == ""


def test_uncaught_exception(run_script: RunScript) -> None:
    result = run_script(
        """
        from greenlet import greenlet

        def faulty():
            raise ValueError("no handler anywhere")

        def outer():
            greenlet(faulty).switch()

        greenlet(outer).switch()
        """
    )
    assert result.check(1) == ""
    assert result.stderr.rstrip().endswith("ValueError: no handler anywhere")
    assert "in outer" in result.stderr
    assert "in faulty" in result.stderr


def test_os_exit_in_a_greenlet(run_script: RunScript) -> None:
    result = run_script(
        """
        import os
        from greenlet import greenlet

        greenlet(lambda: os._exit(5)).switch()
        """
    )
    result.check(5)
    assert result.stderr == ""


def test_atexit_function_may_use_greenlets(run_script: RunScript) -> None:
    result = run_script(
        """
        import atexit
        from greenlet import greenlet, getcurrent

        main = getcurrent()
        parked = greenlet(lambda: main.switch("parked") + " and resumed")
        print(parked.switch())

        @atexit.register
        def last():
            print(parked.switch("at exit"))
            print(greenlet(lambda: "new one").switch())
        """
    )
    assert result.check_quiet().splitlines() == ["parked", "at exit and resumed", "new one"]


def test_registered_in_a_greenlet(run_script: RunScript) -> None:
    result = run_script(
        """
        import atexit
        from greenlet import greenlet

        greenlet(lambda: atexit.register(print, "at exit")).switch()
        print("end")
        """
    )
    assert result.check_quiet().splitlines() == ["end", "at exit"]


def test_fork_in_a_greenlet(run_script: RunScript) -> None:
    result = run_script(
        """
        import os
        from greenlet import greenlet, getcurrent

        main = getcurrent()

        def other():
            got = main.switch()
            return got * 2

        def forker():
            pid = os.fork()
            main.switch(pid)
            return "forker done"

        parked = [greenlet(other) for _ in range(300)]
        for g in parked:
            g.switch()
        g = greenlet(forker)
        pid = g.switch()
        assert g.switch() == "forker done"
        assert [p.switch(n) for n, p in enumerate(parked)] == [n * 2 for n in range(300)]
        if pid:
            print("child status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    assert result.check_quiet() == "child status 0\n"


def test_module_reached_from_a_finalizer_at_exit(run_script: RunScript) -> None:
    """Objects that die with the interpreter may still hold parked greenlets."""
    result = run_script(
        """
        import sys
        from greenlet import greenlet, getcurrent

        class Holder:
            def __init__(self):
                main = getcurrent()
                self.greenlets = [greenlet(lambda: main.switch()) for _ in range(50)]
                for g in self.greenlets:
                    g.switch()

            def __del__(self):
                self.greenlets.clear()

        sys.holder = Holder()
        sys.holder.me = sys.holder
        print("end")
        """
    )
    assert result.check_quiet() == "end\n"


def test_parked_with_a_generator_and_a_handler(run_script: RunScript) -> None:
    result = run_script(
        """
        from greenlet import greenlet, getcurrent

        main = getcurrent()

        def gen():
            main.switch()
            yield

        def body():
            try:
                raise ValueError
            except ValueError:
                for _ in gen():
                    pass

        greenlets = [greenlet(body) for _ in range(500)]
        for g in greenlets:
            g.switch()
        print("end")
        """
    )
    assert result.check_quiet() == "end\n"


def test_module_imported_and_never_used(run_script: RunScript) -> None:
    result = run_script("import greenlet\nprint('end')\n")
    assert result.check_quiet() == "end\n"


def test_getcurrent_while_the_interpreter_goes_down(run_script: RunScript) -> None:
    """In finalizers that run that late it raises; in atexit functions it works."""
    result = run_script(
        """
        import atexit
        import gc
        import os
        import greenlet

        class Late:
            def __del__(self, getcurrent=greenlet.getcurrent, write=os.write):
                try:
                    getcurrent()
                except RuntimeError as error:
                    write(1, f"{error}\\n".encode())

        gc.disable()
        late = Late()
        late.itself = late
        del late
        main = greenlet.getcurrent()
        atexit.register(lambda: print(greenlet.getcurrent() is main, flush=True))
        """
    )
    assert result.check_quiet() == "True\ngreenlet is being finalized\n"

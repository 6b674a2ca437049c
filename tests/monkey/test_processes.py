"""Forking and child processes of a patched program."""

from __future__ import annotations

from typing import Any

import pytest

WHERE = """
def run_in(where, function):
    import threading, gevent

    if where == "main":
        function()
    elif where == "thread":
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()
    else:
        gevent.spawn(function).get()
"""

PATCH = "from gevent import monkey; monkey.patch_all()\n"


def program(text: str) -> str:
    from textwrap import dedent

    return PATCH + WHERE + dedent(text)


@pytest.mark.parametrize("where", ["main", "thread", "greenlet"])
def test_fork(run_script: Any, where: str) -> None:
    script = """
        import os, sys, threading, time, traceback

        gate = threading.Event()
        other = threading.Thread(target=gate.wait, args=(60,))
        other.start()

        def fork():
            pid = os.fork()
            if pid:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
                return
            try:
                me = threading.current_thread()
                assert threading.enumerate() == [me]
                assert threading.main_thread() is me
                assert me.ident == threading.get_ident()
                assert not other.is_alive()
                other.join()
                time.sleep(0.001)
                with threading.Lock(), threading.RLock():
                    child = threading.Thread(target=time.sleep, args=(0.001,))
                    child.start()
                    assert child.is_alive()
                    child.join()
                    assert not child.is_alive()
                assert child not in threading.enumerate()
                sys.stdout.flush()
                os._exit(7)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)

        run_in(sys.argv[1], fork)
        assert other.is_alive()
        gate.set()
        other.join()
        print("done")
        """
    assert run_script(program(script), where).check_quiet() == "done\n"


def test_a_child_that_ends_normally(run_script: Any) -> None:
    script = """
        import atexit, os, sys, threading, time

        def work():
            gate.wait(60)
            time.sleep(0.01)
            print("thread of", "child" if os.getpid() != parent else "parent", flush=True)

        parent = os.getpid()
        gate = threading.Event()
        threading.Thread(target=work).start()
        pid = os.fork()
        if pid == 0:
            threading.Thread(target=print, args=("new thread of child",)).start()
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        gate.set()
        """
    out = run_script(program(script)).check_quiet()
    assert out.splitlines() == ["new thread of child", "5", "thread of parent"]


def test_locks_of_logging_are_free_in_the_child(run_script: Any) -> None:
    script = """
        import io, logging, os, threading, time

        class Slow(io.StringIO):
            def write(self, text):
                if os.getpid() == parent:
                    time.sleep(0.05)

        parent = os.getpid()
        logging.basicConfig(stream=Slow())
        thread = threading.Thread(target=logging.warning, args=("slow",))
        thread.start()
        pid = os.fork()
        if pid == 0:
            logging.warning("from the child")
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        thread.join()
        """
    assert run_script(program(script)).check_quiet() == "7\n"


@pytest.mark.parametrize("where", ["main", "thread", "greenlet"])
def test_multiprocessing_with_fork(run_script: Any, where: str) -> None:
    script = """
        import multiprocessing, sys, threading, time

        def child(connection):
            thread = threading.Thread(target=connection.send, args=("from the child",))
            thread.start()
            thread.join()

        def main():
            context = multiprocessing.get_context("fork")
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(theirs,))
            process.start()
            print(ours.recv())
            process.join()
            print(process.exitcode)

        other = threading.Thread(target=time.sleep, args=(0.05,))
        other.start()
        run_in(sys.argv[1], main)
        other.join()
        """
    assert run_script(program(script), where).check_quiet() == "from the child\n0\n"


@pytest.mark.parametrize("where", ["main", "thread", "greenlet"])
def test_subprocess(run_script: Any, where: str) -> None:
    script = """
        import subprocess, sys, threading, time

        ticks = []

        def tick():
            while not done.is_set():
                ticks.append(1)
                time.sleep(0.001)

        def main():
            echo = subprocess.run(["echo", "text"], capture_output=True, text=True, check=True)
            assert echo.stdout == "text\\n"
            before = len(ticks)
            process = subprocess.Popen(
                ["sh", "-c", "sleep 0.1; cat; exit 3"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            assert process.communicate(b"x" * 200_000, 60) == (b"x" * 200_000, b"")
            assert process.returncode == 3
            assert len(ticks) > before + 5
            try:
                subprocess.run(["sleep", "60"], timeout=0.01)
            except subprocess.TimeoutExpired:
                print("expired")

        done = threading.Event()
        ticking = threading.Thread(target=tick)
        ticking.start()
        run_in(sys.argv[1], main)
        done.set()
        ticking.join()
        """
    assert run_script(program(script), where).check_quiet() == "expired\n"


def test_python_children_do_not_inherit_threads(run_script: Any) -> None:
    script = """
        import subprocess, sys

        code = "import threading; print(threading.active_count())"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        """
    assert run_script(program(script)).check_quiet() == "1\n\n"


def test_process_pool_executor(run_script: Any) -> None:
    script = """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
            print(list(executor.map(abs, [-1, 2, -3])))
        """
    assert run_script(program(script)).check_quiet() == "[1, 2, 3]\n"


CONNECTION = """
    from gevent import monkey; monkey.patch_all()
    import multiprocessing, sys, time
    import gevent

    def child(connection):
        time.sleep(0.1)
        connection.send(b"x" * 300_000)
        connection.send(len(connection.recv()))

    def main():
        context = multiprocessing.get_context(sys.argv[1])
        ours, theirs = context.Pipe()
        ticks = []

        def tick():
            while True:
                gevent.sleep(0.005)
                ticks.append(1)

        ticking = gevent.spawn(tick)
        process = context.Process(target=child, args=(theirs,))
        process.start()
        begun = len(ticks)
        assert ours.recv() == b"x" * 300_000
        assert len(ticks) > begun
        ours.send("y" * 300_000)
        print(ours.recv())
        ticking.kill()
        process.join()
        theirs.close()
        try:
            ours.recv()
        except EOFError:
            print("end")

    if __name__ == "__main__":
        main()
    """


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("late", [False, True])
def test_connections_between_processes_block_one_greenlet(
    run_script: Any, method: str, late: bool
) -> None:
    script = CONNECTION
    if late:
        script = "\n    import multiprocessing.connection" + script
    assert run_script(script, method).check_quiet() == "300000\nend\n"


def test_waiting_for_a_child_without_a_limit(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import gevent, subprocess, sys

        code = "import sys; sys.stdin.read(); sys.exit(3)"
        children = [
            subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE)
            for _ in range(3)
        ]
        waiters = [gevent.spawn(child.wait) for child in children]
        gevent.sleep(0.01)
        assert not any(map(gevent.Greenlet.ready, waiters))
        for child in children:
            child.stdin.close()
        print([waiter.get() for waiter in waiters])
        """
    assert run_script(script).check_quiet() == "[3, 3, 3]\n"


def test_handing_over_connections_leaves_a_process_its_signals(run_script: Any) -> None:
    script = """
        import multiprocessing, os, signal, threading

        # Handed over by a thread that blocks all signals, for itself.
        context = multiprocessing.get_context("fork")
        near, far = context.Pipe()
        mine, his = context.Pipe()

        def child(his):
            his.recv().send("handed over")

        process = context.Process(target=child, args=(his,))
        process.start()
        mine.send(far)
        assert near.poll(60)
        print(near.recv())
        process.join()
        arrived = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: arrived.set())
        os.kill(os.getpid(), signal.SIGUSR1)
        print(arrived.wait(60))
        """
    assert run_script(program(script)).check_quiet() == "handed over\nTrue\n"

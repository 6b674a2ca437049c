"""fork() with greenlets: in the forking thread, in others, and in what the child does next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scripts import RunScript

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="greenlet leaves greenlets of lost threads"
)


COMMON = """
    import gc
    import os
    import sys
    import threading
    import warnings
    from greenlet import GreenletExit, getcurrent, greenlet

    # Forking with threads is what is tested.
    warnings.simplefilter("ignore", DeprecationWarning)
    main = getcurrent()

    def fork(child):
        pid = os.fork()
        if pid:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert status == 0, status
            return
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def park(value=None):
        return getcurrent().parent.switch(value)

    def resume(g, value):
        # It comes back here, whoever began it.
        g.parent = getcurrent()
        return g.switch(value)
"""


@pytest.mark.parametrize("slots", ["4", "64"])
def test_in_a_greenlet_with_1000_parked_ones(run_script: RunScript, slots: str) -> None:
    result = run_script(
        COMMON
        + """
    def body(n):
        return n + park()

    parked = [greenlet(body) for _ in range(1000)]
    for n, g in enumerate(parked):
        g.switch(n)

    def child():
        assert getcurrent() is forker
        assert [resume(g, 1) for g in parked[::2]] == list(range(1, 1001, 2))
        parked.clear()
        gc.collect()
        fresh = greenlet(lambda: park(1) + 1)
        assert fresh.switch() == 1
        assert fresh.switch(4) == 5

    forker = greenlet(lambda: fork(child))
    forker.switch()
    assert [g.switch(0) for g in parked] == list(range(1000))
    print("end")
    """,
        env={"GREENLOOP_STACK_SLOTS": slots},
    )
    assert result.check_quiet() == "end\n"


@ours_only
def test_greenlets_of_other_threads_are_gone(run_script: RunScript) -> None:
    result = run_script(
        COMMON
        + """
    import weakref

    class Token:
        pass

    tokens, kept, frames = [], [], []
    ready, done = threading.Semaphore(0), threading.Event()

    def body():
        token = Token()
        tokens.append(weakref.ref(token))
        park()

    def work(native):
        for _ in range(100):
            g = greenlet(body)
            g.switch()
            kept.append(g)
            frames.append(g.gr_frame)
        del g
        def wait():
            ready.release()
            done.wait()
        wait() if native else greenlet(wait).switch()

    threads = [threading.Thread(target=work, args=(n % 2,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        ready.acquire()

    def child():
        from greenlet import error
        assert all(g.dead and not g for g in kept)
        for g in kept[::10]:
            for act in (g.switch, g.throw):
                try:
                    act()
                except error:
                    pass
                else:
                    raise AssertionError
        repr(kept)
        kept.clear()
        gc.collect()
        del g, act
        gc.collect()
        # Greenlets are objects like others: what they held is dropped, unless a frame is held.
        for frame in frames:
            assert type(frame.f_back.f_locals["token"]) is Token
        del frame
        frames.clear()
        gc.collect()
        assert [token() for token in tokens] == [None] * 400
        junk = [bytes(500 + n) for n in range(2000)]
        assert greenlet(lambda: park(5)).switch() == 5
        # More threads, with greenlets of their own.
        results = []
        thread = threading.Thread(target=lambda: results.append(greenlet(lambda: 6).switch()))
        thread.start()
        thread.join()
        assert results == [6]

    fork(child)
    greenlet(lambda: fork(child)).switch()
    done.set()
    for thread in threads:
        thread.join()
    print("end")
    """,
        env={"PYTHONMALLOC": "debug"},
    )
    assert result.check_quiet() == "end\n"


@ours_only
def test_in_another_thread_than_the_main_one(run_script: RunScript) -> None:
    result = run_script(
        COMMON
        + """
    mine = greenlet(lambda: park("mine"))
    mine.switch()

    def child():
        assert mine.dead
        assert resume(other, 7) == 7
        print("child", flush=True)

    def work():
        global other
        other = greenlet(park)
        other.switch()
        greenlet(lambda: fork(child)).switch()
        assert other.switch(8) == 8

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    mine.switch()
    assert mine.dead
    print("end")
    """
    )
    assert result.check_quiet() == "child\nend\n"


def test_dropped_by_the_child(run_script: RunScript) -> None:
    """The child's copies end in the child, by GreenletExit, as anywhere."""
    result = run_script(
        COMMON
        + """
    def body(n):
        try:
            park()
        finally:
            log.append(n)

    log = []
    parked = [greenlet(body) for _ in range(10)]
    for n, g in enumerate(parked):
        g.switch(n)
    del g

    def child():
        parked.clear()
        assert sorted(log) == list(range(10)), log

    fork(child)
    assert log == []
    parked.clear()
    assert sorted(log) == list(range(10)), log
    print("end")
    """
    )
    assert result.check_quiet() == "end\n"


def test_child_that_ends_like_a_program(run_script: RunScript) -> None:
    """Not by os._exit: threads are joined, exit functions run, the interpreter goes down."""
    result = run_script(
        COMMON
        + """
    import atexit

    kept = []
    ready, done = threading.Event(), threading.Event()

    def work():
        for _ in range(20):
            g = greenlet(park)
            g.switch()
            kept.append(g)
        ready.set()
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    parked = [greenlet(park) for _ in range(20)]
    for g in parked:
        g.switch()
    atexit.register(lambda: print(parked[0].switch("at exit"), flush=True))
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        done.set()
    """
    )
    assert result.check_quiet() == "at exit\nat exit\n"


def test_multiprocessing_with_the_fork_method(run_script: RunScript) -> None:
    result = run_script(
        COMMON
        + """
    import multiprocessing

    def work(connection, n):
        assert [resume(g, n) for g in parked] == [n] * 50
        thread = threading.Thread(target=lambda: greenlet(park).switch())
        thread.start()
        thread.join()
        connection.send(greenlet(lambda: n * 2).switch())

    def run():
        context = multiprocessing.get_context("fork")
        results = []
        for n in range(3):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(writer, n))
            process.start()
            writer.close()
            results.append(reader.recv())
            process.join()
            assert process.exitcode == 0
        return results

    parked = [greenlet(park) for _ in range(50)]
    for g in parked:
        g.switch()
    print(run(), greenlet(run).switch())
    """
    )
    assert result.check_quiet() == "[0, 2, 4] [0, 2, 4]\n"

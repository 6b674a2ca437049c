"""What becomes of the greenlets of a thread that ends."""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from greenlet import GreenletExit, error, getcurrent, greenlet
from greenlet_support import park

if TYPE_CHECKING:
    from scripts import RunScript

if os.environ.get("GREENLOOP_TEST_PEER") == "1":
    pytest.skip(
        "the greenlet package leaks what greenlets of ended threads own", allow_module_level=True
    )


class Token:
    pass


def run_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
    # The thread's state is cleared a moment after the thread can be joined.
    while any(t.ident == thread.ident for t in threading.enumerate()):
        pass


@pytest.fixture(params=["local", "dict of the greenlet", "cycle"])
def keep(request: pytest.FixtureRequest) -> Callable[[greenlet], None]:
    """Ways to keep a greenlet for as long as its thread runs."""
    local = threading.local()

    def keep(g: greenlet) -> None:
        match request.param:
            case "local":
                local.kept = [*getattr(local, "kept", []), g]
            case "cycle":
                token = Token()
                token.greenlet = g  # type: ignore[attr-defined]
                token.me = token  # type: ignore[attr-defined]
            case _:
                g.me = g

    return keep


def test_ones_that_are_the_threads_own_end_by_exit_in_it(keep: Callable[[greenlet], None]) -> None:
    log: list[Any] = []
    tokens: list[weakref.ref[Token]] = []
    done = threading.Event()

    def run() -> None:
        token = Token()
        tokens.append(weakref.ref(token))
        try:
            park()
        except GreenletExit:
            log.append(threading.get_ident())
            raise
        finally:
            if len(log) == 10:
                done.set()

    def body() -> None:
        idents.append(threading.get_ident())
        for _ in range(10):
            g = greenlet(run)
            g.switch()
            keep(g)

    idents: list[int] = []
    run_thread(body)
    assert done.wait(30)
    assert log == idents * 10
    assert [token() for token in tokens] == [None] * 10


def test_ones_that_others_refer_to_stay_suspended() -> None:
    kept: list[greenlet] = []
    log: list[str] = []

    def run() -> None:
        try:
            park()
        finally:
            log.append("end")

    def body() -> None:
        kept.append(greenlet(run))
        kept[0].switch()

    run_thread(body)
    frame = kept[0].gr_frame
    assert frame is not None
    assert frame.f_code.co_name == "park"
    assert frame.f_back is not None
    assert frame.f_back.f_locals["log"] is log
    with pytest.raises(error, match="exited"):
        kept[0].switch()
    with pytest.raises(error, match="exited"):
        kept[0].throw()
    wait_until(lambda: kept[0].dead)
    assert kept[0].gr_frame is None
    assert frame.f_code.co_name == "park"
    assert frame.f_back.f_locals["log"] is log
    assert log == []


def wait_until(condition: Callable[[], bool]) -> None:
    """Until the other thread's end has come so far; the test's timeout is the limit."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def test_ended_ones_may_switch_and_start_others() -> None:
    log: list[str] = []
    own = threading.local()
    done = threading.Event()

    def other() -> None:
        log.append("other")
        try:
            park()
        finally:
            log.append("end of other")
            done.set()

    def run() -> None:
        try:
            park()
        finally:
            g = greenlet(other)
            g.switch()
            log.append("end")

    def body() -> None:
        own.kept = greenlet(run)
        own.kept.switch()

    run_thread(body)
    assert done.wait(30)
    assert log == ["other", "end", "end of other"]


def test_one_that_starts_itself_anew_for_ever() -> None:
    count = 0
    greenlets: list[weakref.ref[greenlet]] = []

    def start() -> None:
        g = greenlet(run)
        g.me = g  # type: ignore[attr-defined]
        greenlets.append(weakref.ref(g))
        g.switch()

    def run() -> None:
        nonlocal count
        count += 1
        try:
            park()
        finally:
            start()

    run_thread(start)
    wait_until(lambda: count >= 2)
    assert count < 100


def test_an_error_at_the_end_is_reported(run_script: RunScript) -> None:
    result = run_script(
        """
        import threading
        from greenlet import getcurrent, greenlet

        def run():
            try:
                getcurrent().parent.switch()
            finally:
                raise ValueError("at the end")

        def body():
            for _ in range(3):
                g = greenlet(run)
                g.me = g
                g.switch()

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        """
    )
    result.check()
    assert result.stderr.count("ValueError: at the end") == 3


STUBBORN = """
    import gc
    import sys
    import threading
    import weakref
    from greenlet import GreenletExit, getcurrent, greenlet

    class Token:
        pass

    tokens, frames, kept, generators = [], [], [], []

    def generator(number):
        main.switch(sys._getframe())
        yield

    def stubborn(number, text, depth):
        token = Token()
        tokens.append(weakref.ref(token))
        if depth:
            return stubborn(number, text, depth - 1)
        try:
            raise ValueError(number)
        except ValueError:
            while True:
                try:
                    if number % 2:
                        generators.append(generator(number))
                        next(generators[-1])
                    else:
                        main.switch()
                except GreenletExit:
                    pass
"""

HELD = """
    def body():
        global main
        main = getcurrent()
        for number in range(150):
            g = greenlet(stubborn)
            g.switch(number, "abc" * number, number % 3)
            kept.append(g)
            if number % 5 == 0:
                frames.append(g.gr_frame)
            if number % 5 == 1 and g.gr_frame.f_back:
                frames.append(g.gr_frame.f_back)

    END

    gc.collect()
    junk = [bytes(800 + n) for n in range(3000)]
    for frame in frames:
        numbers = []
        while frame is not None:
            frame.f_lineno
            repr(frame)
            names = frame.f_locals
            if frame.f_code is stubborn.__code__:
                assert names["text"] == "abc" * names["number"], names
                assert isinstance(names["token"], Token)
            numbers.append(names["number"])
            frame = frame.f_back
        assert len(set(numbers)) == 1 and len(numbers) >= 1, numbers
    alive = sum(token() is not None for token in tokens)
    assert 0 < alive < len(tokens), alive
    del frame, names
    for held in frames:
        if held.f_code is stubborn.__code__:
            held.clear()
    del held
    assert all(g.gi_frame is None or g.gi_frame.f_back is None for g in generators)
    frames.clear()
    gc.collect()
    left = [n for n, token in enumerate(tokens) if token() is not None]
    print("end", left)
"""

THREAD = """
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    while not kept[-1].dead:
        pass
    kept.clear()
"""


def without_closing_errors(stderr: str) -> list[str]:
    """Lines other than what CPython 3.14 and later write when a generator is dropped that was
    running in a greenlet which is no more: as for one in a native thread, that it cannot be
    closed."""
    if sys.version_info < (3, 14):
        return stderr.splitlines()
    pairs = re.compile(
        r"Exception ignored while closing generator <generator object generator at 0x\w+>:\n"
        r"ValueError: generator already executing\n"
    )
    return pairs.sub("", stderr).splitlines()


@pytest.mark.parametrize("slots", ["4", "64"])
def test_frames_of_one_that_would_not_end(run_script: RunScript, slots: str) -> None:
    """Its stack goes; its frames live on where they are held, and else drop what they own."""
    result = run_script(
        STUBBORN + HELD.replace("    END\n", THREAD),
        env={"PYTHONMALLOC": "debug", "GREENLOOP_STACK_SLOTS": slots},
    )
    assert result.check() == "end []\n"
    assert without_closing_errors(result.stderr) == []


@pytest.mark.parametrize("slots", ["4", "64"])
def test_frames_of_one_that_was_collected_and_would_not_end(
    run_script: RunScript, slots: str
) -> None:
    result = run_script(
        STUBBORN + HELD.replace("    END\n", "    body()\n    kept.clear()\n"),
        env={"PYTHONMALLOC": "debug", "GREENLOOP_STACK_SLOTS": slots},
    )
    assert result.check() == "end []\n"
    told = without_closing_errors(result.stderr)
    assert told
    assert all(line.startswith("GreenletExit did not kill <greenlet.") for line in told)


def test_frames_held_beyond_the_end_of_the_interpreter(run_script: RunScript) -> None:
    result = run_script(
        STUBBORN
        + """
    main = getcurrent()
    for number in range(100):
        g = greenlet(stubborn)
        g.switch(number, "x", 2)
        kept.append(g)
        frames.append(g.gr_frame)

    class Last:
        def __init__(self, frames):
            self.frames = frames

        def __del__(self, print=print):
            for frame in self.frames:
                while frame is not None:
                    frame.f_locals
                    frame = frame.f_back
            print("last")

    sys.modules["last"] = Last(frames)
    del frames, g
    print("end")
    """,
        env={"PYTHONMALLOC": "debug"},
    )
    assert result.check_quiet() == "end\nlast\n"


def test_threads_that_end_with_kept_ones_give_everything_back(run_script: RunScript) -> None:
    result = run_script(
        """
        import gc
        import os
        import threading
        from greenlet import getcurrent, greenlet

        local = threading.local()

        def body(kept):
            local.kept = []
            for n in range(100):
                g = greenlet(lambda: getcurrent().parent.switch())
                g.switch()
                (kept if n % 2 else local.kept).append(g)

        def round():
            kept = []
            threads = [threading.Thread(target=body, args=(kept,)) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            while threading.active_count() > 1:
                pass
            while not all(g.dead for g in kept):
                pass

        def mapped():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE") >> 20

        for _ in range(3):
            round()
        gc.collect()
        before = mapped()
        for _ in range(20):
            round()
        gc.collect()
        grown = mapped() - before
        # The slots of a single thread that was not given back are 512 MiB.
        assert grown < 512, grown
        # What a C function holds in the middle of a call cannot be dropped without unwinding: the
        # main greenlets, whose switch() it is.
        left = [o for o in gc.get_objects() if isinstance(o, greenlet) and o.parent is not None]
        print(len(left) < 10)
        """
    )
    assert result.check_quiet() == "True\n"


def test_what_it_was_to_run_is_not_leaked_with_its_stack() -> None:
    """The C function that calls it has a reference, but never returns."""
    functions = []

    def body() -> None:
        def run() -> None:
            getcurrent().parent.switch()

        functions.append(weakref.ref(run))
        g = greenlet(run)
        g.switch()
        kept.append(g)

    kept: list[greenlet] = []
    run_thread(body)
    assert functions[0]() is not None
    kept.clear()
    wait_until(lambda: functions[0]() is None)

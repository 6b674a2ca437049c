"""What greenlets keep of asyncio: how long, and in threads, forks and random orders."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import time
import weakref
from typing import Any

import gevent
import pytest
from greenlet import getcurrent, greenlet
from loop_support import nothing, park, running_loop


class TestReferences:
    def test_of_a_killed_greenlet(self) -> None:
        loop = asyncio.new_event_loop()
        dropped = weakref.ref(loop)

        def body(loop: Any) -> None:
            asyncio._set_running_loop(loop)
            del loop
            gevent.sleep(60)

        g = gevent.spawn(body, loop)
        gevent.sleep(0)
        g.kill()
        loop.close()
        del loop
        gc.collect()
        assert dropped() is None

    def test_in_a_cycle_with_the_greenlet(self) -> None:
        class Loop:
            """Enough of a loop to be set."""

        loop = Loop()
        dropped = weakref.ref(loop)

        def body() -> None:
            asyncio._set_running_loop(kept.pop())
            park()

        kept: list[Any] = [loop]
        loop.greenlet = greenlet(body)  # type: ignore[attr-defined]
        loop.greenlet.switch()  # type: ignore[attr-defined]
        assert len(gc.get_referrers(loop)) >= 1
        del loop
        assert dropped() is not None
        gc.collect()
        gc.collect()
        assert dropped() is None

    def test_are_shown_to_the_collector(self, make_loop: Any) -> None:
        loop = make_loop()
        g = greenlet(lambda: (asyncio._set_running_loop(loop), park()))
        before = gc.get_referents(g)
        g.switch()
        assert loop not in before
        assert loop in gc.get_referents(g)
        g.switch()
        assert loop not in gc.get_referents(g)

    def test_do_not_grow(self, make_loop: Any) -> None:
        loop = make_loop()
        asyncio._set_running_loop(loop)
        task = loop.create_task(nothing())
        asyncio.tasks._enter_task(loop, task)

        def body() -> None:
            for _ in range(10):
                park()

        def round_() -> None:
            g, own = greenlet(body), greenlet(body)
            asyncio._set_running_loop(None)
            own.switch()
            asyncio._set_running_loop(loop)
            while not g.dead:
                g.switch()
                own.switch()

        round_()
        before = sys.getrefcount(loop), sys.getrefcount(task), sys.getrefcount(None)
        for _ in range(20):
            round_()
        after = sys.getrefcount(loop), sys.getrefcount(task), sys.getrefcount(None)
        assert after[:2] == before[:2]
        assert abs(after[2] - before[2]) < 20
        asyncio.tasks._leave_task(loop, task)
        asyncio._set_running_loop(None)
        loop.run_until_complete(task)

    def test_of_many_loops(self) -> None:
        async def main() -> Any:
            gevent.sleep(0)
            return weakref.ref(asyncio.get_running_loop())

        loops: list[Any] = []
        for _ in range(10):
            greenlets = [gevent.spawn(asyncio.run, main()) for _ in range(10)]
            gevent.joinall(greenlets, raise_error=True)
            loops += [g.value for g in greenlets]
            del greenlets
        gc.collect()
        assert [loop() for loop in loops] == [None] * 100


class TestThreads:
    def test_each_with_its_loops(self) -> None:
        async def main() -> Any:
            here = asyncio.get_running_loop(), asyncio.current_task()
            for _ in range(20):
                gevent.sleep(0)
                time.sleep(0.0001)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == here
                await asyncio.sleep(0)
            return here[0]

        results: list[Any] = []

        def run() -> None:
            greenlets = [gevent.spawn(asyncio.run, main()) for _ in range(4)]
            gevent.joinall(greenlets, raise_error=True)
            results.extend(g.value for g in greenlets)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(loop) for loop in results}) == 16

    def test_that_end_with_greenlets_in_a_loop(self) -> None:
        loops = []
        greenlets = []

        def run() -> None:
            def body() -> None:
                loop = asyncio.new_event_loop()
                loops.append(weakref.ref(loop))
                asyncio._set_running_loop(loop)
                loop.close()
                del loop
                park()

            for _ in range(3):
                greenlets.append(greenlet(body))
                greenlets[-1].switch()
            assert running_loop() is None

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert [loop() is None for loop in loops] == [False] * 3
        greenlets.clear()
        gc.collect()
        assert [loop() for loop in loops] == [None] * 3

    def test_collected_in_another_thread(self, make_loop: Any) -> None:
        loop = make_loop()
        seen = []
        greenlets = []
        collected = threading.Event()
        begun = threading.Event()

        def body() -> None:
            asyncio._set_running_loop(loop)
            try:
                park()
            finally:
                seen.append((running_loop(), threading.get_ident()))

        def run() -> None:
            greenlets.append(greenlet(body))
            greenlets[-1].switch()
            begun.set()
            collected.wait(60)
            greenlet(int).switch()
            seen.append((running_loop(), threading.get_ident()))

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(60)
        greenlets.clear()
        collected.set()
        thread.join()
        assert seen == [(loop, thread.ident), (None, thread.ident)]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_in_a_forked_child_no_loop_runs(make_loop: Any) -> None:
    loop = make_loop()
    g = greenlet(lambda: (asyncio._set_running_loop(loop), park(), running_loop()))
    g.switch()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if g.switch() == (None, (), None) and running_loop() is None else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert g.switch() == (None, (), loop)


class TestRandomly:
    """Greenlets that run loops, enter tasks, switch, spawn and end, against a model of it."""

    @pytest.mark.parametrize("seed", range(5))
    def test_walk(self, seed: int, make_loop: Any) -> None:
        choice = random.Random(seed)
        loops = [make_loop() for _ in range(4)]
        tasks = {loop: [loop.create_task(nothing()) for _ in range(4)] for loop in loops}
        main = getcurrent()
        alive: list[Any] = []
        steps = 0

        def check(loop: Any, task: Any) -> None:
            nonlocal steps
            steps += 1
            assert running_loop() is loop
            if loop is not None:
                assert asyncio.current_task() is task

        def body() -> None:
            loop: Any = None
            task: Any = None
            check(loop, task)
            for _ in range(choice.randrange(1, 30)):
                action = choice.randrange(6)
                if action == 0 and task is None:
                    if loop is None:
                        # Of a loop of its own: one that another greenlet resets would stop here.
                        loop = make_loop()
                        tasks[loop] = [loop.create_task(nothing()) for _ in range(4)]
                        asyncio._set_running_loop(loop)
                    else:
                        loop = None
                        asyncio._set_running_loop(None)
                elif action == 1 and loop is not None:
                    if task is None:
                        task = choice.choice(tasks[loop])
                        asyncio.tasks._enter_task(loop, task)
                    else:
                        asyncio.tasks._leave_task(loop, task)
                        task = None
                elif action == 2:
                    main.switch()
                elif action == 3:
                    gevent.sleep(0)
                elif action == 4:
                    gc.collect(0)
                else:
                    ready = [g for g in alive if g and g is not getcurrent()]
                    if ready:
                        choice.choice(ready).switch()
                check(loop, task)
            if task is not None:
                asyncio.tasks._leave_task(loop, task)
            if loop is not None:
                asyncio._set_running_loop(None)

        for _ in range(150):
            if len(alive) < 8:
                alive.append(greenlet(body))
                alive[-1].switch()
            else:
                choice.choice(alive).switch()
            assert running_loop() is None
            alive[:] = [g for g in alive if not g.dead]
        assert steps > 300
        alive.clear()
        gc.collect()
        assert running_loop() is None
        for loop, left in tasks.items():
            loop.run_until_complete(asyncio.gather(*left))

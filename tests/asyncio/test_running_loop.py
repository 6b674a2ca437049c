"""asyncio's running loop and current task belong to the greenlet."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import gevent
import greenlet as greenlet_module
import pytest
from greenlet import getcurrent, greenlet
from loop_support import nothing, park, running_loop


class TestSetInOne:
    def test_is_not_set_in_others(self, make_loop: Any) -> None:
        def body() -> Any:
            assert running_loop() is None
            loop = make_loop()
            asyncio._set_running_loop(loop)
            for _ in range(3):
                park()
                assert asyncio.get_running_loop() is loop
            asyncio._set_running_loop(None)
            park()
            return running_loop()

        greenlets = [greenlet(body) for _ in range(5)]
        for _ in range(5):
            for g in greenlets:
                assert g.switch() is None
                assert running_loop() is None
        assert all(g.dead for g in greenlets)

    def test_is_not_set_in_others_switched_to_directly(self, make_loop: Any) -> None:
        loops: dict[Any, Any] = {}

        def body() -> None:
            here = getcurrent()
            park()
            while True:
                assert running_loop() is loops.get(here)
                if here not in loops or random.random() < 0.2:
                    loops[here] = None if loops.get(here) else make_loop()
                    asyncio._set_running_loop(loops[here])
                random.choice(greenlets).switch()

        greenlets = [greenlet(body) for _ in range(8)]
        for g in greenlets:
            g.switch()
        greenlets.append(getcurrent())
        for _ in range(500):
            greenlets[random.randrange(8)].switch()
            assert running_loop() is None

    def test_ends_with_the_greenlet(self, make_loop: Any) -> None:
        greenlet(asyncio._set_running_loop).switch(make_loop())
        assert running_loop() is None

        def failing() -> None:
            asyncio._set_running_loop(make_loop())
            raise ValueError

        with pytest.raises(ValueError):
            greenlet(failing).switch()
        assert running_loop() is None

    def test_is_there_for_what_is_thrown_in(self, make_loop: Any) -> None:
        loop = make_loop()
        seen = []

        def body() -> None:
            asyncio._set_running_loop(loop)
            try:
                park()
            finally:
                seen.append(running_loop())

        g = greenlet(body)
        g.switch()
        g.throw()
        g = greenlet(body)
        g.switch()
        del g
        assert seen == [loop, loop]

    def test_is_there_for_the_trace_function(self, make_loop: Any) -> None:
        loop = make_loop()
        seen = []

        def trace(_event: str, pair: tuple[Any, Any]) -> None:
            seen.append((pair[1] is here, running_loop()))

        here = getcurrent()
        g = greenlet(lambda: (asyncio._set_running_loop(loop), park(), park()))
        g.switch()
        greenlet_module.settrace(trace)
        try:
            g.switch()
        finally:
            greenlet_module.settrace(None)
        assert seen == [(False, loop), (True, None)]


class TestBeginning:
    def test_a_raw_greenlet_inherits(self, make_loop: Any) -> None:
        loop = make_loop()
        asyncio._set_running_loop(loop)
        g = greenlet(lambda: (asyncio.get_running_loop(), park(), asyncio.get_running_loop()))
        g.switch()
        assert asyncio.get_running_loop() is loop
        assert g.switch() == (loop, (), loop)
        asyncio._set_running_loop(None)

    def test_what_it_sets_itself_is_its_own(self, make_loop: Any) -> None:
        first, second = make_loop(), make_loop()

        def body() -> Any:
            asyncio._set_running_loop(second)
            park()
            return running_loop()

        asyncio._set_running_loop(first)
        g = greenlet(body)
        g.switch()
        assert running_loop() is first
        assert g.switch() is second
        assert running_loop() is first
        asyncio._set_running_loop(None)

    def test_not_with_a_loop_that_was_set_after_it_began(self, make_loop: Any) -> None:
        g = greenlet(lambda: (park(), running_loop()))
        g.switch()
        asyncio._set_running_loop(make_loop())
        assert g.switch() == ((), None)
        asyncio._set_running_loop(None)

    def test_as_a_parent_that_has_not_run(self, make_loop: Any) -> None:
        loop = make_loop()
        parent = greenlet(lambda value: (value, running_loop()))
        asyncio._set_running_loop(loop)
        child = greenlet(running_loop, parent)
        assert child.switch() == (loop, loop)
        asyncio._set_running_loop(None)

    @pytest.mark.parametrize(
        "start",
        [
            pytest.param(lambda f: gevent.spawn(f), id="spawn"),
            pytest.param(lambda f: gevent.spawn_later(0, f), id="spawn_later"),
            pytest.param(lambda f: gevent.spawn_raw(f), id="spawn_raw"),
            pytest.param(lambda f: gevent.get_hub().loop.run_callback(f), id="run_callback"),
            pytest.param(
                lambda f: gevent.get_hub().loop.run_callback(greenlet(f, gevent.get_hub()).switch),
                id="switch",
            ),
            pytest.param(lambda f: gevent.Greenlet(f).start(), id="start"),
        ],
    )
    def test_what_the_hub_starts_has_none(self, start: Any) -> None:
        seen = []

        async def main() -> None:
            started = [start(lambda: seen.append(running_loop())) for _ in range(3)]
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            while len(seen) < 3:
                gevent.sleep(0.001)
            assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
            del started

        asyncio.run(main())
        assert seen == [None] * 3

    def test_a_spawned_greenlet_switched_to_has_none(self) -> None:
        async def main() -> None:
            here, loop = getcurrent(), asyncio.get_running_loop()
            g = gevent.Greenlet(lambda: here.switch(running_loop()))
            assert g.switch() is None
            assert asyncio.get_running_loop() is loop
            g.kill()

        asyncio.run(main())


class TestLoopThatHasStopped:
    def test_is_not_running_in_one_that_inherited_it(self) -> None:
        g = greenlet(lambda: (park(), running_loop()))

        async def main() -> None:
            g.switch()

        asyncio.run(main())
        assert g.switch() == ((), None)

    def test_is_not_running_in_one_that_set_it_too(self, make_loop: Any) -> None:
        loop = make_loop()

        def runs() -> None:
            asyncio._set_running_loop(loop)
            park()
            asyncio._set_running_loop(None)
            park()

        g = greenlet(runs)
        g.switch()
        asyncio._set_running_loop(loop)
        other = greenlet(lambda: (park(), running_loop()))
        other.switch()
        g.switch()
        assert running_loop() is None
        assert other.switch() == ((), None)
        g.switch()

    def test_only_if_it_is_reset_where_it_runs(self, make_loop: Any) -> None:
        loop = make_loop()

        def guest() -> Any:
            asyncio._set_running_loop(None)
            park()
            return running_loop()

        def runs() -> Any:
            asyncio._set_running_loop(loop)
            g = greenlet(guest)
            g.switch()
            assert running_loop() is loop
            assert g.switch() is None
            assert running_loop() is loop
            park()
            assert running_loop() is loop
            asyncio._set_running_loop(None)

        g = greenlet(runs)
        g.switch()
        asyncio._set_running_loop(loop)
        greenlet(park).switch()
        asyncio._set_running_loop(None)
        g.switch()
        assert g.dead

    def test_ended_with_the_greenlet_that_ran_it(self, make_loop: Any) -> None:
        loop = make_loop()
        inheriting = []

        def runs() -> None:
            asyncio._set_running_loop(loop)
            inheriting.append(greenlet(lambda: (park(), running_loop())))
            inheriting[0].switch()

        greenlet(runs).switch()
        assert inheriting[0].switch() == ((), None)

    def test_may_be_set_again(self, make_loop: Any) -> None:
        loop = make_loop()
        asyncio._set_running_loop(loop)
        g = greenlet(lambda: (park(), running_loop(), park(), running_loop()))
        g.switch()
        asyncio._set_running_loop(None)
        greenlet(int).switch()
        asyncio._set_running_loop(loop)
        g.switch()
        assert g.switch() == ((), loop, (), loop)
        asyncio._set_running_loop(None)


class TestCurrentTask:
    def test_of_two_greenlets_with_one_loop(self, make_loop: Any) -> None:
        loop = make_loop()

        def body() -> None:
            park()
            asyncio._set_running_loop(loop)
            task = loop.create_task(nothing())
            asyncio.tasks._enter_task(loop, task)
            for _ in range(3):
                random.choice([main, *greenlets]).switch()
                assert asyncio.current_task() is task
            asyncio.tasks._leave_task(loop, task)
            assert asyncio.current_task() is None
            while True:
                main.switch()
                assert asyncio.current_task() is None

        main = getcurrent()
        greenlets = [greenlet(body, main) for _ in range(5)]
        for g in greenlets:
            g.switch()
        for _ in range(50):
            random.choice(greenlets).switch()
            assert asyncio.current_task(loop) is None
        for g in greenlets:
            for _ in range(4):
                g.switch()
        assert asyncio.current_task(loop) is None
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop)))

    def test_entered_in_a_greenlet_that_inherited_another(self, make_loop: Any) -> None:
        loop = make_loop()
        asyncio._set_running_loop(loop)
        outer, inner = loop.create_task(nothing()), loop.create_task(nothing())
        asyncio.tasks._enter_task(loop, outer)

        def body() -> None:
            asyncio.tasks._leave_task(loop, outer)
            asyncio.tasks._enter_task(loop, inner)
            park()
            assert asyncio.current_task() is inner
            asyncio.tasks._leave_task(loop, inner)
            asyncio.tasks._enter_task(loop, outer)

        g = greenlet(body)
        g.switch()
        assert asyncio.current_task() is outer
        g.switch()
        assert asyncio.current_task() is outer
        asyncio.tasks._leave_task(loop, outer)
        asyncio._set_running_loop(None)
        loop.run_until_complete(asyncio.gather(outer, inner))

    def test_of_a_step_that_waits(self) -> None:
        """The task stays that of the step, while other greenlets run loops and tasks."""

        async def work(n: int) -> None:
            here = asyncio.get_running_loop(), asyncio.current_task()
            for _ in range(5):
                gevent.sleep(0)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == here
                await asyncio.sleep(0)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == here
                gevent.sleep(0.001)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == here

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(4):
                    group.create_task(work(n))

        gevent.joinall([gevent.spawn(asyncio.run, main()) for _ in range(5)], raise_error=True)


class TestHooks:
    def test_belong_to_the_greenlet(self) -> None:
        seen = []

        async def main() -> None:
            before = sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()
            assert before[0].firstiter.__self__ is asyncio.get_running_loop()
            gevent.sleep(0.001)
            assert sys.get_asyncgen_hooks() == before[0]
            assert sys.get_coroutine_origin_tracking_depth() == before[1] > 0
            seen.append(before)

        def plain() -> None:
            seen.append((sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()))

        loops = [gevent.spawn(asyncio.run, main(), debug=True) for _ in range(3)]
        others = [gevent.spawn(plain) for _ in range(3)]
        gevent.joinall(loops + others, raise_error=True)
        assert seen[:3] == [((None, None), 0)] * 3
        assert sys.get_coroutine_origin_tracking_depth() == 0

    def test_of_greenlets_without_a_loop(self, make_loop: Any) -> None:
        def firstiter(_generator: Any) -> None:
            """Only compared."""

        def body() -> None:
            asyncio._set_running_loop(make_loop())
            sys.set_asyncgen_hooks(None, None)
            park()
            assert sys.get_asyncgen_hooks() == (None, None)
            sys.set_coroutine_origin_tracking_depth(7)
            park()
            assert sys.get_coroutine_origin_tracking_depth() == 7
            asyncio._set_running_loop(None)

        g = greenlet(body)
        g.switch()
        sys.set_asyncgen_hooks(firstiter=firstiter)
        g.switch()
        assert sys.get_asyncgen_hooks() == (firstiter, None)
        assert sys.get_coroutine_origin_tracking_depth() == 0
        sys.set_asyncgen_hooks(None, None)
        g.switch()
        sys.set_coroutine_origin_tracking_depth(0)

    def test_generators_are_closed_by_the_loop_that_iterated(self) -> None:
        closed = []

        async def numbers() -> Any:
            try:
                yield asyncio.get_running_loop()
            finally:
                await asyncio.sleep(0)
                closed.append(asyncio.get_running_loop())

        async def main() -> asyncio.AbstractEventLoop:
            gevent.sleep(0.001)
            kept = numbers()
            assert await anext(kept) is asyncio.get_running_loop()
            gevent.sleep(0.001)
            return asyncio.get_running_loop()

        greenlets = [gevent.spawn(asyncio.run, main()) for _ in range(5)]
        gevent.joinall(greenlets, raise_error=True)
        assert {id(loop) for loop in closed} <= {id(g.value) for g in greenlets}

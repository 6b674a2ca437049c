"""Where bridges between coroutines and greenlets run, and what ends a wait at which point."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import greenloop
import greenloop.asyncio
from greenloop.asyncio import wait

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

BEGINS_AT_ONCE = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="tasks do not begin at once before 3.12"
)


def run(main: Callable[[], Any]) -> Any:
    return greenloop.asyncio.run(main())


def kinds_of(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


# A coroutine awaits a greenlet


def test_an_awaited_greenlet_does_not_go_before_others() -> None:
    seen: list[str] = []

    async def main() -> None:
        greenloop.spawn(seen.append, "before")
        await greenloop.spawn(seen.append, "awaited")
        seen.append("after")

    run(main)
    assert seen == ["before", "awaited", "after"]


def test_awaiting_greenlets_lets_the_loop_go_on() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for schedule in (
            loop.call_soon,
            lambda *call: loop.call_later(0.001, *call),
            lambda *call: threading.Timer(0.001, loop.call_soon_threadsafe, call).start(),
        ):
            called: list[int] = []
            schedule(called.append, 1)
            while not called:
                await greenloop.spawn(int)

    run(main)


def test_an_awaited_greenlet_is_no_blocking_call(caplog: pytest.LogCaptureFixture) -> None:
    over: list[int] = []

    def spin() -> None:
        while not over:
            greenloop.sleep(0)

    async def main() -> None:
        asyncio.get_running_loop().warns_of_blocking = True  # type: ignore[attr-defined]
        spinning = greenloop.spawn(spin)
        for _ in range(3000):
            await greenloop.spawn(int)
        over.append(1)
        await spinning

    run(main)
    assert kinds_of(caplog.records) == []


def test_the_task_is_current_before_and_after() -> None:
    def inside() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()

    async def main() -> None:
        task = asyncio.current_task()
        variable.set("task")
        await greenloop.spawn(inside)
        assert asyncio.current_task() is task
        assert variable.get() == "task"

    run(main)


def test_what_an_awaited_greenlet_raises_is_raised() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await greenloop.spawn(divmod, 1, 0)
        failed = greenloop.spawn(divmod, 1, 0)
        failed.join()
        with pytest.raises(ZeroDivisionError):
            await failed
        assert await greenloop.spawn(lambda: (1, 2)) == (1, 2)
        error = ValueError()
        assert await greenloop.spawn(lambda: error) is error

    run(main)


def test_cancelling_an_await_keeps_the_message() -> None:
    seen: list[str] = []

    def work() -> None:
        try:
            greenloop.sleep(60)
        finally:
            greenloop.sleep(0.001)
            seen.append("ended")

    async def awaits() -> None:
        try:
            await greenloop.spawn(work)
        except asyncio.CancelledError as error:
            seen.append(error.args[0])
            raise

    async def main() -> None:
        task = asyncio.create_task(awaits())
        await asyncio.sleep(0.001)
        assert task.cancel("reason")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main)
    assert seen == ["ended", "reason"]


def test_cancelling_an_await_of_a_greenlet_that_goes_on() -> None:
    def work() -> str:
        try:
            greenloop.sleep(60)
        except greenloop.GreenletExit:
            greenloop.sleep(0.001)
        return "result"

    async def awaits() -> str:
        result: str = await greenloop.spawn(work)
        return result

    async def main() -> None:
        task = asyncio.create_task(awaits())
        await asyncio.sleep(0.001)
        task.cancel()
        assert await task == "result"

    run(main)


def test_cancelling_an_await_of_a_greenlet_that_has_not_begun() -> None:
    async def awaits(greenlet: Any) -> None:
        await greenlet

    async def main() -> None:
        greenlet = greenloop.spawn_later(60, int)
        task = asyncio.create_task(awaits(greenlet))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(greenlet.value, greenloop.GreenletExit)

    run(main)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_greenlet_does_not_begin_for_a_task_that_is_being_cancelled(wrapped: bool) -> None:
    """As a task would not, that is awaited in its place."""
    seen: list[str] = []

    async def awaits(own: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if own:
            task.cancel("reason")
        greenlet = greenloop.spawn(seen.append, "begun")
        await (greenloop.asyncio.wrap(greenlet) if wrapped else greenlet)

    async def main() -> None:
        for own in (True, False):
            task = asyncio.create_task(awaits(own))
            if not own:
                # Called after the task's step, and before the greenlet's turn.
                asyncio.get_running_loop().call_soon(task.cancel, "reason")
            with pytest.raises(asyncio.CancelledError, match="reason"):
                await task
            assert task.cancelled()

    run(main)
    assert seen == []


def test_a_greenlet_begins_for_a_task_that_has_been_told_not_to_end() -> None:
    seen: list[str] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()
        await greenloop.spawn(seen.append, "begun")

    run(main)
    assert seen == ["begun"]


def test_a_timeout_of_an_await() -> None:
    async def main() -> None:
        greenlet = greenloop.spawn(greenloop.sleep, 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(greenlet, 0.001)
        assert greenlet.dead

    run(main)


def test_a_coroutine_that_is_closed_leaves_the_greenlet_alone() -> None:
    seen: list[str] = []

    def work() -> None:
        greenloop.sleep(0.001)
        seen.append("ended")

    async def awaits(greenlet: Any) -> None:
        await greenlet

    async def main() -> None:
        greenlet = greenloop.spawn(work)
        coroutine = awaits(greenlet)
        coroutine.send(None)
        coroutine.close()
        greenlet.join()
        assert seen == ["ended"]

    run(main)


def test_several_await_one_greenlet() -> None:
    async def awaits(greenlet: Any) -> Any:
        return await greenlet

    async def main() -> None:
        greenlet = greenloop.spawn(lambda: (greenloop.sleep(0.001), "result")[1])
        assert await asyncio.gather(*[awaits(greenlet) for _ in range(5)]) == ["result"] * 5

    run(main)


def test_awaiting_a_greenlet_of_another_thread() -> None:
    begun = threading.Event()
    made: list[Any] = []

    def other() -> None:
        def work() -> int:
            greenloop.sleep(0.01)
            return threading.get_ident()

        made.append(greenloop.spawn(work))
        begun.set()
        made[0].join()

    async def main() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        begun.wait()
        assert await made[0] == thread.ident
        thread.join()

    run(main)


def test_an_awaited_greenlet_ends_the_run() -> None:
    async def main() -> None:
        await greenloop.spawn(lambda: running.kill(block=False))
        await asyncio.sleep(60)

    running = greenloop.spawn(run, main)
    running.join()
    assert isinstance(running.value, greenloop.GreenletExit)


# A greenlet waits for a coroutine


async def current() -> Any:
    assert asyncio.get_running_loop() is not None
    return asyncio.current_task()


def test_waiting_in_a_coroutine_leaves_its_task() -> None:
    async def change() -> str:
        before = variable.get()
        variable.set("inner")
        return before

    async def main() -> None:
        task = asyncio.current_task()
        inner = wait(current())
        assert inner is not task
        assert inner.done()
        assert asyncio.current_task() is task
        variable.set("outer")
        assert wait(change()) == "outer"
        assert variable.get() == "inner"
        with pytest.raises(ZeroDivisionError):
            wait(asyncio.to_thread(divmod, 1, 0))
        assert asyncio.current_task() is task
        assert wait(asyncio.sleep(0.001, "slept")) == "slept"
        assert asyncio.current_task() is task

    run(main)


@pytest.mark.parametrize("debug", [False, True])
def test_waiting_where_the_running_loop_is_hidden(debug: bool) -> None:
    async def main() -> None:
        here, me = asyncio.get_running_loop(), asyncio.current_task()
        here.set_debug(debug)
        asyncio._set_running_loop(None)
        try:
            task = wait(current(), loop=here)
            assert asyncio._get_running_loop() is None
        finally:
            asyncio._set_running_loop(here)
        assert task.get_loop() is here
        assert asyncio.current_task() is me

    run(main)


def test_tasks_go_on_while_one_hides_the_running_loop() -> None:
    seen: list[str] = []

    async def hides(name: str) -> None:
        here, me = asyncio.get_running_loop(), asyncio.current_task()
        asyncio._set_running_loop(None)
        for _ in range(3):
            greenloop.sleep(0.001)
            assert asyncio._get_running_loop() is None
            seen.append(name)
        asyncio._set_running_loop(here)
        assert asyncio.current_task() is me
        await asyncio.sleep(0)
        assert asyncio.current_task() is me

    async def goes_on() -> None:
        while len(seen) < 9:
            await asyncio.sleep(0)
            assert asyncio._get_running_loop() is not None

    async def main() -> None:
        await asyncio.gather(goes_on(), *[hides(name) for name in "abc"])

    run(main)
    assert sorted(seen) == list("aaabbbccc")


def test_another_loop_is_run_where_the_running_one_is_hidden() -> None:
    async def inner() -> str:
        await asyncio.sleep(0.001)
        return "inner"

    def runs_another() -> str:
        return greenloop.asyncio.run(inner())

    async def main() -> None:
        here, me = asyncio.get_running_loop(), asyncio.current_task()
        asyncio._set_running_loop(None)
        assert greenloop.spawn(runs_another).get() == "inner"
        asyncio._set_running_loop(here)
        assert asyncio.current_task() is me

    run(main)


@pytest.mark.parametrize("how", ["debug", "factory"])
def test_waiting_in_unusual_loops(how: str) -> None:
    made: list[Any] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if how == "debug":
            loop.set_debug(True)
        else:
            loop.set_task_factory(factory)
        assert await greenloop.spawn(wait, asyncio.sleep(0.001, 1), loop=loop) == 1
        assert wait(asyncio.sleep(0, 2)) == 2
        assert len(made) == (2 if how == "factory" else 0)

    run(main)


def test_killed_before_the_coroutine_begins() -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("begun")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        job = greenloop.spawn(wait, work(), loop=loop)
        greenloop.sleep(0)  # it waits now, and the loop is in the middle of this step
        job.kill(block=False)
        await asyncio.sleep(0.001)
        assert isinstance(job.value, greenloop.GreenletExit)

    run(main)
    assert seen == []


def test_the_run_ends_before_the_coroutine_begins() -> None:
    jobs: list[Any] = []

    async def work() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        jobs.append(greenloop.spawn(wait, work(), loop=asyncio.get_running_loop()))
        greenloop.sleep(0)

    run(main)
    with pytest.raises(asyncio.CancelledError):
        jobs[0].get()


def test_the_time_is_over_in_the_first_step() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            greenloop.sleep(0.01)
            seen.append("slept")
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"0\.001 seconds"):
                wait(work(), timeout=0.001)
        greenlet = greenloop.spawn(wait, work(), 0.001, loop=asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            await greenlet

    run(main)
    assert seen == ["slept", "ended"] * 3


# A task that does not begin at once is one already, and asyncio's are cancelled if they have been
# told to end, whatever they return.
@BEGINS_AT_ONCE
def test_the_time_is_over_in_a_first_step_that_returns() -> None:
    async def returns() -> str:
        greenloop.sleep(0.01)
        return "result"

    async def main() -> None:
        assert wait(returns(), timeout=0.001) == "result"

    run(main)


def test_an_exit_reaches_the_waiter_and_ends_the_run() -> None:
    seen: list[str] = []

    async def leave() -> None:
        raise SystemExit(7)

    def waiter(loop: asyncio.AbstractEventLoop) -> None:
        with pytest.raises(SystemExit):
            wait(leave(), loop=loop)
        seen.append("waiter")

    async def main() -> None:
        greenloop.spawn(waiter, asyncio.get_running_loop())
        await asyncio.sleep(60)

    with pytest.raises(SystemExit):
        run(main)
    greenloop.sleep(0)
    assert seen == ["waiter"]


def test_nobody_hears_of_what_was_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("after the cancellation")

    async def main() -> None:
        job = greenloop.spawn(wait, work(), loop=asyncio.get_running_loop())
        await asyncio.sleep(0.001)
        job.kill()
        await asyncio.sleep(0.001)

    run(main)
    assert kinds_of(caplog.records) == []

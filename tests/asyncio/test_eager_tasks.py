"""Tasks that begin where they are made, in greenlets that the loop does not run in."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from typing import Any

import pytest

import greenloop
import greenloop.asyncio

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")


async def child() -> str:
    await asyncio.sleep(0)
    return "child"


async def parent(loop: asyncio.AbstractEventLoop) -> str:
    assert asyncio.get_running_loop() is loop
    task = asyncio.current_task()
    result = await asyncio.create_task(child())
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task
    return result


def outside() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def test_an_eager_factory_begins_tasks_of_other_greenlets_in_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)

        def make() -> asyncio.Task[str]:
            assert outside()
            task = loop.create_task(parent(loop))
            assert outside()
            return task

        task = await greenloop.asyncio.wrap(greenloop.spawn(make))
        assert await task == "child"

    greenloop.asyncio.run(main())


def test_a_greenlet_waits_for_a_coroutine_under_an_eager_factory() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        waiting = greenloop.spawn(lambda: greenloop.asyncio.wait(parent(loop), loop=loop))
        assert await greenloop.asyncio.wrap(waiting) == "child"

    greenloop.asyncio.run(main())


@pytest.mark.parametrize("factory", [False, True])
def test_a_task_begins_at_once_if_it_is_asked_to(factory: bool) -> None:
    calls: list[Any] = []

    def make(loop: Any, coro: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def name() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if factory:
            loop.set_task_factory(make)
        task = loop.create_task(name(), name="one", eager_start=True)  # type: ignore[call-arg]
        assert task.done()
        assert task.result() == "one"
        late = loop.create_task(name(), name="two", eager_start=False)  # type: ignore[call-arg]
        assert not late.done()
        assert await late == "two"
        context = contextvars.copy_context()
        last = loop.create_task(name(), context=context, eager_start=True)  # type: ignore[call-arg]
        assert last.done()
        if factory:
            assert [call["eager_start"] for call in calls] == [True, False, True]
            assert calls[2]["context"] is context

    greenloop.asyncio.run(main())


@pytest.mark.skipif(
    (3, 13, 3) <= sys.version_info < (3, 14), reason="these releases name the task themselves"
)
def test_factories_get_what_is_given_for_a_task_that_may_begin_at_once() -> None:
    def make(loop: Any, coro: Any, *, eager_start: bool = False) -> Any:
        return asyncio.Task(coro, loop=loop, eager_start=eager_start)  # type: ignore[call-arg]

    async def result() -> int:
        return 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(make)
        task = loop.create_task(result(), eager_start=True)  # type: ignore[call-arg]
        assert task.done()
        assert task.result() == 1

    greenloop.asyncio.run(main())


def test_a_task_that_fails_at_once_is_freed_without_the_collector() -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(fail(), eager_start=True)  # type: ignore[call-arg]
        assert isinstance(task.exception(), ValueError)
        dropped = weakref.ref(task)
        del task
        assert dropped() is None

    gc.collect()
    gc.disable()
    try:
        greenloop.asyncio.run(main())
    finally:
        gc.enable()


def test_a_task_begins_in_the_loop_if_it_is_asked_to() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def make() -> asyncio.Task[str]:
            return loop.create_task(parent(loop), eager_start=True)  # type: ignore[call-arg]

        task = await greenloop.asyncio.wrap(greenloop.spawn(make))
        assert await task == "child"

    greenloop.asyncio.run(main())

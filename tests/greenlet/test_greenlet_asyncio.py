"""Programs that put greenlets and asyncio together: the ways in which libraries do that."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default="default")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def await_(awaitable: Any) -> Any:
    """Have the task that called `call` await, from sync code in its greenlet."""
    return getcurrent().parent.switch(awaitable)


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Run sync code in a greenlet, and await what it passes to `await_`."""
    child = greenlet(function)
    child.gr_context = getcurrent().gr_context
    result = child.switch(*args)
    while not child.dead:
        try:
            value = await result
        except BaseException as error:
            result = child.throw(error)
        else:
            result = child.switch(value)
    return result


class TestSyncCodeInATask:
    def test_has_its_loop_and_task(self) -> None:
        def sync() -> list[Any]:
            seen: list[Any] = [(asyncio.get_running_loop(), asyncio.current_task())]
            for _ in range(3):
                await_(asyncio.sleep(0.001))
                seen.append((asyncio.get_running_loop(), asyncio.current_task()))
            return seen

        async def one() -> None:
            here = asyncio.get_running_loop(), asyncio.current_task()
            assert await call(sync) == [here] * 4
            assert (asyncio.get_running_loop(), asyncio.current_task()) == here

        async def main() -> None:
            await asyncio.gather(*(one() for _ in range(5)))

        asyncio.run(main())
        assert running_loop() is None

    def test_uses_what_needs_them(self) -> None:
        async def answer(value: Any) -> Any:
            await asyncio.sleep(0)
            return value

        async def limited() -> None:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)

        def sync() -> list[Any]:
            task = asyncio.create_task(answer(1))
            shielded = asyncio.shield(answer(2))
            future = asyncio.Future[int]()
            asyncio.get_running_loop().call_soon(future.set_result, 3)
            with pytest.raises(TimeoutError):
                await_(limited())
            return [await_(task), await_(shielded), await_(future)]

        assert asyncio.run(call(sync)) == [1, 2, 3]

    def test_cancelled(self) -> None:
        seen = []

        def sync() -> None:
            try:
                await_(asyncio.sleep(60))
            except asyncio.CancelledError:
                seen.append((asyncio.get_running_loop(), asyncio.current_task()))
                raise

        async def main() -> None:
            task = asyncio.create_task(call(sync))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert seen == [(asyncio.get_running_loop(), task)]

        asyncio.run(main())

    def test_within_sync_code_in_a_task(self) -> None:
        def inner() -> Any:
            await_(asyncio.sleep(0))
            return asyncio.current_task()

        def outer() -> Any:
            before = asyncio.current_task()
            child = greenlet(inner)
            result = child.switch()
            while not child.dead:
                result = child.switch(await_(result))
            assert asyncio.current_task() is before
            return result

        async def main() -> None:
            assert await call(outer) is asyncio.current_task()

        asyncio.run(main())

    def test_may_not_run_a_loop(self) -> None:
        def sync() -> None:
            coroutine = asyncio.sleep(0)
            try:
                with pytest.raises(RuntimeError, match="running event loop"):
                    asyncio.run(coroutine)
            finally:
                coroutine.close()

        asyncio.run(call(sync))

    def test_shares_the_context_it_is_given(self) -> None:
        def sync() -> None:
            assert var.get() == "task"
            await_(asyncio.sleep(0))
            var.set("sync")

        async def main() -> None:
            var.set("task")
            await call(sync)
            assert var.get() == "sync"

        asyncio.run(main())
        assert var.get() == "default"

    def test_goes_on_in_another_task(self) -> None:
        def sync() -> None:
            while True:
                await_((asyncio.get_running_loop(), asyncio.current_task()))

        child = greenlet(sync)

        async def step() -> None:
            here = asyncio.get_running_loop(), asyncio.current_task()
            assert child.switch() == here
            await asyncio.sleep(0)
            assert child.switch() == here
            assert (asyncio.get_running_loop(), asyncio.current_task()) == here

        async def main() -> None:
            await asyncio.gather(*(step() for _ in range(4)))

        asyncio.run(main())

    def test_left_behind_by_its_loop(self) -> None:
        def sync() -> Any:
            await_(None)
            return running_loop(), asyncio.run(ended())

        async def ended() -> str:
            await asyncio.sleep(0)
            return "ended"

        child = greenlet(sync)

        async def main() -> None:
            child.switch()

        asyncio.run(main())
        assert child.switch() == (None, "ended")
        assert running_loop() is None

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
    def test_with_eager_tasks(self) -> None:
        async def work(n: int) -> int:
            me = asyncio.current_task()
            assert await call(sync, me) is me
            await asyncio.sleep(0)
            assert asyncio.current_task() is me
            return n

        def sync(me: Any) -> Any:
            assert asyncio.current_task() is me
            await_(asyncio.sleep(0))
            return asyncio.current_task()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            me = asyncio.current_task()
            tasks = [loop.create_task(work(n)) for n in range(5)]
            assert asyncio.current_task() is me
            assert await asyncio.gather(*tasks) == list(range(5))

        asyncio.run(main())

    def test_in_debug_mode(self) -> None:
        def sync() -> int:
            asyncio.get_running_loop().call_soon(int)
            await_(asyncio.sleep(0))
            asyncio.get_running_loop().call_soon(int)
            return sys.get_coroutine_origin_tracking_depth()

        async def main() -> None:
            depth = sys.get_coroutine_origin_tracking_depth()
            assert depth > 0
            assert await call(sync) == depth

        asyncio.run(main(), debug=True)
        assert sys.get_coroutine_origin_tracking_depth() == 0

    def test_iterates_over_asynchronous_generators(self) -> None:
        ended = []

        async def numbers() -> Any:
            try:
                for number in range(10):
                    yield number
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                ended.append(running_loop())

        def sync() -> int:
            iterator = numbers()
            total = 0
            for _ in range(4):
                total += await_(anext(iterator))
            return total

        async def main() -> asyncio.AbstractEventLoop:
            assert await call(sync) == 6
            while not ended:  # the loop's hook has it closed
                await asyncio.sleep(0)
            return asyncio.get_running_loop()

        assert [asyncio.run(main())] == ended
        assert sys.get_asyncgen_hooks() == (None, None)


class Dispatcher:
    """A loop in a greenlet of its own, which is switched to whenever there is something to wait
    for: a synchronous face of an asynchronous library."""

    def __init__(self) -> None:
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = asyncio.new_event_loop()
        if self.loop.is_running():
            raise ValueError("inside a running loop")
        self.stopped = self.loop.create_future()
        self.greenlet = greenlet(lambda: self.loop.run_until_complete(self.stopped))
        self.loop.call_soon(getcurrent().switch)
        self.greenlet.switch()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        me = getcurrent()
        task = self.loop.create_task(coroutine)
        task.add_done_callback(lambda _: me.switch())
        while not task.done():
            self.greenlet.switch()
        # The library's own synchronous code, called next, makes futures.
        asyncio._set_running_loop(self.loop)
        return task.result()

    def stop(self) -> None:
        self.loop.call_soon(self.stopped.set_result, None)
        self.greenlet.switch()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


class TestLoopBesideTheProgram:
    def test_one_after_another(self) -> None:
        async def who(n: int) -> Any:
            await asyncio.sleep(0)
            return n, asyncio.get_running_loop(), asyncio.current_task() is not None

        for _ in range(3):
            dispatcher = Dispatcher()
            for n in range(5):
                assert dispatcher.call(who(n)) == (n, dispatcher.loop, True)
                assert running_loop() is dispatcher.loop
                assert asyncio.Future().get_loop() is dispatcher.loop
                assert asyncio.current_task() is None
            with pytest.raises(ValueError, match="inside a running loop"):
                Dispatcher()
            dispatcher.stop()
            assert dispatcher.greenlet.dead
            assert running_loop() is None
        assert asyncio.run(asyncio.sleep(0, "over")) == "over"

    def test_handlers_in_greenlets_call_back(self) -> None:
        dispatcher = Dispatcher()
        handled = []

        async def add(a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a + b

        def handler(number: int) -> None:
            assert running_loop() is dispatcher.loop
            handled.append(dispatcher.call(add(number, 100)))
            assert running_loop() is dispatcher.loop

        async def events() -> None:
            for number in range(3):
                me = asyncio.current_task()
                greenlet(handler).switch(number)
                assert asyncio.current_task() is me
                await asyncio.sleep(0)
            while len(handled) < 3:
                await asyncio.sleep(0)

        dispatcher.call(events())
        assert sorted(handled) == [100, 101, 102]
        dispatcher.stop()
        assert running_loop() is None

    def test_in_a_greenlet(self) -> None:
        def body() -> Any:
            dispatcher = Dispatcher()
            result = dispatcher.call(asyncio.sleep(0, "result"))
            dispatcher.stop()
            return result, running_loop()

        assert greenlet(body).switch() == ("result", None)
        assert running_loop() is None


def test_a_task_in_a_greenlet_of_its_own() -> None:
    """Each step of a task is made by switching to the greenlet that runs its coroutine."""

    class Portal:
        def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
            self.coroutine = coroutine

        def run(self) -> Any:
            sent = None
            while True:
                try:
                    awaited = self.coroutine.send(sent)
                except StopIteration as stop:
                    return True, stop.value
                sent = getcurrent().parent.switch((False, awaited))

        def __await__(self) -> Any:
            child = greenlet(self.run)
            over, value = child.switch()
            while not over:
                sent = yield value
                child.parent = getcurrent()
                over, value = child.switch(sent)
            return value

    async def work(n: int) -> Any:
        me = asyncio.current_task()
        for _ in range(n):
            await asyncio.sleep(0)
            assert asyncio.current_task() is me
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return me

    async def one(n: int) -> None:
        assert await Portal(work(n)) is asyncio.current_task()

    async def main() -> None:
        await asyncio.gather(*(one(n) for n in range(5)))

    asyncio.run(main())

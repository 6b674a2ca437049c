"""`wrap(greenlet)` is a future as asyncio's are."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest

import greenloop
import greenloop.asyncio
from greenloop.asyncio import GreenletFuture, wrap
from greenloop.event import Event

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def run(main: Any) -> Any:
    return greenloop.asyncio.run(main())


def fail() -> None:
    raise ValueError("reason")


def test_before_and_after_the_end() -> None:
    async def main() -> None:
        gate = Event()
        greenlet = greenloop.spawn(lambda: gate.wait() and "result")
        future = wrap(greenlet)
        assert isinstance(future, GreenletFuture)
        assert isinstance(future, asyncio.Future)
        assert asyncio.isfuture(future)
        assert asyncio.ensure_future(future) is future
        assert future.greenlet is greenlet
        assert future.get_loop() is asyncio.get_running_loop()
        assert "pending" in repr(future)
        assert not future.done()
        assert not future.cancelled()
        for ask in (future.result, future.exception):
            with pytest.raises(asyncio.InvalidStateError, match="is not set"):
                ask()
        gate.set()
        assert await future == "result"
        assert await future == "result"
        assert future.done()
        assert future.result() == "result"
        assert future.exception() is None
        assert "finished" in repr(future)
        for change in (future.set_result, future.set_exception):
            with pytest.raises(RuntimeError, match="does not support"):
                change(ValueError())

    run(main)


def test_a_failure() -> None:
    async def main() -> None:
        future = wrap(greenloop.spawn(fail))
        lines = []
        for _ in range(3):
            with pytest.raises(ValueError, match="reason") as caught:
                await future
            lines.append(len(caught.traceback))
        # Each gets the traceback as it was.
        assert len(set(lines)) == 1
        assert isinstance(future.exception(), ValueError)
        assert not future.cancelled()
        with pytest.raises(ValueError, match="reason"):
            future.result()

    run(main)


def test_a_cancellation() -> None:
    async def main() -> None:
        for killed in (False, True):
            greenlet = greenloop.spawn(greenloop.sleep, 60)
            future = wrap(greenlet)
            await asyncio.sleep(0)
            if killed:
                greenlet.kill()
            else:
                assert future.cancel(msg="reason")
                assert not future.cancelled()
            with pytest.raises(asyncio.CancelledError) as caught:
                await future
            assert caught.value.args == (() if killed else ("reason",))
            assert future.cancelled()
            assert future.done()
            assert not future.cancel()
            assert "cancelled" in repr(future)
            for ask in (future.result, future.exception):
                with pytest.raises(asyncio.CancelledError):
                    ask()

    run(main)


def test_callbacks() -> None:
    seen: list[Any] = []

    def tell(future: Any) -> None:
        seen.append((future, variable.get()))

    async def main() -> None:
        future = wrap(greenloop.spawn(int))
        variable.set("outer")
        other = contextvars.copy_context()
        other.run(variable.set, "other")
        future.add_done_callback(tell)
        future.add_done_callback(tell, context=other)
        future.add_done_callback(seen.append)
        assert future.remove_done_callback(seen.append) == 1
        assert future.remove_done_callback(seen.append) == 0
        assert await future == 0
        assert seen == [(future, "outer"), (future, "other")]
        # Never at once.
        future.add_done_callback(tell)
        assert len(seen) == 2
        await asyncio.sleep(0)
        assert seen[2:] == [(future, "outer")]
        with pytest.raises(TypeError):
            future.add_done_callback(tell, other)  # type: ignore[misc]

    run(main)


def test_what_takes_futures() -> None:
    async def awaits(future: Any) -> Any:
        return await future

    async def main() -> None:
        def work(number: int) -> int:
            greenloop.sleep(0.001)
            return number

        futures = [wrap(greenloop.spawn(work, number)) for number in range(3)]
        assert await asyncio.gather(*futures) == [0, 1, 2]
        future = wrap(greenloop.spawn(work, 3))
        assert await asyncio.gather(*[awaits(future) for _ in range(3)]) == [3, 3, 3]
        endless = wrap(greenloop.spawn(greenloop.sleep, 60))
        future = wrap(greenloop.spawn(work, 4))
        done, pending = await asyncio.wait([endless, future], return_when="FIRST_COMPLETED")
        assert (done, pending) == ({future}, {endless})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(endless), 0.001)
        assert not endless.done()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endless, 0.001)
        assert endless.greenlet.dead
        for ended in asyncio.as_completed([wrap(greenloop.spawn(work, 5))]):
            assert await ended == 5
        async with asyncio.TaskGroup() as group:
            task = group.create_task(awaits(wrap(greenloop.spawn(work, 6))))
        assert task.result() == 6
        assert greenloop.asyncio.wait(wrap(greenloop.spawn(work, 7))) == 7

    run(main)


def test_on_a_loop_of_the_standard_library(run_script: Any) -> None:
    script = """
        from greenloop import monkey
        monkey.patch_all()
        import asyncio, greenloop
        from greenloop.asyncio import wrap

        async def main():
            assert await greenloop.spawn(lambda: (greenloop.sleep(0.001), "result")[1]) == "result"
            future = wrap(greenloop.spawn(greenloop.sleep, 60))
            await asyncio.sleep(0)
            future.cancel()
            try:
                await future
            except asyncio.CancelledError:
                return "done"

        print(asyncio.run(main()))
        """
    assert run_script(script, dropin=False).check_quiet() == "done\n"


def test_of_another_thread() -> None:
    begun = threading.Event()
    made: list[Any] = []
    stop: list[Any] = []

    def other() -> None:
        made.append(greenloop.spawn(greenloop.sleep, 60))
        stop.append(Event())
        begun.set()
        stop[0].wait()

    async def main() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        begun.wait()
        future = wrap(made[0])
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        stop[0].set()
        thread.join()

    run(main)


def test_it_is_freed_with_the_greenlet() -> None:
    async def main() -> Any:
        future = wrap(greenloop.spawn(int))
        future.add_done_callback(lambda done: [future])
        await future
        return weakref.ref(future)

    dropped = run(main)
    gc.collect()
    assert dropped() is None


def test_what_is_shown_of_a_task_that_awaits_a_greenlet() -> None:
    async def awaits() -> None:
        await greenloop.spawn(greenloop.sleep, 60)

    async def main() -> None:
        task = asyncio.create_task(awaits())
        await asyncio.sleep(0.001)
        assert "wait_for=<GreenletFuture pending <Greenlet" in repr(task)
        task.cancel()

    run(main)

"""Coroutines that wait for greenlets, greenlets that wait for coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

import greenloop
import greenloop.asyncio
from greenloop.asyncio import to_async, to_sync, wait, wrap
from greenloop.event import Event

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Failure(Exception):
    pass


def fail() -> None:
    raise Failure("reason")


async def fail_later() -> None:
    await asyncio.sleep(0)
    fail()


def names_of(error: BaseException) -> list[str]:
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return names


def test_a_coroutine_awaits_greenlets() -> None:
    def work(number: int) -> int:
        greenloop.sleep(0.001)
        return number

    async def main() -> Any:
        assert await greenloop.spawn(work, 1) == 1
        assert await wrap(greenloop.Greenlet(work, 2)) == 2  # starts it
        over = greenloop.spawn(work, 3)
        over.join()
        assert await over == 3
        return await asyncio.gather(*[wrap(greenloop.spawn(work, number)) for number in range(9)])

    assert greenloop.asyncio.run(main()) == list(range(9))


def test_the_exception_of_a_greenlet() -> None:
    async def main() -> None:
        with pytest.raises(Failure, match="reason") as caught:
            await greenloop.spawn(fail)
        assert "fail" in names_of(caught.value)
        with pytest.raises(TimeoutError) as timed_out:
            await greenloop.spawn(greenloop.with_timeout, 0.001, greenloop.sleep, 60)
        assert isinstance(timed_out.value.__cause__, greenloop.Timeout)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await greenloop.spawn(next, iter(()))

    greenloop.asyncio.run(main())


def test_cancelling_kills_the_greenlet() -> None:
    seen: list[str] = []

    def work() -> None:
        try:
            greenloop.sleep(60)
        finally:
            greenloop.sleep(0.001)
            seen.append("ended")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wrap(greenloop.spawn(work)), 0.005)
        assert seen == ["ended"]

    greenloop.asyncio.run(main())


def test_a_greenlet_that_does_not_let_itself_be_killed() -> None:
    def work() -> str:
        try:
            greenloop.sleep(60)
        except greenloop.GreenletExit:
            pass
        return "result"

    async def main() -> None:
        future = wrap(greenloop.spawn(work))
        await asyncio.sleep(0.001)
        assert future.cancel()
        assert await future == "result"
        assert not future.cancel()

    greenloop.asyncio.run(main())


def test_a_greenlet_that_has_ended_cannot_be_cancelled() -> None:
    seen: list[str] = []

    async def main() -> None:
        over = greenloop.spawn(int)
        over.join()
        future = wrap(over)
        assert future.done()
        assert not future.cancel()
        assert future.result() == 0

        ending = greenloop.spawn(int)
        ending.rawlink(lambda _: seen.append(f"{future.cancel()} {future.cancelled()}"))
        future = wrap(ending)
        assert await future == 0
        while not seen:
            await asyncio.sleep(0)
        assert seen == ["False False"]

        killed = greenloop.spawn(int)
        future = wrap(killed)
        killed.kill(block=False)  # before it began: nobody has been told yet
        assert killed.ready()
        assert not future.done()
        assert not future.cancel()
        assert future.cancelled()

    greenloop.asyncio.run(main())


def test_a_cancellation_is_not_lost_on_a_greenlet_that_has_ended() -> None:
    gate = Event()
    seen: list[str] = []

    async def work() -> None:
        over = greenloop.spawn(int)
        over.join()
        gate.wait()
        await over
        seen.append("went on")
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.001)
        task.cancel()  # while it blocks, so at the next await
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)

    greenloop.asyncio.run(main())
    # As with a task that is done, which does not suspend who awaits it.
    assert seen == ["went on"]


def test_killing_cancels_who_awaits() -> None:
    async def main() -> None:
        greenlet = greenloop.spawn(greenloop.sleep, 60)
        greenloop.spawn_later(0.001, greenlet.kill)
        with pytest.raises(asyncio.CancelledError):
            await greenlet

    greenloop.asyncio.run(main())


def test_wrap_checks_what_it_is_given() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="expected a Greenlet"):
            wrap(object())  # type: ignore[arg-type]

    greenloop.asyncio.run(main())
    greenlet = greenloop.spawn(int)
    with pytest.raises(RuntimeError, match="no running event loop"):
        wrap(greenlet)
    greenlet.join()


def test_a_greenlet_waits_without_a_loop() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    assert wait(work(1)) == 1
    jobs = [greenloop.spawn(wait, work(number)) for number in range(9)]
    assert [job.get() for job in jobs] == list(range(9))
    with pytest.raises(Failure) as caught:
        wait(fail_later())
    assert "fail_later" in names_of(caught.value)


def test_a_loop_of_the_hub_keeps_nothing_running() -> None:
    wait(asyncio.sleep(0))
    assert greenloop.get_hub().join(timeout=5)
    with pytest.raises(greenloop.exceptions.LoopExit):
        Event().wait()


def test_waiting_in_the_loop_that_runs() -> None:
    async def loop_of() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def main() -> None:
        here = asyncio.get_running_loop()
        # Sync code that a coroutine calls, as with nest_asyncio.
        assert wait(loop_of()) is here
        assert await greenloop.spawn(lambda: wait(loop_of(), loop=here)) is here

    greenloop.asyncio.run(main())


def test_waiting_for_futures() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        waiting = greenloop.spawn(wait, future)
        await asyncio.sleep(0.001)
        future.set_result("result")
        assert await waiting == "result"
        assert wait(future) == "result"
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(RuntimeError, match="wait for itself"):
            wait(task)
        cancelled = loop.create_future()
        waiting = greenloop.spawn(wait, cancelled)
        await asyncio.sleep(0.001)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    greenloop.asyncio.run(main())
    with pytest.raises(TypeError, match="expected an awaitable"):
        wait(1)  # type: ignore[arg-type]


def test_a_timeout_cancels_what_is_waited_for() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        wait(work(), timeout=0.002)
    assert seen == ["cancelled"]
    with pytest.raises(greenloop.Timeout), greenloop.Timeout(0.002):
        wait(work())
    job = greenloop.spawn(wait, work())
    greenloop.sleep(0.001)
    job.kill()
    for _ in range(10):
        greenloop.sleep(0)
    assert seen == ["cancelled"] * 3


def test_context_variables_go_both_ways() -> None:
    async def change() -> None:
        assert variable.get() == "caller"
        variable.set("coroutine")

    def change_in_greenlet() -> None:
        assert variable.get() == "coroutine"
        greenloop.sleep(0)
        variable.set("greenlet")

    def caller() -> None:
        variable.set("caller")
        wait(change())
        assert variable.get() == "coroutine"

        async def main() -> None:
            await to_async(change_in_greenlet)()
            assert variable.get() == "greenlet"

        to_sync(main)()
        assert variable.get() == "greenlet"

    contextvars.copy_context().run(caller)
    assert variable.get() == "unset"


def test_asyncio_primitives_in_greenlets() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock, event = asyncio.Lock(), asyncio.Event()

        def produce() -> None:
            wait(event.wait(), loop=loop)
            wait(lock.acquire(), loop=loop)
            for number in range(5):
                wait(queue.put(number), loop=loop)
            lock.release()

        greenlet = greenloop.spawn(produce)
        async with lock:
            event.set()
            await asyncio.sleep(0.001)
            assert queue.empty()
        result = [await queue.get() for _ in range(5)]
        await greenlet
        return result

    assert greenloop.asyncio.run(main()) == list(range(5))


def test_a_loop_of_another_thread() -> None:
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        done = asyncio.Event()
        loops.append(done)  # type: ignore[arg-type]
        ready.set()
        await done.wait()

    async def where() -> int:
        await asyncio.sleep(0.001)
        return threading.get_ident()

    thread = threading.Thread(target=greenloop.asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    loop, done = loops
    assert wait(where(), loop=loop) == thread.ident
    loop.call_soon_threadsafe(done.set)  # type: ignore[attr-defined]
    thread.join()


def test_blocking_functions_under_patching(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import asyncio, threading, time
        import greenloop.asyncio

        async def main():
            main_thread = threading.get_native_id()
            loop = asyncio.get_running_loop()
            begin = time.monotonic()
            sleeps = [asyncio.create_task(block()) for _ in range(50)]
            await asyncio.gather(*sleeps)
            assert time.monotonic() - begin < 50 * 0.02
            assert await loop.run_in_executor(None, threading.get_native_id) != main_thread
            assert await asyncio.to_thread(threading.get_native_id) != main_thread
            assert await loop.getaddrinfo("127.0.0.1", 80)
            assert await loop.getnameinfo(("127.0.0.1", 80), 3) == ("127.0.0.1", "80")

        async def block():
            time.sleep(0.02)

        greenloop.asyncio.run(main())
        """
    run_script(script).check_quiet()


def test_callbacks_are_in_the_thread_that_runs_the_loop(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import asyncio, threading, time
        import greenloop.asyncio

        values = threading.local()

        async def main(thread):
            for _ in range(3):
                assert threading.current_thread() is thread
                assert threading.get_ident() == thread.ident
                assert values.name == thread.name
                time.sleep(0.001)
                values.name = values.name
                await asyncio.sleep(0.001)

        async def together(thread):
            await asyncio.gather(*[main(thread) for _ in range(3)])

        def run():
            here = threading.current_thread()
            values.name = here.name
            greenloop.asyncio.run(together(here))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        run()
        assert threading.current_thread() is threading.main_thread()
        for thread in threads:
            thread.join()
        """
    run_script(script).check_quiet()


def test_waits_within_waits() -> None:
    """What programs patch asyncio for elsewhere."""

    def sync(depth: int) -> int:
        return 1 + wait(nested(depth - 1))

    async def nested(depth: int) -> int:
        task = asyncio.current_task()
        await asyncio.sleep(0)
        found = sync(depth) if depth else 0
        assert asyncio.current_task() is task
        await greenloop.spawn(greenloop.sleep, 0)
        return found

    async def main() -> list[int]:
        return await asyncio.gather(*[nested(30) for _ in range(5)])

    assert greenloop.asyncio.run(main()) == [30] * 5
    # The same without a loop that was there before.
    jobs = [greenloop.spawn(sync, 30) for _ in range(5)]
    assert [job.get() for job in jobs] == [30] * 5


def test_runs_within_runs() -> None:
    async def nested(depth: int, *loops: asyncio.AbstractEventLoop) -> int:
        here = asyncio.get_running_loop()
        assert here not in loops
        await asyncio.sleep(0.001)
        if not depth:
            unused = nested(0)
            with pytest.raises(RuntimeError, match="running event loop"):
                greenloop.asyncio.run(unused)
            unused.close()
            return 0
        inner = greenloop.spawn(greenloop.asyncio.run, nested(depth - 1, *loops, here))
        ticking = asyncio.create_task(ticks(inner))
        found: int = await inner
        await ticking
        assert asyncio.get_running_loop() is here
        return found + 1

    async def ticks(inner: Any) -> None:
        while not inner.ready():
            await asyncio.sleep(0.001)

    assert greenloop.asyncio.run(nested(10)) == 10


def test_a_failure_within_runs_within_runs() -> None:
    async def nested(depth: int) -> None:
        if depth:
            await greenloop.spawn(greenloop.asyncio.run, nested(depth - 1))
        wait(fail_later())

    with pytest.raises(Failure):
        greenloop.asyncio.run(nested(3))

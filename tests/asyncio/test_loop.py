"""The event loop, on the standard library's and on ours where the behaviour is the standard's."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import greenloop.asyncio

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=["standard", "ours"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """A loop, closed after the test."""
    factory: Callable[[], Loop] = (
        asyncio.new_event_loop if request.param == "standard" else greenloop.asyncio.new_event_loop
    )
    loop = factory()
    yield loop
    loop.close()


def test_callbacks_run_in_order(loop: Loop) -> None:
    seen: list[Any] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda *args: seen.append(args), 2, 3, 4)
    cancelled = loop.call_soon(seen.append, "never")
    loop.call_soon(loop.stop)
    cancelled.cancel()
    loop.run_forever()
    assert seen == [1, (2, 3, 4)]
    assert cancelled.cancelled()
    assert isinstance(cancelled, asyncio.Handle)


def test_stop_ends_after_the_round(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_soon(loop.stop)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop.call_soon(seen.append, 1)
    loop.run_forever()
    assert seen == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2]


def test_timers_run_in_the_order_of_their_times(loop: Loop) -> None:
    seen: list[Any] = []
    now = loop.time()
    loop.call_at(now + 0.03, loop.stop)
    timers = [loop.call_at(now + delay, seen.append, delay) for delay in (0.02, 0, 0.01)]
    never = loop.call_later(0.015, seen.append, "never")
    never.cancel()
    assert timers[0].when() == now + 0.02
    assert isinstance(timers[0], asyncio.TimerHandle)
    assert timers[1] < timers[2] < timers[0]
    loop.run_forever()
    assert seen == [0, 0.01, 0.02]


def test_a_callback_has_its_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    seen: list[int] = []
    variable.set(1)
    loop.call_soon(lambda: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, 2)
    loop.call_soon(lambda: seen.append(variable.get()), context=context)
    variable.set(3)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2]


def test_an_exception_goes_to_the_handler(loop: Loop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    handle = loop.call_soon(int, "x")
    loop.call_soon(loop.stop)
    loop.run_forever()
    [context] = told
    assert isinstance(context["exception"], ValueError)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback int")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_some_exceptions_end_the_run(loop: Loop, kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("reason")

    seen: list[int] = []
    loop.call_soon(fail)
    loop.call_soon(seen.append, 1)
    with pytest.raises(kind, match="reason"):
        loop.run_forever()
    assert not loop.is_running()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_readers_and_writers(loop: Loop) -> None:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        seen: list[bytes] = []

        def read() -> None:
            seen.append(one.recv(1))
            if len(seen) == 3:
                assert loop.remove_reader(one)
                loop.stop()

        def write() -> None:
            loop.remove_writer(two)
            two.send(b"abc")

        loop.add_reader(one, seen.append, b"replaced")
        loop.add_reader(one, read)
        loop.add_writer(two.fileno(), write)
        loop.run_forever()
        assert seen == [b"a", b"b", b"c"]
        assert not loop.remove_reader(one)


def test_calls_from_other_threads(loop: Loop) -> None:
    seen: list[int] = []

    def work() -> None:
        for number in range(100):
            loop.call_soon_threadsafe(seen.append, number)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert seen == list(range(100))


def test_a_loop_runs_in_another_thread_than_it_was_made_in(loop: Loop) -> None:
    one, two = socket.socketpair()
    with one, two:
        seen: list[Any] = []
        loop.call_later(0.001, seen.append, "timer")
        loop.call_later(0.05, loop.stop)
        loop.add_reader(one, lambda: seen.append(one.recv(10)))
        two.send(b"data")
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        thread.join()
        loop.remove_reader(one)
    assert sorted(seen, key=repr) == ["timer", b"data"]


def test_signal_handlers(loop: Loop) -> None:
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")

    def second() -> None:
        seen.append("second")
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, second)
    loop.call_later(0.001, signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["second"]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_closed_loop(loop: Loop) -> None:
    loop.call_later(100, print)
    loop.close()
    loop.close()
    assert loop.is_closed()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_soon_threadsafe(print),
        loop.run_forever,
        lambda: loop.add_reader(0, print),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_a_running_loop_is_not_run_again(loop: Loop) -> None:
    async def main() -> None:
        future = loop.create_future()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(future)
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        other = type(loop)()
        try:
            with pytest.raises(RuntimeError, match="another loop is running"):
                other.run_until_complete(future)
        finally:
            other.close()

    loop.run_until_complete(main())


def test_debug_mode_checks_threads_and_callbacks(loop: Loop) -> None:
    async def coroutine() -> None: ...

    async def main() -> None:
        errors: list[BaseException] = []

        def elsewhere() -> None:
            try:
                loop.call_soon(print)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        [error] = errors
        assert "Non-thread-safe" in str(error)
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.call_soon(coroutine)
        handle = loop.call_later(10, print)
        assert "created at" in repr(handle)
        handle.cancel()
        assert "cancelled" in repr(handle)

    loop.set_debug(True)
    loop.run_until_complete(main())


def test_tasks_and_factories(loop: Loop) -> None:
    async def name() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    async def main() -> None:
        assert await loop.create_task(name(), name="given") == "given"
        made: list[Any] = []

        def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        await loop.create_task(name())
        assert len(made) == 1

    loop.run_until_complete(main())

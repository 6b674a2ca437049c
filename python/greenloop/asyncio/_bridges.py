"""Between coroutines and greenlets: each may wait for the other.

Results, exceptions with their tracebacks, cancellation and context variables go both ways. No
threads are involved, and nothing polls.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from greenloop import _core
from greenloop._core import AsyncResult, Greenlet
from greenloop.asyncio import _hub_loop
from greenloop.asyncio._event_loop import EventLoop

__all__ = ["to_async", "to_sync", "wait", "wait_for_any"]

T = TypeVar("T")
P = ParamSpec("P")


async def as_coroutine(awaitable: Awaitable[T]) -> T:
    """Await something that is no coroutine."""
    return await awaitable


wait = _core._wait_for_awaitable


def wait_for_any(
    awaitable: Awaitable[T], timeout: float | None, loop: asyncio.AbstractEventLoop | None
) -> T:
    """Do what `wait` does for what the core leaves over: no loop of ours here, or no coroutine and
    no future.
    """
    context: contextvars.Context | None = None
    if asyncio.isfuture(awaitable):
        future: asyncio.Future[T] = awaitable
        home = future.get_loop()
    else:
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"expected an awaitable, not {type(awaitable).__name__}")
        home = _hub_loop.current() if loop is None else loop
        context = contextvars.copy_context()
        future = _start(home, awaitable, context)
    if not future.done():
        _park(future, home, timeout)
    if context is not None:
        _take_over(context)
    return future.result()


def _start(
    loop: asyncio.AbstractEventLoop, awaitable: Awaitable[T], context: contextvars.Context
) -> asyncio.Future[T]:
    """Have a loop, of any thread, run an awaitable."""
    coroutine: Coroutine[Any, Any, T]
    coroutine = awaitable if inspect.iscoroutine(awaitable) else as_coroutine(awaitable)
    make: Callable[[], asyncio.Future[T]]
    make = functools.partial(loop.create_task, coroutine, context=context)
    if _is_local(loop):
        return make()
    made: AsyncResult = AsyncResult()
    loop.call_soon_threadsafe(lambda: made.set(make()))
    task: asyncio.Future[T] = made.get()
    return task


def _is_local(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop runs, if it does, in the calling thread."""
    if isinstance(loop, EventLoop):
        return loop._is_local()
    return getattr(loop, "_thread_id", None) in (None, threading.get_ident())


def _park(
    future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop, timeout: float | None
) -> None:
    """Wait until a future is done."""
    if loop.is_closed():
        raise RuntimeError("Event loop is closed")
    if future is _task_of_caller():
        raise RuntimeError("a task cannot wait for itself")
    done = _core.Event()
    tell = functools.partial(_set, done)
    here = loop if isinstance(loop, EventLoop) and loop._is_local() else None
    call: Callable[..., Any] = loop.call_soon_threadsafe if here is None else _call
    call(future.add_done_callback, tell)
    if here is not None:
        here._change_waits(True)
    try:
        if done.wait(timeout):
            return
        call(future.cancel)
        done.wait()
    except BaseException:
        call(future.remove_done_callback, tell)
        call(future.cancel)
        call(_forget, future)
        raise
    finally:
        if here is not None:
            here._change_waits(False)
    if future.cancelled():
        raise TimeoutError(f"not done after {timeout} seconds")


def _call(function: Callable[..., Any], *args: Any) -> None:
    function(*args)


def _set(event: _core.Event, _: asyncio.Future[Any]) -> None:
    event.set()


def _forget(future: asyncio.Future[Any]) -> None:
    """Have nobody told that nobody has asked what became of a future."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


def _task_of_caller() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _take_over(context: contextvars.Context) -> None:
    """Set context variables to what they are in another context."""
    absent = object()
    for variable, value in context.items():
        if variable.get(absent) is not value:
            variable.set(value)


def to_async(func: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return an async function that runs `func` in a greenlet, where it may block.

    The function sees the context variables of the coroutine that awaits it, which sees what it has
    changed. To cancel the await is to kill the greenlet.
    """

    @functools.wraps(func)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        context = contextvars.copy_context()
        try:
            result: T = await Greenlet.spawn(context.run, func, *args, **kwargs)
        finally:
            _take_over(context)
        return result

    return call


def to_sync(func: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Return a function that calls an async function and waits for its result: see `wait`."""

    @functools.wraps(func)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return wait(func(*args, **kwargs))

    return call

"""The functions of asyncio-gevent, on greenloop's loop: `import asyncio_gevent` means this module
under the drop-in.

New code uses `greenloop.asyncio` itself.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from greenloop._core import Greenlet, GreenletExit
from greenloop.asyncio._bridges import wait
from greenloop.asyncio._event_loop import EventLoop
from greenloop.asyncio._futures import wrap
from greenloop.asyncio._runners import EventLoopPolicy

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "async_to_sync",
    "future_to_greenlet",
    "greenlet_to_future",
    "sync_to_async",
]


def _tell(future: asyncio.Future[None], _: Greenlet) -> None:
    if not future.done():
        future.set_result(None)


async def _result_of(greenlet: Greenlet, start: bool, cancel: bool, kill: bool) -> Any:
    if not start and not greenlet.started and not greenlet.ready():
        begun = asyncio.get_running_loop().create_future()
        greenlet.rawlink(functools.partial(_tell, begun))
        await begun
    future = wrap(greenlet)
    try:
        return await (future if kill else asyncio.shield(future))
    except asyncio.CancelledError:
        if not cancel and future.cancelled() and isinstance(greenlet.value, GreenletExit):
            return greenlet.value
        raise


def greenlet_to_future(
    greenlet: Greenlet,
    autocancel_future: bool = True,
    autostart_greenlet: bool = True,
    autokill_greenlet: bool = True,
) -> asyncio.Future[Any]:
    """Return a task of the running loop for what a Greenlet returns or raises.

    autocancel_future: if the greenlet is killed the task is cancelled; else its result is the
        GreenletExit.
    autostart_greenlet: start the greenlet if it has not been.
    autokill_greenlet: if the task is cancelled the greenlet is killed.
    """
    coroutine = _result_of(greenlet, autostart_greenlet, autocancel_future, autokill_greenlet)
    return asyncio.get_running_loop().create_task(coroutine)


def _wait_for(
    future: Awaitable[Any],
    loop: asyncio.AbstractEventLoop | None,
    start: bool,
    cancel: bool,
    kill: bool,
) -> Any:
    if not start and not asyncio.isfuture(future):
        raise RuntimeError("a coroutine that is not to be scheduled will never be done")
    if not cancel:
        future = asyncio.shield(future)
    try:
        return wait(future, loop=loop)
    except asyncio.CancelledError:
        if kill:
            raise GreenletExit from None
        raise


def future_to_greenlet(
    future: Awaitable[Any],
    loop: asyncio.AbstractEventLoop | None = None,
    autostart_future: bool = True,
    autocancel_future: bool = True,
    autokill_greenlet: bool = True,
) -> Greenlet:
    """Return a Greenlet, not started, that waits for a future or coroutine.

    loop: where a coroutine is run; see `greenloop.asyncio.wait` for the default.
    autostart_future: run a coroutine when the greenlet starts.
    autocancel_future: if the greenlet is killed the future is cancelled.
    autokill_greenlet: if the future is cancelled the greenlet ends by GreenletExit; else it raises
        CancelledError.
    """
    return Greenlet(_wait_for, future, loop, autostart_future, autocancel_future, autokill_greenlet)


def sync_to_async(
    fn: Callable[..., Any] | None = None,
    autocancel_future: bool = True,
    autostart_greenlet: bool = True,
    autokill_greenlet: bool = True,
) -> Any:
    """Return an async function that runs `fn` in a greenlet; also a decorator."""
    if fn is None:
        return functools.partial(
            sync_to_async,
            autocancel_future=autocancel_future,
            autostart_greenlet=autostart_greenlet,
            autokill_greenlet=autokill_greenlet,
        )
    called = fn

    @functools.wraps(called)
    async def call(*args: Any, **kwargs: Any) -> Any:
        greenlet = Greenlet(called, *args, **kwargs)
        return await _result_of(greenlet, autostart_greenlet, autocancel_future, autokill_greenlet)

    return call


def async_to_sync(
    coroutine: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    autostart_future: bool = True,
    autocancel_future: bool = True,
    autokill_greenlet: bool = True,
) -> Any:
    """Return a function that runs an async function and waits for it; also a decorator."""
    if coroutine is None:
        return functools.partial(
            async_to_sync,
            autostart_future=autostart_future,
            autocancel_future=autocancel_future,
            autokill_greenlet=autokill_greenlet,
        )
    called = coroutine

    @functools.wraps(called)
    def call(*args: Any, **kwargs: Any) -> Any:
        greenlet = future_to_greenlet(
            called(*args, **kwargs),
            None,
            autostart_future,
            autocancel_future,
            autokill_greenlet,
        )
        greenlet.start()
        return greenlet.get()

    return call

"""What the tests of event loops share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from greenlet import getcurrent

import greenloop.asyncio

#: What behaves as the standard library's loop does is tested on both.
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "greenloop": greenloop.asyncio.new_event_loop,
}

#: What the fixtures `run` and `run_ours` are.
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def park(value: Any = None) -> Any:
    return getcurrent().parent.switch(value)


async def nothing() -> None:
    """A coroutine to make a task of."""


@asynccontextmanager
async def serving(start: Awaitable[asyncio.Server]) -> AsyncIterator[Any]:
    """Have a server started, and closed in the end; its address."""
    server = await start
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
    await server.wait_closed()

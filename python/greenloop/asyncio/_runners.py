"""How programs come to have our loop: `run`, loop factories, and the event loop policy."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from greenloop.asyncio._event_loop import EventLoop

__all__ = ["EventLoopPolicy", "install", "new_event_loop", "run"]

T = TypeVar("T")


def new_event_loop() -> EventLoop:
    """Return a new event loop, to be closed by the caller: a factory for `asyncio.Runner`."""
    return EventLoop()


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    context: Context | None = None,
) -> T:
    """Run a coroutine in a new loop, as `asyncio.run` does, and return its result.

    main: the coroutine. debug: whether to use debug mode; None for what asyncio is set to.
    context: the context variables to run it with; a copy of the current ones by default.

    May be called in any greenlet in which no loop runs, and in several at once; the others go on
    meanwhile. RuntimeError is raised where a loop runs already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("greenloop.asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main, context=context)


def _policy_base() -> type[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        base: type[Any] = asyncio.DefaultEventLoopPolicy
    return base


class EventLoopPolicy(_policy_base()):  # type: ignore[misc]
    """The standard event loop policy, with our loops.

    Policies are deprecated since Python 3.14 and gone from 3.16: pass `new_event_loop` as
    `loop_factory` where that is possible.
    """

    def _loop_factory(self) -> EventLoop:
        return new_event_loop()


def install() -> None:
    """Have `asyncio.run` and `asyncio.new_event_loop` make our loops from now on.

    Sets the event loop policy, which is deprecated since Python 3.14.
    """
    if sys.version_info >= (3, 16):
        raise RuntimeError("Python has no event loop policies any more: pass a loop_factory")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())

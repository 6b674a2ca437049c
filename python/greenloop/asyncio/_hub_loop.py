"""The loop of a greenlet that waits for a coroutine: one that runs, or the hub's own."""

from __future__ import annotations

import asyncio
import os

from greenloop._core import _running_asyncio_loops, get_hub, spawn_raw
from greenloop.asyncio._event_loop import EventLoop

__all__ = ["current"]


class _HubLoop(EventLoop):
    """The loop of a hub, which runs in a greenlet of its own from the first wait on.

    It keeps the hub running only while somebody waits: what its coroutines have left open, such as
    pools of connections, goes on without.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()
        self._serve_waits()

    def ensure_running(self) -> None:
        """Start the greenlet that runs the loop, unless there is one."""
        if not self.is_running():
            spawn_raw(self.run_forever)

    def __del__(self) -> None:
        # Nobody has made it, so nobody is told that it was not closed.
        if not self.is_closed() and not self.is_running():
            self.close()


def current() -> asyncio.AbstractEventLoop:
    """Return the loop for a coroutine that the running greenlet waits for.

    The one that runs in this greenlet; else the hub's own, if it has one; else the one that has
    been running in this thread for longest; else the hub's own, made now.
    """
    running = asyncio._get_running_loop()
    if running is not None:
        return running
    hub = get_hub()
    own: _HubLoop | None = getattr(hub, "_asyncio_loop", None)
    if own is None or own.is_closed() or own.process != os.getpid():
        running_here = _running_asyncio_loops()
        if running_here:
            found: asyncio.AbstractEventLoop = running_here[0]
            return found
        own = _HubLoop()
        hub._asyncio_loop = own
    own.ensure_running()
    return own

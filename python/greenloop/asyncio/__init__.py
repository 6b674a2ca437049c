"""asyncio on the hub: coroutines and greenlets in one thread, over one event loop.

greenloop.asyncio.run(main())              # as asyncio.run
asyncio.Runner(loop_factory=greenloop.asyncio.new_event_loop)

await greenloop.spawn(function)            # a coroutine waits for a greenlet
greenloop.asyncio.wait(coroutine())        # a greenlet waits for a coroutine
"""

from __future__ import annotations

from greenloop.asyncio._bridges import to_async, to_sync, wait
from greenloop.asyncio._event_loop import EventLoop
from greenloop.asyncio._futures import GreenletFuture, wrap
from greenloop.asyncio._runners import EventLoopPolicy, install, new_event_loop, run

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "GreenletFuture",
    "install",
    "new_event_loop",
    "run",
    "to_async",
    "to_sync",
    "wait",
    "wrap",
]

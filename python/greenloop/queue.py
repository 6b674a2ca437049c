"""Queues for greenlets and threads.

Empty, Full and ShutDown are the exceptions of the standard library's `queue`.
"""

from __future__ import annotations

import queue as _queue
import sys
from collections.abc import Iterable
from typing import Any

from greenloop._core import Channel, LifoQueue, PriorityQueue, Queue, SimpleQueue

__all__ = [
    "Channel",
    "Empty",
    "Full",
    "JoinableQueue",
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "ShutDown",
    "SimpleQueue",
]

#: What stands for a class of the standard module. (`patch_queue` replaces SimpleQueue only.)
__implements__ = ["LifoQueue", "PriorityQueue", "Queue", "SimpleQueue"]
__extensions__ = ["Channel", "JoinableQueue"]
__imports__ = ["Empty", "Full"]
(__imports__ if hasattr(_queue, "ShutDown") else __extensions__).append("ShutDown")

Empty = _queue.Empty
Full = _queue.Full

if sys.version_info >= (3, 13):
    ShutDown = _queue.ShutDown
else:

    class ShutDown(Exception):
        """A queue is used that has been shut down."""


class UnboundQueue(Queue[Any]):
    """A Queue that always has room. (As gevent.queue.UnboundQueue.)

    maxsize: must be None.
    items: what is in it to begin with.

    Raises ValueError for another *maxsize*.
    """

    def __init__(self, maxsize: None = None, items: Iterable[Any] = ()) -> None:
        if maxsize is not None:
            raise ValueError("UnboundQueue has no maxsize")
        super().__init__(None, items)


#: The name that Queue had when there was a queue without ``join``.
JoinableQueue = Queue

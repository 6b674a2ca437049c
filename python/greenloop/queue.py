"""Queues for greenlets and threads.

Empty, Full and ShutDown are the exceptions of the standard library's `queue`.
"""

from __future__ import annotations

import queue as _queue
import sys

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

Empty = _queue.Empty
Full = _queue.Full

if sys.version_info >= (3, 13):
    ShutDown = _queue.ShutDown
else:

    class ShutDown(Exception):
        """A queue is used that has been shut down."""


#: The name that Queue had when there was a queue without ``join``.
JoinableQueue = Queue

"""`queue`."""

from __future__ import annotations

import queue as stdlib_queue

from greenloop import queue as green_queue
from greenloop.monkey._aliases import patch_everywhere
from greenloop.monkey._announce import vetoable


@vetoable
def patch_queue() -> None:
    """Replace `queue.SimpleQueue` by a cooperative one.

    Queue, LifoQueue and PriorityQueue stay the standard classes. They are cooperative as they are
    built from what `patch_thread` replaces.
    """
    patch_everywhere(stdlib_queue, green_queue, ["SimpleQueue"])

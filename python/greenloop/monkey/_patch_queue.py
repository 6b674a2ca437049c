"""`queue`."""

from __future__ import annotations

import queue as stdlib_queue

from greenloop import queue as green_queue
from greenloop.monkey._aliases import replace_aliases
from greenloop.monkey._items import patch_module


def patch_queue() -> None:
    """Replace `queue.SimpleQueue` by a cooperative one.

    Queue, LifoQueue and PriorityQueue stay the standard classes. They are cooperative as they are
    built from what `patch_thread` replaces.
    """
    replace_aliases(stdlib_queue, {"SimpleQueue": green_queue.SimpleQueue})
    patch_module(stdlib_queue, green_queue, ["SimpleQueue"])

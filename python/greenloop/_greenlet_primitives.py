"""Looking at all greenlets of the process. (As gevent._greenlet_primitives.)"""

from __future__ import annotations

import gc

from greenloop._core import getcurrent, greenlet

__all__ = ["get_memory", "get_reachable_greenlets", "getcurrent", "greenlet"]


def get_reachable_greenlets() -> list[greenlet]:
    """Return the greenlets that the garbage collector knows."""
    return [thing for thing in gc.get_objects() if isinstance(thing, greenlet)]


def get_memory(data: object) -> memoryview:
    """Return a memoryview of *data*.

    Raises TypeError for what has no buffer.
    """
    return memoryview(data)  # type: ignore[arg-type]

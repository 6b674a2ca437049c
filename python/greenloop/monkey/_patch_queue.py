"""`queue`."""

from __future__ import annotations

import queue as stdlib_queue
from types import ModuleType
from typing import Any

from greenloop import _core
from greenloop import queue as green_queue
from greenloop.monkey._aliases import patch_everywhere
from greenloop.monkey._announce import vetoable
from greenloop.monkey._items import patch_item
from greenloop.monkey._when_imported import when_imported
from greenloop.monkey._wrappers import wrapped_by

#: The methods of `queue.Queue` that are replaced. The others call these, or wait for the lock.
_METHODS = ["__init__", "put", "get", "task_done", "qsize", "empty", "full"]

_watched = False


@vetoable
def patch_queue() -> None:
    """Replace `queue.SimpleQueue` by a cooperative one, and methods of `queue.Queue`.

    Queue, LifoQueue and PriorityQueue stay the standard classes. They are cooperative as they are
    built from what `patch_thread` replaces. Methods such as `put` and `get` do in the core what
    need not wait. A queue's `mutex` and its conditions are made when they are first looked at.
    """
    global _watched
    patch_everywhere(stdlib_queue, green_queue, ["SimpleQueue"])
    if not _watched:
        _watched = True
        # Where `queue` has it from. Whoever imports `queue` afresh gets it from there once more.
        when_imported("_queue", _patch_accelerator, again=True)
        when_imported("queue", _patch_classes, again=True)


def _patch_accelerator(module: ModuleType) -> None:
    patch_item(module, "SimpleQueue", green_queue.SimpleQueue)
    # What that raises. A module that was imported afresh has made another one.
    patch_item(module, "Empty", green_queue.Empty)


def _patch_classes(module: ModuleType) -> None:
    queue_class: type = module.Queue

    def make_parts() -> dict[str, Any]:
        threading = module.threading
        mutex = threading.Lock()
        parts = {"mutex": mutex}
        for name in ("not_empty", "not_full", "all_tasks_done"):
            parts[name] = threading.Condition(mutex)
        return parts

    standard = {name: wrapped_by(vars(queue_class)[name]) for name in _METHODS}
    for name, item in _core._queue_methods(module, standard, make_parts).items():
        patch_item(queue_class, name, item)
    patch_item(queue_class, "__getstate__", _getstate)


def _getstate(queue: Any) -> object:
    """As object.__getstate__, with the parts: copies share them, and they cannot be pickled."""
    queue.mutex  # noqa: B018
    return object.__getstate__(queue)

"""Imports that are under way while `_thread` is patched.

An import lock knows its owner by the identity that `_thread.get_ident` returns, and only the owner
can release it. Patching gives greenlets identities of their own.
"""

from __future__ import annotations

import gc
import importlib
import sys
from types import FrameType
from typing import Any

from greenloop import _core
from greenloop.thread import get_ident

_bootstrap: Any = vars(importlib)["_bootstrap"]


def hand_over_imports() -> None:
    """Make the greenlets that import modules the owners of the locks that they hold.

    The main greenlet needs nothing: its identity is that of the native thread.
    """
    current = _core.getcurrent()
    if current.parent is not None:
        _hand_over(current, sys._getframe())
    for item in gc.get_objects():
        # Not isinstance: asking an object for its __class__ may run code of a lazy one.
        if not issubclass(type(item), _core.greenlet) or item is current:
            continue
        if item.parent is not None:
            _hand_over(item, item.gr_frame)


def _hand_over(greenlet: _core.greenlet, frame: FrameType | None) -> None:
    while frame is not None:
        # The function that holds the lock while it loads a module, `name`.
        if frame.f_code is _bootstrap._find_and_load.__code__:
            reference = _bootstrap._module_locks.get(frame.f_locals["name"])
            lock = None if reference is None else reference()
            if lock is not None and lock.owner is not None:
                lock.owner = get_ident(greenlet)
        frame = frame.f_back

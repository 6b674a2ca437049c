"""What `threading` is built from, for greenlets. (As gevent.threading.)

`threading.Thread`, `Condition`, `Event`, `Semaphore`, `Barrier` and `Timer` stay the standard
classes: patching replaces the primitives below them.
"""

from __future__ import annotations

import threading as _threading
from typing import Any

from greenloop.local import local
from greenloop.lock import Lock, RLock
from greenloop.thread import get_ident, start_new_thread

__all__ = ["Lock", "RLock", "get_ident", "local"]
__implements__ = ["local", "Lock", "get_ident"]

_allocate_lock = Lock
_get_ident = get_ident
_start_new_thread = start_new_thread

_NativeDummyThread: Any = vars(_threading)["_DummyThread"]
_active: dict[int, Any] = vars(_threading)["_active"]


class _Dummies(local):
    """The current greenlet's dummy thread; goes when the greenlet ends."""

    entry: _Entry


class _Entry:
    """Takes a dummy thread out of `threading` when it is dropped itself."""

    __slots__ = ("ident", "thread")

    def __init__(self, ident: int, thread: Any) -> None:
        self.ident = ident
        self.thread = thread

    def __del__(self) -> None:
        # One step each: no lock is needed, so that none is waited for in a finalizer.
        if _active.get(self.ident) is self.thread:
            _active.pop(self.ident, None)


_dummies = _Dummies()


class _DummyThread(_NativeDummyThread):  # type: ignore[misc]
    """What `current_thread` returns in a greenlet or native thread that is no Thread.

    Unlike that of some Python versions it does not stay in `threading` for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        _dummies.entry = _Entry(self.ident, self)

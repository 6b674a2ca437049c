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

    # The dictionary is an argument as a module has no globals left at the very end. Each step is
    # one for other threads: no lock is needed, so that none is waited for in a finalizer.
    def __del__(self, active: dict[int, Any] = _active) -> None:
        if active.get(self.ident) is self.thread:
            active.pop(self.ident, None)


_dummies = _Dummies()


class _DummyThread(_NativeDummyThread):  # type: ignore[misc]
    """What `current_thread` returns in a greenlet or native thread that is no Thread.

    It goes when the greenlet ends, or the native thread. (`threading` has something similar for
    native threads in some versions, which fails if a greenlet is still there when Python exits.)
    """

    def __init__(self) -> None:
        super().__init__()
        theirs = vars(_threading).get("_thread_local_info")
        if hasattr(theirs, "_track_dummy_thread_ref"):
            del theirs._track_dummy_thread_ref
            _active[self.ident] = self
        _dummies.entry = _Entry(self.ident, self)

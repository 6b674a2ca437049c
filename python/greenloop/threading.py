"""What `threading` is built from, for greenlets. (As gevent.threading.)

`threading.Thread`, `Condition`, `Event`, `Semaphore`, `Barrier` and `Timer` stay the standard
classes: patching replaces the primitives below them.
"""

from __future__ import annotations

import threading as _threading
import weakref
from typing import Any

from greenloop._core import Greenlet, getcurrent
from greenloop.local import local
from greenloop.lock import Lock
from greenloop.thread import RLock, get_ident, start_new_thread

__all__ = ["Lock", "RLock", "get_ident", "local"]
__implements__ = ["local", "Lock", "get_ident"]

_allocate_lock = Lock
_get_ident = get_ident
_start_new_thread = start_new_thread

_NativeDummyThread: Any = vars(_threading)["_DummyThread"]
_active: dict[int, Any] = vars(_threading)["_active"]


class _Forget:
    """Takes a dummy thread out of `threading` when it is called.

    That is one step each time: no lock is needed, so that none is waited for in a finalizer.
    """

    __slots__ = ("active", "ident", "thread")

    def __init__(self, thread: Any) -> None:
        self.thread = thread
        self.ident = thread.ident
        # Kept here as a module has no globals left when Python exits.
        self.active = _active

    def __call__(self, _ended: object) -> None:
        if self.active.get(self.ident) is self.thread:
            self.active.pop(self.ident, None)


class _DummyThread(_NativeDummyThread):  # type: ignore[misc]
    """What `current_thread` returns in a greenlet or native thread that is no Thread.

    It goes when the greenlet ends, or the native thread. (`threading` has something similar for
    native threads in some versions, which fails if a greenlet is still there when Python exits.)
    """

    def __init__(self) -> None:
        super().__init__()
        theirs: Any = vars(_threading).get("_thread_local_info")
        if hasattr(theirs, "_track_dummy_thread_ref"):
            del theirs._track_dummy_thread_ref
            _active[self.ident] = self
        current = getcurrent()
        if isinstance(current, Greenlet):
            current.rawlink(_Forget(self))
        else:
            self._watched = weakref.ref(current, _Forget(self))

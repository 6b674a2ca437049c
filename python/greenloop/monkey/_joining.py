"""Waiting for native threads that were started before patching, without blocking greenlets.

A native thread of our own waits for the other one, and passes the news on through a lock that
greenlets can wait for. It is started only when somebody has to wait.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import Any

from greenloop.lock import Lock

# Kept from before anything is patched.
_native_start_new_thread = _thread.start_new_thread


class _End:
    """The end of a native thread.

    wait: blocks until the thread has ended.
    """

    def __init__(self, wait: Callable[[], object]) -> None:
        self._wait = wait
        self._lock: Lock | None = None

    def wait(self, timeout: float) -> bool:
        """Wait for it, *timeout* seconds at most or without limit if negative. True if it came."""
        if self._lock is None:
            self._lock = Lock()
            self._lock.acquire()
            _native_start_new_thread(self._tell, ())
        if not self._lock.acquire(True, timeout):
            return False
        self._lock.release()
        return True

    def _tell(self) -> None:
        assert self._lock is not None
        try:
            self._wait()
        finally:
            self._lock.release()


class NativeHandle:
    """Stands for a `_thread._ThreadHandle`. (Since Python 3.13.)"""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._end = _End(native.join)

    @property
    def ident(self) -> int:
        ident: int = self._native.ident
        return ident

    def is_done(self) -> bool:
        done: bool = self._native.is_done()
        return done

    def join(self, timeout: float | None = None) -> None:
        if self._native.is_done() or self._end.wait(
            -1.0 if timeout is None or timeout < 0 else timeout
        ):
            # It takes no time now.
            self._native.join()

    def _set_done(self) -> None:
        self._native._set_done()


class NativeSentinel:
    """Stands for the lock that is released at the end of a thread. (Before Python 3.13.)"""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._end = _End(self._wait)

    def _wait(self) -> None:
        self._native.acquire()
        self._native.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        while not self._native.acquire(False):
            if not blocking or not self._end.wait(timeout):
                return False
        return True

    def release(self) -> None:
        self._native.release()

    def locked(self) -> bool:
        locked: bool = self._native.locked()
        return locked

    def _at_fork_reinit(self) -> None:
        self._native._at_fork_reinit()

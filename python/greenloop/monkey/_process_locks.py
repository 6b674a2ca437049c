"""`_multiprocessing.SemLock`, which all locks of `multiprocessing` are made of.

A system semaphore has no descriptor that could be waited for, only a call that blocks. So a native
thread makes that call if a greenlet has to wait; one for each semaphore, as greenlets of one
process queue up before it.

The standard class knows the owner of a lock by the native thread, which greenlets have in common,
and counts what a thread acquires recursively. Both are done here instead, by greenlet.

Checked with CPython 3.11 to 3.15: what `multiprocessing.synchronize` uses of the class.
"""

from __future__ import annotations

import _multiprocessing  # type: ignore[import-not-found]  # typeshed leaves it out
from time import monotonic
from types import ModuleType
from typing import Any

from greenloop._core import AsyncResult, get_hub_if_exists
from greenloop.lock import Semaphore
from greenloop.monkey._items import patch_item
from greenloop.thread import _native_start_new_thread, get_ident

# As in `multiprocessing.synchronize`.
_RECURSIVE, _PLAIN = 0, 1

# Seconds after which a thread that waits looks whether somebody still wants it to.
_PATIENCE = 1.0

_GIVEN_UP = object()

_NativeSemLock: Any = _multiprocessing.SemLock


class SemLock(_NativeSemLock):  # type: ignore[misc]
    """A semaphore between processes; waiting for it blocks one greenlet only."""

    _recursive: bool
    _owner: int | None
    _depth: int
    _turn: Semaphore

    def __new__(cls, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> SemLock:
        self: SemLock = super().__new__(cls, _PLAIN, value, maxvalue, name, unlink)
        return self._begin(kind)

    @classmethod
    def _rebuild(cls, handle: int, kind: int, maxvalue: int, name: str | None) -> SemLock:
        self: SemLock = super()._rebuild(handle, _PLAIN, maxvalue, name)
        return self._begin(kind)

    def _begin(self, kind: int) -> SemLock:
        self._recursive = kind == _RECURSIVE
        self._after_fork()
        return self

    def _after_fork(self) -> None:
        """Called in a forked child, where nobody has it."""
        super()._after_fork()
        self._owner = None
        self._depth = 0
        self._turn = Semaphore(1)

    @property
    def kind(self) -> int:
        """0 for a lock that its owner may acquire again, 1 for any other."""
        return _RECURSIVE if self._recursive else _PLAIN

    def _is_mine(self) -> bool:
        return self._depth > 0 and self._owner == get_ident()

    def _count(self) -> int:
        return self._depth

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it, waiting unless *block* is false, for *timeout* seconds at most (None for as
        long as it takes). Returns whether it was acquired."""
        if self._recursive and self._is_mine():
            self._depth += 1
            return True
        if not (super().acquire(False) or (block and self._acquire_waiting(timeout))):
            return False
        self._owner = get_ident()
        self._depth += 1
        return True

    def _acquire_waiting(self, timeout: float | None) -> bool:
        if get_hub_if_exists() is None:
            return bool(super().acquire(True, timeout))
        deadline = None if timeout is None else monotonic() + max(timeout, 0.0)
        if not self._turn.acquire(timeout=timeout):
            return False
        wait = _Wait(super().acquire, super().release, deadline)
        try:
            return wait.run()
        finally:
            self._turn.release()

    def release(self) -> None:
        """Release it.

        Raises AssertionError if it is recursive and not the caller's, ValueError if it was released
        more often than acquired.
        """
        if self._recursive:
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._depth > 1:
                self._depth -= 1
                return
        super().release()
        self._depth -= 1

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class _Wait:
    """A native thread's wait on behalf of a greenlet.

    acquire, release: methods of the semaphore, which block the native thread.
    deadline: when to give up, on the monotonic clock; None for never.
    """

    def __init__(self, acquire: Any, release: Any, deadline: float | None) -> None:
        self.acquire = acquire
        self.release = release
        self.deadline = deadline
        self.result = AsyncResult()
        # What became of it, from whoever knows first (a single step): True, False, an exception, or
        # _GIVEN_UP by the greenlet.
        self.outcome: dict[str, object] = {}

    def run(self) -> bool:
        _native_start_new_thread(self._block, ())
        try:
            return bool(self.result.get())
        except BaseException:
            if self.outcome.setdefault("is", _GIVEN_UP) is True:
                self.release()
            raise

    def _block(self) -> None:
        try:
            while not self.outcome:
                left = None if self.deadline is None else max(self.deadline - monotonic(), 0.0)
                if self.acquire(True, _PATIENCE if left is None else min(left, _PATIENCE)):
                    if self.outcome.setdefault("is", True) is _GIVEN_UP:
                        self.release()
                    self.result.set(True)
                elif left is not None and left <= _PATIENCE:
                    self.outcome.setdefault("is", False)
                    self.result.set(False)
        except BaseException as error:
            self.outcome.setdefault("is", error)
            self.result.set_exception(error)


def patch_process_locks(module: ModuleType) -> None:
    """Let greenlets run while one waits for a lock of `multiprocessing`.

    module: `multiprocessing.synchronize`, which looks the class up in `_multiprocessing`.
    """
    patch_item(_multiprocessing, "SemLock", SemLock)

"""Locks and semaphores for greenlets and threads."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from greenloop._core import BoundedSemaphore, RLock, Semaphore
from greenloop._core import Lock as Lock  # what threading.Lock is once patched

__all__ = ["BoundedSemaphore", "DummySemaphore", "RLock", "Semaphore"]


class DummySemaphore:
    """A semaphore that always has a permit: stands where there is no limit.

    value: taken for compatibility and not used. (As gevent.lock.DummySemaphore.)
    """

    def __init__(self, value: int | None = None) -> None:
        pass

    def __str__(self) -> str:
        return f"<{type(self).__name__}>"

    def locked(self) -> bool:
        """Whether no permit is free: False."""
        return False

    def ready(self) -> bool:
        """Whether a permit is free: True."""
        return True

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a permit: True at once, whatever the arguments are."""
        return True

    def release(self) -> None:
        """Do nothing."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until a permit is free: 1 at once, whatever the argument is."""
        return 1

    def rawlink(self, callback: Callable[[Any], object]) -> None:
        """Do nothing."""

    def unlink(self, callback: Callable[[Any], object]) -> None:
        """Do nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

"""Futures of greenlets: what a coroutine waits on that waits for one."""

from __future__ import annotations

from greenloop import _core
from greenloop._core import GreenletFuture
from greenloop.timeout import Timeout

__all__ = ["GreenletFuture", "for_coroutines", "wrap"]

wrap = _core._wrap_greenlet


def for_coroutines(error: BaseException) -> BaseException:
    """Return what a coroutine is to get for an exception of a greenlet."""
    if isinstance(error, Timeout):
        translated: BaseException = TimeoutError(str(error))
    elif isinstance(error, StopIteration):
        translated = RuntimeError("greenlet raised StopIteration")
    else:
        return error
    translated.__cause__ = error
    return translated

"""The standard library's `time`, with a `sleep` for greenlets. (As gevent.time.)"""

from __future__ import annotations

import math
import operator
import sys
import time as _time
from typing import Any, SupportsIndex

from greenloop import _core

__all__ = ["sleep"]
__implements__ = ["sleep"]

_native_sleep = _time.sleep

# The longest time that the standard function counts: 64-bit nanoseconds.
_MAX_SECONDS = 2**63 / 1e9


def __getattr__(name: str) -> Any:
    """Everything else is as in the standard library's module."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_time, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_time)})


def _number(seconds: Any) -> float:
    """What the standard function of this Python takes besides a float, and how it refuses."""
    if sys.version_info >= (3, 15):
        return math.ldexp(seconds, 0)  # anything with __float__
    else:  # noqa: RET505 -- the type checker follows branches, not returns
        try:
            return operator.index(seconds)
        except TypeError:
            if sys.version_info >= (3, 14):
                name = type(seconds).__qualname__
                if type(seconds).__module__ != "builtins":
                    name = f"{type(seconds).__module__}.{name}"
                message = f"{name!r} object cannot be interpreted as an integer or float"
                raise TypeError(message) from None
            raise


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Park the current greenlet while others run.

    seconds: how long at least, a float or an integer. 0 lets everything run that is ready.

    Raises TypeError if it is no number, ValueError if it is negative or not a number,
    OverflowError if it is more than some 292 years. (As time.sleep.)
    """
    if not isinstance(seconds, float):
        seconds = _number(seconds)
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds >= _MAX_SECONDS or seconds <= -_MAX_SECONDS:
        raise OverflowError("timestamp out of range for platform time_t")
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if _core.get_hub_if_exists() is None and not _core.getcurrent().parent:
        # A thread that has never used greenlets: nobody else could run in it.
        _native_sleep(seconds)
        return
    sys.audit("time.sleep", seconds)
    _core.sleep(seconds)

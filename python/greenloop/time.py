"""`time.sleep` for greenlets. (As gevent.time.)"""

from __future__ import annotations

import operator
import sys
import time as _time
from typing import SupportsIndex

from greenloop import _core

__all__ = ["sleep"]
__implements__ = ["sleep"]

_native_sleep = _time.sleep

# The longest time that the standard function counts: 64-bit nanoseconds.
_MAX_SECONDS = 2**63 / 1e9


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Park the current greenlet while others run.

    seconds: how long at least, a float or an integer. 0 lets everything run that is ready.

    Raises TypeError if it is no number, ValueError if it is negative or not a number,
    OverflowError if it is more than some 292 years. (As time.sleep.)
    """
    if not isinstance(seconds, float):
        try:
            seconds = operator.index(seconds)
        except TypeError:
            if sys.version_info < (3, 14):
                raise
            message = f"{type(seconds).__name__!r} object cannot be interpreted as an integer or float"
            raise TypeError(message) from None
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

"""The standard library's `time`, with a `sleep` for greenlets. (As gevent.time.)"""

from __future__ import annotations

import math
import operator
import sys
import time as _time
from typing import Any

from greenloop import _core

__all__ = ["sleep"]
__implements__ = ["sleep"]

_native_sleep = _time.sleep


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


sleep = _core._make_time_sleep(_native_sleep, _number)

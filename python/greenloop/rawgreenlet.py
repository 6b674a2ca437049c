"""The greenlet package's API, on greenloop's greenlets.

``import greenlet`` means this module once greenloop has been installed as gevent.
"""

from __future__ import annotations

from greenloop._core import (
    _C_API,
    GreenletExit,
    error,
    getcurrent,
    gettrace,
    greenlet,
    settrace,
)

__all__ = ["_C_API", "GreenletExit", "error", "getcurrent", "gettrace", "greenlet", "settrace"]

#: The version of the greenlet package whose behaviour this module has.
__version__ = "3.5.6"

GREENLET_USE_GC = True
GREENLET_USE_CONTEXT_VARS = True
GREENLET_USE_TRACING = True

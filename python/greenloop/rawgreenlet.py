"""The greenlet package's API, on greenloop's greenlets.

``import greenlet`` means this module once greenloop has been installed as gevent, and so does
``greenlet._greenlet``, the package's extension module.
"""

from __future__ import annotations

import sys

from greenloop import _core
from greenloop._core import (
    _C_API,
    GreenletExit,
    error,
    getcurrent,
    gettrace,
    greenlet,
    settrace,
)

__all__ = [
    "_C_API",
    "GreenletExit",
    "__version__",
    "error",
    "getcurrent",
    "gettrace",
    "greenlet",
    "settrace",
]

#: The version of the greenlet package whose behaviour this module has.
__version__ = "3.5.6"

GREENLET_USE_GC = True
GREENLET_USE_CONTEXT_VARS = True
GREENLET_USE_TRACING = True
GREENLET_USE_STANDARD_THREADING = True

# What programs and greenlet's tests ask about its workings.
CLOCKS_PER_SEC = _core.CLOCKS_PER_SEC
enable_optional_cleanup = _core.enable_optional_cleanup
get_clocks_used_doing_optional_cleanup = _core.get_clocks_used_doing_optional_cleanup
get_pending_cleanup_count = _core.get_pending_cleanup_count
get_total_main_greenlets = _core.get_total_main_greenlets
set_thread_local = _core.set_thread_local

if sys.version_info < (3, 13):
    get_tstate_trash_delete_nesting = _core.get_tstate_trash_delete_nesting

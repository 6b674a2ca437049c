"""greenloop: plain blocking code on greenlets, over one event loop in Rust.

The names are those of gevent: a program that says ``import gevent`` runs unchanged with
``python -m greenloop program.py``, or after `install_as_gevent()`.
"""

from __future__ import annotations

import sys
from os.path import dirname as _dirname
from os.path import join as _join
from sys import getswitchinterval
from typing import NamedTuple

try:
    from greenloop import _core
except ImportError as error:
    if "subinterpreters" not in str(error):
        raise
    raise ImportError(
        "greenloop works in the main interpreter of a process only, not in subinterpreters. Use "
        "threads or processes for what needs it; under mod_wsgi, set WSGIApplicationGroup "
        "%{GLOBAL}",
        name=__name__,
    ) from None

from greenloop import event as event
from greenloop import os as os
from greenloop import timeout as timeout
from greenloop._config import config
from greenloop._core import _GREENLOOP_C_API as _C_API  # noqa: F401 -- extensions import it
from greenloop._core import Greenlet, GreenletExit, getcurrent
from greenloop._shield import shield
from greenloop.dropin import install_as_gevent
from greenloop.greenlet import joinall, killall
from greenloop.hub import (
    get_hub,
    idle,
    iwait,
    kill,
    reinit,
    sleep,
    spawn_raw,
    wait,
)
from greenloop.hub import signal as signal_handler
from greenloop.os import fork
from greenloop.timeout import Timeout, with_timeout

__all__ = [
    "Greenlet",
    "GreenletExit",
    "Timeout",
    "config",
    "fork",
    "get_hub",
    "get_include",
    "getcurrent",
    "getswitchinterval",
    "idle",
    "install_as_gevent",
    "iwait",
    "joinall",
    "kill",
    "killall",
    "reinit",
    "setswitchinterval",
    "shield",
    "signal_handler",
    "sleep",
    "spawn",
    "spawn_later",
    "spawn_raw",
    "wait",
    "with_timeout",
]

#: The version of gevent whose API this is: libraries decide by it what they can use. greenloop's
#: own is `importlib.metadata.version("greenloop")`.
__version__ = "26.9.0"


class _VersionInfo(NamedTuple):
    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: int


#: The same, to be compared.
version_info = _VersionInfo(26, 9, 0, "final", 0)

spawn = Greenlet.spawn
spawn_later = Greenlet.spawn_later


def get_include() -> str:
    """Return the directory for the C compiler's -I option: it holds <greenlet/greenlet.h>.

    With this header extensions are compiled that make and switch greenlets through greenlet's C
    interface.
    """
    return _join(_dirname(__file__), "include")


def setswitchinterval(interval: float) -> None:
    """Set for how many seconds ready greenlets may run before the loop looks for events.

    As sys.setswitchinterval, it also sets how long a native thread may keep others from running.
    """
    sys.setswitchinterval(interval)
    hub = _core.get_hub_if_exists()
    if hub is not None:
        hub.switch_interval = interval

"""The event loop's classes and constants, under the names of gevent.core.

A loop comes with a hub: `get_hub().loop`. Watchers are made by its methods.
"""

from __future__ import annotations

from time import time

from greenloop import _core
from greenloop._core import (
    async_,
    callback,
    check,
    idle,
    io,
    loop,
    prepare,
    signal,
    timer,
    watcher,
)

__all__ = [
    "MAXPRI",
    "MINPRI",
    "READ",
    "READWRITE",
    "WRITE",
    "async_",
    "callback",
    "check",
    "embeddable_backends",
    "get_header_version",
    "get_version",
    "idle",
    "io",
    "loop",
    "prepare",
    "recommended_backends",
    "signal",
    "supported_backends",
    "time",
    "timer",
    "watcher",
]

#: What `loop.io` waits for.
READ = 1
WRITE = 2
READWRITE = READ | WRITE

#: The range of priorities that watchers take.
MINPRI = -2
MAXPRI = 2


def get_version() -> str:
    """Name and version of the event loop's implementation."""
    return f"greenloop-{_core.__version__}"


def get_header_version() -> str:
    """As get_version: loop and module are built together."""
    return get_version()


def supported_backends() -> list[str]:
    """The interfaces of the system that a loop can wait with, as in `loop.backend`."""
    return ["epoll", "poll"]


def recommended_backends() -> list[str]:
    """The one of supported_backends() that is the best here."""
    return ["epoll"]


def embeddable_backends() -> list[str]:
    """The backends whose loops can be put into another loop: none."""
    return []

"""The event loop's classes and constants, under the names of gevent.core.

A loop comes with a hub: `get_hub().loop`. Others are made by `loop(...)` and run by their `run()`.
Watchers are made by methods of the loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time
from typing import ClassVar

from greenloop import _core
from greenloop._core import (
    EVENTS,
    async_,
    callback,
    check,
    child,
    fork,
    idle,
    io,
    periodic,
    prepare,
    signal,
    stat,
    timer,
    watcher,
)

__all__ = [
    "EVENTS",
    "MAXPRI",
    "MINPRI",
    "READ",
    "READWRITE",
    "WRITE",
    "EpollLoop",
    "PollLoop",
    "async_",
    "callback",
    "check",
    "child",
    "embeddable_backends",
    "fork",
    "get_header_version",
    "get_version",
    "idle",
    "io",
    "loop",
    "periodic",
    "prepare",
    "recommended_backends",
    "signal",
    "stat",
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

# What has happened, as `watcher.feed` takes it and `io.start(..., pass_events=True)` passes it on.
# The numbers are libev's; the kinds of watchers that do not exist here are named all the same, as
# programs may look at the names.
UNDEF = -1
NONE = 0
TIMER = 0x100
PERIODIC = 0x200
SIGNAL = 0x400
CHILD = 0x800
STAT = 0x1000
IDLE = 0x2000
PREPARE = 0x4000
CHECK = 0x8000
EMBED = 0x10000
FORK = 0x20000
CLEANUP = 0x40000
ASYNC = 0x80000
CUSTOM = 0x1000000
ERROR = -0x80000000

_EVENT_NAMES = {
    READ: "READ",
    WRITE: "WRITE",
    0x80: "_IOFDSET",
    TIMER: "TIMER",
    PERIODIC: "PERIODIC",
    SIGNAL: "SIGNAL",
    CHILD: "CHILD",
    STAT: "STAT",
    IDLE: "IDLE",
    PREPARE: "PREPARE",
    CHECK: "CHECK",
    EMBED: "EMBED",
    FORK: "FORK",
    CLEANUP: "CLEANUP",
    ASYNC: "ASYNC",
    CUSTOM: "CUSTOM",
}

# Flags of `loop(flags)`. Which backends there are is asked by supported_backends().
BACKEND_SELECT = 0x01
BACKEND_POLL = 0x02
BACKEND_EPOLL = 0x04
BACKEND_KQUEUE = 0x08
BACKEND_DEVPOLL = 0x10
BACKEND_PORT = 0x20
BACKEND_LINUXAIO = 0x40
BACKEND_IOURING = 0x80
NOINOTIFY = 0x100000
SIGNALFD = 0x200000
NOSIGMASK = 0x400000
NOENV = 0x1000000
FORKCHECK = 0x2000000

#: Backends by name, the best first.
_BACKENDS = {
    "port": BACKEND_PORT,
    "kqueue": BACKEND_KQUEUE,
    "linux_iouring": BACKEND_IOURING,
    "linux_aio": BACKEND_LINUXAIO,
    "epoll": BACKEND_EPOLL,
    "poll": BACKEND_POLL,
    "select": BACKEND_SELECT,
}
_OPTIONS = {
    "noenv": NOENV,
    "forkcheck": FORKCHECK,
    "noinotify": NOINOTIFY,
    "signalfd": SIGNALFD,
    "nosigmask": NOSIGMASK,
}
_FLAGS = _BACKENDS | _OPTIONS
_ALL_BACKENDS = sum(_BACKENDS.values())

# What libev was compiled with, for programs that look: what the loop uses here.
LIBEV_EMBED = False
EV_USE_4HEAP = 1
EV_USE_CLOCK_SYSCALL = 0
EV_USE_EVENTFD = 0
EV_USE_FLOOR = 0
EV_USE_INOTIFY = 1
EV_USE_MONOTONIC = 1
EV_USE_NANOSLEEP = 0
EV_USE_REALTIME = 1
EV_USE_SIGNALFD = 0


def _flags_to_int(flags: int | str | Iterable[str | int] | None) -> int:
    """The sum of flags that are given as a number, a name, names separated by commas, or several.

    Raises ValueError for unknown names, TypeError for what is none of these.
    """
    if not flags:
        return 0
    if isinstance(flags, int):
        return flags
    if isinstance(flags, str):
        flags = flags.split(",")
    result = 0
    for flag in flags:
        if isinstance(flag, int):
            result |= flag
            continue
        name = flag.strip().lower()
        if not name:
            continue
        if name not in _FLAGS:
            raise ValueError(
                f"Invalid backend or flag: {flag!r}\nPossible values: {', '.join(sorted(_FLAGS))}"
            )
        result |= _FLAGS[name]
    return result


def _flags_to_list(flags: int) -> list[str | int]:
    """The names of flags, and the sum of those that have none."""
    names: list[str | int] = []
    for name, flag in _FLAGS.items():
        if flags & flag:
            names.append(name)
            flags &= ~flag
    return [*names, flags] if flags else names


def _check_flags(flags: int) -> None:
    """Raise ValueError if a backend is asked for, and none of those can be had."""
    wanted = flags & _ALL_BACKENDS
    if wanted and not _backends_of(flags):
        names = ", ".join(map(str, _flags_to_list(wanted)))
        raise ValueError(f"Unsupported backend: {names}")


def _backends_of(flags: int) -> list[str]:
    """The backends to try, the best first, of the flags that name some. What serves the programs
    that name it for being portable is served by the portable one."""
    if flags & BACKEND_SELECT:
        flags |= BACKEND_POLL
    return [name for name in supported_backends() if flags & _BACKENDS[name]]


def _events_to_str(events: int) -> str:
    """Bits of what has happened, as words."""
    names = []
    for bit, name in _EVENT_NAMES.items():
        if events & bit:
            names.append(name)
            events &= ~bit
    if events:
        names.append(hex(events))
    return "|".join(names)


class loop(_core.loop):  # noqa: N801 - gevent's name for it
    """An event loop. Each hub has one (`get_hub().loop`), others are made here and run by `run()`.

    flags: which backends it may use, and options, as a number, names in a list or separated by
        commas: "epoll", "poll", or `BACKEND_EPOLL | BACKEND_POLL`. The best of them is used. None
        leaves the choice to the loop. "select" is taken as "poll". Options of libev ("signalfd",
        "noinotify" and others) are remembered in `origflags`, and change nothing.
    default: whether this is the main loop of the process, the one that has child watchers.
        None means yes.

    Raises ValueError for names that mean nothing, and if there is none of the backends.
    (As gevent.core.loop.)
    """

    #: Which backends a loop of this class may use, where its maker does not say.
    default_flags: ClassVar[str | None] = None

    def __new__(
        cls,
        flags: int | str | Iterable[str | int] | None = None,
        default: bool | None = None,
    ) -> loop:
        """See the class."""
        number = _flags_to_int(flags)
        if not number & _ALL_BACKENDS:
            number |= _flags_to_int(cls.default_flags)
        _check_flags(number)
        is_default = default is None or bool(default)
        options = number | NOENV | FORKCHECK
        return super().__new__(cls, _backends_of(number), is_default, options)

    @property
    def backend_int(self) -> int:
        """The flag of the backend."""
        return _BACKENDS[self.backend]

    @property
    def origflags(self) -> list[str | int]:
        """What the loop was made with, as names."""
        return _flags_to_list(self.origflags_int)


class EpollLoop(loop):
    """A loop over epoll(7)."""

    default_flags = "epoll"


class PollLoop(loop):
    """A loop over poll(2)."""

    default_flags = "poll"


# The name of `async_` before that became a keyword.
globals()["async"] = async_


def get_version() -> str:
    """Name and version of the event loop's implementation."""
    return f"greenloop-{_core.__version__}"


def get_header_version() -> str:
    """As get_version: loop and module are built together."""
    return get_version()


def supported_backends() -> list[str]:
    """The interfaces of the system that a loop can wait with, as in `loop.backend`."""
    return _core.loop._supported_backends()


def recommended_backends() -> list[str]:
    """Those of supported_backends() to be tried, the best first."""
    return supported_backends()


def embeddable_backends() -> list[str]:
    """The backends whose loops can be put into another loop, by their `fileno()`."""
    return [name for name in supported_backends() if name == "epoll"]

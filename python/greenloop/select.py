"""Waiting for descriptors: the standard :mod:`select` module, blocking one greenlet only.

(As gevent.select.)
"""

from __future__ import annotations

import errno
import os
import select as __select__
from collections.abc import Iterable
from math import isnan
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from greenloop import _core
from greenloop.hub import get_hub_if_exists, getcurrent, sleep

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


#: Names that replace those of the standard module when it is patched.
__implements__ = ["select", "poll", "epoll"]

#: Names taken over from the standard module as they are.
__imports__ = [
    name for name in dir(__select__) if not name.startswith("_") and name not in __implements__
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__select__, _name))
del _name

__all__ = ["error", *__implements__]  # noqa: PLE0604

error = OSError


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


_FileDescriptorLike = int | _HasFileno
_T = TypeVar("_T", bound="_FileDescriptorLike")

# Kept by name: patching replaces the one in the module.
_native_epoll = __select__.epoll

# The longest timeouts: of poll and epoll in milliseconds, of select in seconds.
_INT_MAX = 2**31 - 1
_LONGEST = 2.0**63 / 1e9

_POLLIN = __select__.POLLIN
_POLLPRI = __select__.POLLPRI
_POLLOUT = __select__.POLLOUT
_POLLERR = __select__.POLLERR
_POLLHUP = __select__.POLLHUP
_POLLNVAL = __select__.POLLNVAL

# What select(2) means by readable, writable and exceptional.
_READABLE = _POLLIN | _POLLHUP | _POLLERR | __select__.POLLRDNORM | __select__.POLLRDBAND
_WRITABLE = _POLLOUT | _POLLERR | __select__.POLLWRNORM | __select__.POLLWRBAND
_EXCEPTIONAL = _POLLPRI


def get_fileno(obj: _FileDescriptorLike) -> int:
    """The descriptor of an int or of an object with a `fileno` method.

    Raises TypeError for anything else, ValueError if it is negative.
    """
    if isinstance(obj, int):
        fd = obj
    else:
        method = getattr(obj, "fileno", None)
        if method is None:
            raise TypeError("argument must be an int, or have a fileno() method.")
        fd = method()
        if not isinstance(fd, int):
            raise TypeError("fileno() returned a non-integer")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def _yield() -> None:
    """Let others run, if this is a greenlet that can."""
    hub = get_hub_if_exists()
    if hub is not None and getcurrent() is not hub:
        sleep(0)


def _seconds(timeout: Any) -> float | None:
    if timeout is None:
        return None
    seconds = _number(timeout, "timeout must be a float or None")
    if seconds < 0:
        raise ValueError("timeout must be non-negative")
    if seconds > _LONGEST:
        raise OverflowError("timeout is too large")
    return seconds


def _number(timeout: Any, message: str) -> float:
    """A number of seconds or milliseconds. Raises TypeError with the message for what is none."""
    if not hasattr(timeout, "__float__") and not hasattr(timeout, "__index__"):
        raise TypeError(message)
    number = float(timeout)
    if isnan(number):
        raise ValueError("Invalid value NaN (not a number)")
    return number


def select(
    rlist: Iterable[_T],
    wlist: Iterable[_T],
    xlist: Iterable[_T],
    timeout: float | None = None,
    /,
) -> tuple[list[_T], list[_T], list[_T]]:
    """Wait until one of the descriptors is ready: of `rlist` for reading, of `wlist` for writing,
    of `xlist` for an exceptional condition. Return those that are, as three lists; empty ones
    after `timeout` seconds (None waits for as long as it takes).

    Descriptors may be ints or have a `fileno` method. There is no limit to their numbers. Raises
    OSError for one that is not open, ValueError for a negative timeout.
    """
    lists = [[(obj, get_fileno(obj)) for obj in objects] for objects in (rlist, wlist, xlist)]
    seconds = _seconds(timeout)
    deadline = None if seconds is None else monotonic() + seconds
    wanted: dict[int, int] = {}
    for entries, events in zip(lists, (_POLLIN, _POLLOUT, _POLLPRI), strict=True):
        for _, fd in entries:
            wanted[fd] = wanted.get(fd, 0) | events
    found = dict(_core._poll(list(wanted.items()), 0.0))
    if found or seconds == 0:
        _yield()
    while True:
        if any(events & _POLLNVAL for events in found.values()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        ready = tuple(
            [obj for obj, fd in entries if found.get(fd, 0) & mask]
            for entries, mask in zip(lists, (_READABLE, _WRITABLE, _EXCEPTIONAL), strict=True)
        )
        if any(ready):
            return ready  # type: ignore[return-value]
        # A hang-up is news to poll(2) but not to a writer: nothing else will come of it.
        for fd in found:
            del wanted[fd]
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            return [], [], []
        found = dict(_core._poll(list(wanted.items()), left))


class _Polling:
    """A set of descriptors to wait for; see the standard `select.poll`."""

    _events: dict[int, int]
    _polling: bool

    def __new__(cls) -> Self:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__qualname__}' instances")

    def register(
        self, fd: _FileDescriptorLike, eventmask: int = _POLLIN | _POLLPRI | _POLLOUT, /
    ) -> None:
        """Add a descriptor, or change what it is waited for; `eventmask` is made of POLLIN,
        POLLPRI, POLLOUT."""
        self._events[get_fileno(fd)] = _mask(eventmask)

    def modify(self, fd: _FileDescriptorLike, eventmask: int, /) -> None:
        """Change what a descriptor is waited for. OSError (ENOENT) if it was not added."""
        fileno = get_fileno(fd)
        if fileno not in self._events:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._events[fileno] = _mask(eventmask)

    def unregister(self, fd: _FileDescriptorLike, /) -> None:
        """Take a descriptor out. KeyError if it was not added."""
        del self._events[get_fileno(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait for up to `timeout` milliseconds (None or negative: for as long as it takes).
        Return `(fd, event)` of the descriptors that are ready.

        RuntimeError if another greenlet is doing so already.
        """
        seconds = None
        if timeout is not None:
            milliseconds = _number(timeout, "timeout must be an integer or None")
            if milliseconds > _INT_MAX:
                raise OverflowError("timeout is too large")
            if milliseconds >= 0:
                seconds = milliseconds / 1000
        if self._polling:
            raise RuntimeError("concurrent poll() invocation")
        self._polling = True
        try:
            deadline = None if seconds is None else monotonic() + seconds
            entries = list(self._events.items())
            ready = _core._poll(entries, 0.0)
            if ready or seconds == 0:
                # Who polls what is ready all the time lets others run, too.
                _yield()
            left = None if deadline is None else max(deadline - monotonic(), 0.0)
            return _core._poll(entries, left)
        finally:
            self._polling = False


def poll() -> _Polling:
    """A set of descriptors to wait for, empty at first; see the standard `select.poll`."""
    polling: _Polling = object.__new__(_Polling)
    polling._events = {}
    polling._polling = False
    return polling


def _mask(events: int) -> int:
    events = events.__index__()
    if events < 0:
        raise ValueError("value must be positive")
    if events > 0xFFFF:
        raise OverflowError("Python int too large for C unsigned short")
    return events


class epoll:  # noqa: N801 -- the standard name
    """An epoll object whose `poll` blocks the calling greenlet only; see the standard
    `select.epoll`."""

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._epoll = _native_epoll(sizehint, flags)

    @classmethod
    def fromfd(cls, fd: int, /) -> epoll:
        """An epoll object for a descriptor of one."""
        self = cls.__new__(cls)
        self._epoll = _native_epoll.fromfd(fd)
        return self

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._epoll.closed

    def close(self) -> None:
        """Close the descriptor."""
        if not self._epoll.closed:
            _core._forget_fd(self._epoll.fileno())
        self._epoll.close()

    def fileno(self) -> int:
        """The descriptor."""
        return self._epoll.fileno()

    def register(
        self,
        fd: _FileDescriptorLike,
        eventmask: int = __select__.EPOLLIN | __select__.EPOLLPRI | __select__.EPOLLOUT,
    ) -> None:
        """Add a descriptor. OSError if it is in already."""
        self._epoll.register(fd, eventmask)

    def modify(self, fd: _FileDescriptorLike, eventmask: int) -> None:
        """Change what a descriptor is waited for."""
        self._epoll.modify(fd, eventmask)

    def unregister(self, fd: _FileDescriptorLike) -> None:
        """Take a descriptor out."""
        self._epoll.unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait for up to `timeout` seconds (None or negative: for as long as it takes). Return
        up to `maxevents` `(fd, event)` of the descriptors that are ready."""
        if timeout is not None:
            timeout = _number(timeout, "timeout must be an integer or None")
            if timeout * 1000 > _INT_MAX:
                raise OverflowError("timeout is too large")
            if timeout < 0:
                timeout = None
        deadline = None if timeout is None else monotonic() + timeout
        waited = False
        while True:
            ready = self._epoll.poll(0, maxevents)
            if ready or timeout == 0:
                if not waited:
                    _yield()
                return ready
            left = None if deadline is None else max(deadline - monotonic(), 0.0)
            if not _core._wait_fd(self._epoll.fileno(), 1, left):
                timeout = 0
            waited = True

    def __enter__(self) -> epoll:
        if self._epoll.closed:
            raise ValueError("I/O operation on closed epoll object")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

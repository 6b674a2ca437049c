"""Selectors that block one greenlet only: the classes of the standard :mod:`selectors` module, on
the functions of `greenloop.select`. (As gevent.selectors.)
"""

from __future__ import annotations

import errno
import selectors as __selectors__
from selectors import (
    EVENT_READ,
    EVENT_WRITE,
    BaseSelector,
    SelectorKey,
)
from typing import Any

from greenloop.select import epoll, poll, select

#: Names that replace those of the standard module when it is patched.
__implements__ = ["DefaultSelector", "EpollSelector", "PollSelector", "SelectSelector"]

__extra__ = ["GeventSelector"]

__all__ = [
    "EVENT_READ",
    "EVENT_WRITE",
    "BaseSelector",
    "DefaultSelector",
    "EpollSelector",
    "GeventSelector",
    "PollSelector",
    "SelectSelector",
    "SelectorKey",
]

#: Names taken over from the standard module as they are.
__imports__ = [
    name
    for name in dir(__selectors__)
    if not name.startswith("__") and name not in (*__implements__, "select")
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__selectors__, _name))
del _name


class SelectSelector(__selectors__.SelectSelector):
    """A selector on `greenloop.select.select`."""

    _select = staticmethod(select)


class PollSelector(__selectors__.PollSelector):
    """A selector on `greenloop.select.poll`."""

    _selector_cls = staticmethod(poll)


class InvalidDescriptorError(ValueError, OSError):
    """What is to be registered has no open descriptor: a ValueError as documented, and the OSError
    that the standard selector raises."""


class EpollSelector(__selectors__.EpollSelector):
    """A selector on `greenloop.select.epoll`: the default.

    hub: taken for compatibility; a selector waits in the hub of the thread that calls it.
    """

    _selector_cls = epoll

    def __init__(self, hub: Any = None) -> None:
        super().__init__()

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Add a file object, or a descriptor, to be watched.

        events: EVENT_READ, EVENT_WRITE, or both.
        data: anything, to be found in the key.

        Raises ValueError for wrong events and for what has no open descriptor, KeyError for what is
        registered, PermissionError for what cannot be watched (a file on disk).
        """
        try:
            return super().register(fileobj, events, data)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EINVAL):
                message = f"Invalid file descriptor: {error.strerror}"
                raise InvalidDescriptorError(error.errno, message) from error
            raise


GeventSelector = DefaultSelector = EpollSelector

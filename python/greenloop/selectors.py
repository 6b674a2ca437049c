"""Selectors that block one greenlet only: the classes of the standard :mod:`selectors` module, on
the functions of `greenloop.select`. (As gevent.selectors.)
"""

from __future__ import annotations

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


class SelectSelector(__selectors__.SelectSelector):
    """A selector on `greenloop.select.select`."""

    _select = staticmethod(select)


class PollSelector(__selectors__.PollSelector):
    """A selector on `greenloop.select.poll`."""

    _selector_cls = poll


class EpollSelector(__selectors__.EpollSelector):
    """A selector on `greenloop.select.epoll`."""

    _selector_cls = epoll


class GeventSelector(EpollSelector):
    """The default selector.

    hub: taken for compatibility; a selector waits in the hub of the thread that calls it.
    """

    def __init__(self, hub: Any = None) -> None:
        super().__init__()


DefaultSelector = GeventSelector

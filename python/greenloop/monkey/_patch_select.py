"""`select` and `selectors`."""

from __future__ import annotations

import select as stdlib_select
import selectors as stdlib_selectors

from greenloop import select as green_select
from greenloop import selectors as green_selectors
from greenloop.monkey._aliases import patch_everywhere
from greenloop.monkey._announce import vetoable
from greenloop.monkey._items import remove_item


@vetoable
def patch_select(aggressive: bool = True) -> None:
    """Replace `select.select`, `select.poll` and `select.epoll` by cooperative ones.

    aggressive: delete from `select` what can only block the native thread. There is nothing of
        that kind on Linux.
    """
    patch_everywhere(stdlib_select, green_select)
    if aggressive:
        for name in ("kqueue", "kevent", "devpoll"):
            remove_item(stdlib_select, name)


@vetoable
def patch_selectors(aggressive: bool = True) -> None:
    """Replace the classes of `selectors` by cooperative ones.

    aggressive: delete from `selectors` what can only block the native thread. There is nothing of
        that kind on Linux.
    """
    patch_everywhere(stdlib_selectors, green_selectors)
    if aggressive:
        for name in ("KqueueSelector", "DevpollSelector"):
            remove_item(stdlib_selectors, name)

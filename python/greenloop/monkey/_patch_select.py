"""`select` and `selectors`."""

from __future__ import annotations

import select as stdlib_select
import selectors as stdlib_selectors

from greenloop import select as green_select
from greenloop import selectors as green_selectors
from greenloop.monkey._aliases import replace_aliases
from greenloop.monkey._items import patch_module, remove_item


def patch_select(aggressive: bool = True) -> None:
    """Replace `select.select`, `select.poll` and `select.epoll` by cooperative ones.

    aggressive: delete from `select` what can only block the native thread. There is nothing of
        that kind on Linux.
    """
    replace_aliases(
        stdlib_select, {name: getattr(green_select, name) for name in green_select.__implements__}
    )
    patch_module(stdlib_select, green_select)
    if aggressive:
        for name in ("kqueue", "kevent", "devpoll"):
            remove_item(stdlib_select, name)


def patch_selectors(aggressive: bool = True) -> None:
    """Replace the classes of `selectors` by cooperative ones.

    aggressive: delete from `selectors` what can only block the native thread. There is nothing of
        that kind on Linux.
    """
    replace_aliases(
        stdlib_selectors,
        {name: getattr(green_selectors, name) for name in green_selectors.__implements__},
    )
    patch_module(stdlib_selectors, green_selectors)
    if aggressive:
        for name in ("KqueueSelector", "DevpollSelector"):
            remove_item(stdlib_selectors, name)

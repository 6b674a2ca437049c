"""Making the standard library cooperative. (As gevent.monkey.)

Best as the first thing that a program does::

    from greenloop import monkey

    monkey.patch_all()

Or from outside, for a program that knows nothing of greenlets::

    python -m greenloop.monkey program.py

Standard modules keep their names and classes. What blocks the native thread in them is replaced
by what parks the greenlet, so that programs and libraries written with them run concurrently,
unmodified. `patch_all` does everything; the other functions are for those who want a part of it.

Patching twice is harmless, and patching late works as far as possible: names of the standard
library that other standard modules have imported already are replaced there as well, TLS contexts
that exist make cooperative sockets, locks, locals and queues that nobody uses are replaced.
What stays is the program's own: a name that it imported (`from time import sleep`), a class that
it derived from one that is replaced, sockets that are open, threads that run.
"""

from __future__ import annotations

from greenloop.monkey._items import (
    MonkeyPatchWarning,
    patch_item,
    patch_module,
    remove_item,
)
from greenloop.monkey._patch_all import patch_all
from greenloop.monkey._patch_os import (
    patch_builtins,
    patch_contextvars,
    patch_os,
    patch_signal,
    patch_subprocess,
    patch_sys,
)
from greenloop.monkey._patch_queue import patch_queue
from greenloop.monkey._patch_select import patch_select, patch_selectors
from greenloop.monkey._patch_socket import patch_dns, patch_socket
from greenloop.monkey._patch_ssl import patch_ssl
from greenloop.monkey._patch_thread import patch_thread
from greenloop.monkey._patch_time import patch_time
from greenloop.monkey._state import (
    get_original,
    is_anything_patched,
    is_module_patched,
    is_object_patched,
    saved,
)

__all__ = [
    "MonkeyPatchWarning",
    "get_original",
    "is_anything_patched",
    "is_module_patched",
    "is_object_patched",
    "main",
    "patch_all",
    "patch_builtins",
    "patch_contextvars",
    "patch_dns",
    "patch_item",
    "patch_module",
    "patch_os",
    "patch_queue",
    "patch_select",
    "patch_selectors",
    "patch_signal",
    "patch_socket",
    "patch_ssl",
    "patch_subprocess",
    "patch_sys",
    "patch_thread",
    "patch_time",
    "remove_item",
    "saved",
]


def main(argv: list[str] | None = None) -> int:
    """Run the command line of `python -m greenloop.monkey`.

    argv: the words after that; None for those of sys.argv.

    Returns the exit status. What the program raises is left to propagate.
    """
    # Needs modules that take longer to import than all that patching needs.
    from greenloop.monkey._main import main

    return main(argv)

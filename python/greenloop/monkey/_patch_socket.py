"""`socket`, and the host name functions in it."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Iterable

from greenloop import socket as green_socket
from greenloop.monkey._aliases import patch_everywhere
from greenloop.monkey._announce import vetoable
from greenloop.monkey._connections import patch_connections
from greenloop.monkey._when_imported import when_imported


@vetoable
def patch_socket(dns: bool = True, aggressive: bool = True) -> None:
    """Replace the socket class, and the functions that make sockets, by cooperative ones.

    Sockets that exist already still block the native thread, except that those they accept do
    not. So do classes that the program has derived from the original class.

    Connections between processes made by `multiprocessing` wait cooperatively too: their
    descriptors may come from sockets.

    dns: replace the functions that look up host names too.
    aggressive: taken for compatibility.
    """
    _patch(green_socket.__implements__ if dns else _NOT_DNS)
    when_imported("multiprocessing.connection", patch_connections)


@vetoable
def patch_dns() -> None:
    """Replace the functions of `socket` that look up host names by cooperative ones."""
    _patch(green_socket.__dns__)


_NOT_DNS = [name for name in green_socket.__implements__ if name not in green_socket.__dns__]


def _patch(names: Iterable[str]) -> None:
    existing = [name for name in names if hasattr(stdlib_socket, name)]
    patch_everywhere(stdlib_socket, green_socket, existing)

"""`multiprocessing.connection`, whose connections read and write descriptors by system calls."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from greenloop import _core

_READ = 1
_WRITE = 2

_native_read = os.read
_native_write = os.write


def _read(fd: int, size: int) -> bytes:
    """As os.read, for a pipe or socket, blocking or not: parks the greenlet until there is data."""
    while True:
        _core._wait_fd(fd, _READ)
        try:
            return _native_read(fd, size)
        except BlockingIOError:
            # Somebody else took it.
            continue


def _write(fd: int, data: Any) -> int:
    """As os.write, for a pipe or socket: parks the greenlet until there is room for something.

    No more is written than fits in a pipe that is ready: a blocking one would wait for the rest.
    """
    while True:
        _core._wait_fd(fd, _WRITE)
        try:
            return _native_write(fd, memoryview(data)[:_PIPE_BUF])
        except BlockingIOError:
            continue


# POSIX: that much fits in a pipe that is ready for writing.
_PIPE_BUF = 4096


def patch_connections(module: ModuleType) -> None:
    """Let greenlets run while a connection to another process waits."""
    connection: Any = vars(module)["Connection"]
    # The functions to read and write with are default arguments.
    connection._send.__defaults__ = (_write,)
    connection._recv.__defaults__ = (_read,)

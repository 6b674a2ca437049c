"""`multiprocessing.connection`, whose connections read and write descriptors by system calls."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from greenloop import _core


def patch_connections(module: ModuleType) -> None:
    """Let greenlets run while a connection to another process waits."""
    connection: Any = vars(module)["Connection"]
    # The functions to read and write with are default arguments.
    connection._send.__defaults__ = (_core._write_stream,)
    connection._recv.__defaults__ = (_core._read_stream,)

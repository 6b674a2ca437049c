"""`os`, `signal`, `subprocess`, and modules in which there is nothing to replace."""

from __future__ import annotations

import os as stdlib_os

from greenloop import os as green_os
from greenloop.monkey._items import patch_module


def patch_os() -> None:
    """Replace `os.fork`, `os.forkpty` and `os.waitpid` by those of `greenloop.os`.

    Forking works without this as well.
    """
    patch_module(stdlib_os, green_os)


def patch_signal() -> None:
    """Do nothing: handlers set with `signal.signal` are called, whatever the hub waits for."""


def patch_subprocess() -> None:
    """Do nothing: `subprocess` is built from what other functions here replace: `os.waitpid`,
    `selectors`, `threading` and `time`."""


def patch_builtins() -> None:
    """Do nothing: `__import__` needs no replacement. (Import locks are cooperative.)"""


def patch_contextvars() -> None:
    """Do nothing: context variables belong to greenlets in any case."""


def patch_sys(stdin: bool = True, stdout: bool = True, stderr: bool = True) -> None:
    """Do nothing: the standard streams stay blocking.

    stdin, stdout, stderr: taken for compatibility.
    """

"""`os`, `signal`, `subprocess`, and modules in which there is nothing to replace."""

from __future__ import annotations

import os as stdlib_os

from greenloop import os as green_os
from greenloop.monkey._items import patch_module


def patch_os() -> None:
    """Replace `os.fork` and `os.forkpty` by those of `greenloop.os`.

    Forking works without this as well. `os.waitpid` blocks the native thread.
    """
    patch_module(stdlib_os, green_os, ["fork", "forkpty"])


def patch_signal() -> None:
    """Do nothing: handlers set with `signal.signal` are called, whatever the hub waits for."""


def patch_subprocess() -> None:
    """Do nothing: `subprocess` is built from what other functions here replace.

    `Popen.communicate` and waiting with a timeout let other greenlets run; `Popen.wait` without
    one blocks the native thread until the child ends.
    """


def patch_builtins() -> None:
    """Do nothing: `__import__` needs no replacement. (Import locks are cooperative.)"""


def patch_contextvars() -> None:
    """Do nothing: context variables belong to greenlets in any case."""


def patch_sys(stdin: bool = True, stdout: bool = True, stderr: bool = True) -> None:
    """Do nothing: the standard streams stay blocking.

    stdin, stdout, stderr: taken for compatibility.
    """

"""`os`, `signal`, `subprocess`, and modules in which there is nothing to replace."""

from __future__ import annotations

import os as stdlib_os
import signal as stdlib_signal
import sys
from types import ModuleType

from greenloop import os as green_os
from greenloop import signal as green_signal
from greenloop.monkey._items import patch_item, patch_module
from greenloop.monkey._when_imported import when_imported


def patch_os() -> None:
    """Replace `os.close`, and what forks and waits for children, by that of `greenloop.os`.

    Forking works without this as well.
    """
    patch_module(stdlib_os, green_os)


def patch_signal() -> None:
    """Replace `signal.signal`, `getsignal`, `pthread_sigmask` and `raise_signal` by those of
    `greenloop.signal`.

    Handlers are called without this as well, whatever the hub waits for. With it their exceptions
    are raised in the main greenlet where they would end another one, and a thread that blocks
    signals does not keep them from the others.
    """
    patch_module(stdlib_signal, green_signal)


def patch_subprocess() -> None:
    """Replace `subprocess.Popen` by that of `greenloop.subprocess`, whose pipes are cooperative
    too, and the semaphores that the locks of `multiprocessing` are made of.

    Everything else in `subprocess` is built from `Popen`, which is built from what other functions
    here replace.
    """
    # Not at the top: programs that patch nothing of it need not import it.
    import subprocess as stdlib_subprocess

    from greenloop import subprocess as green_subprocess

    patch_module(stdlib_subprocess, green_subprocess, ["Popen"])
    when_imported("multiprocessing.synchronize", _patch_process_locks)


def _patch_process_locks(module: ModuleType) -> None:
    from greenloop.monkey._process_locks import patch_process_locks

    patch_process_locks(module)


def patch_builtins() -> None:
    """Do nothing: `__import__` needs no replacement. (Import locks are cooperative.)"""


def patch_contextvars() -> None:
    """Do nothing: context variables belong to greenlets in any case."""


def patch_sys(stdin: bool = True, stdout: bool = True, stderr: bool = True) -> None:
    """Replace standard streams by such that let other greenlets run while they wait: for input
    from a terminal or pipe, and for whoever reads a pipe that output goes to.

    stdin, stdout, stderr: whether to replace the one of that name.

    A stream is left alone if it is none of the interpreter's own. The descriptors stay blocking,
    as others have them too. `input()` reads a terminal by a C library, and keeps all greenlets from
    running as before: use `sys.stdin.readline()`. What the original has read ahead is lost.
    """
    from greenloop._sys_streams import cooperative

    for name, is_wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        if is_wanted and (stream := cooperative(getattr(sys, name))) is not None:
            patch_item(sys, name, stream)

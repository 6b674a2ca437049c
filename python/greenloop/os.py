"""Forking a program that runs greenlets."""

from __future__ import annotations

import os

__all__ = ["fork", "forkpty"]

# The functions of the standard library, whatever is put in their place later.
_fork = os.fork
_forkpty = os.forkpty


def fork() -> int:
    """As os.fork: returns 0 in the child, and the child's process ID in the parent.

    The child goes on in the greenlet that called, with copies of all the others, and a hub that
    shares nothing with the parent's. (As gevent.os.fork.)
    """
    return _fork()


def forkpty() -> tuple[int, int]:
    """As os.forkpty: fork with a new pseudo-terminal; returns process ID and descriptor."""
    return _forkpty()

"""What programs for gevent read of its `gevent._compat`: which system and Python this is, and names
that were different in Python 2."""

from __future__ import annotations

import io
import sys
from _imp import acquire_lock as imp_acquire_lock
from _imp import release_lock as imp_release_lock
from os import PathLike, fsdecode, fsencode, fspath
from time import get_clock_info, monotonic, perf_counter
from types import TracebackType
from typing import Any, NoReturn

__all__ = [
    "LINUX",
    "MAC",
    "OSX",
    "PURE_PYTHON",
    "PY311",
    "PY312",
    "PY313",
    "PY314",
    "PYPY",
    "WIN",
    "NativeStrIO",
    "PathLike",
    "exc_clear",
    "fsdecode",
    "fsencode",
    "fspath",
    "get_clock_info",
    "get_this_psutil_process",
    "hostname_types",
    "imp_acquire_lock",
    "imp_release_lock",
    "integer_types",
    "iteritems",
    "itervalues",
    "izip",
    "monotonic",
    "native_path_types",
    "perf_counter",
    "reraise",
    "string_types",
    "text_type",
    "thread_mod_name",
    "xrange",
]

PYPY = False
WIN = sys.platform.startswith("win")
LINUX = sys.platform.startswith("linux")
OSX = MAC = sys.platform == "darwin"
#: Whether gevent is to use no extension modules. greenloop is one.
PURE_PYTHON = False

PY311 = True
PY312 = sys.version_info >= (3, 12)
PY313 = sys.version_info >= (3, 13)
PY314 = sys.version_info >= (3, 14)

string_types = (str,)
text_type = str
integer_types = (int,)
native_path_types = (str, bytes)
hostname_types = (str, bytes, bytearray)
thread_mod_name = "_thread"
xrange = range
izip = zip
NativeStrIO = io.StringIO

_fspath = fspath


def exc_clear() -> None:
    """Do nothing: exceptions are forgotten where they have been handled."""


def reraise(
    t: type[BaseException], value: BaseException | None, tb: TracebackType | None = None
) -> NoReturn:
    """Raise an exception with a traceback.

    t: its class, only read if there is no *value*.
    value: the exception.
    tb: the traceback; None for the one that it has.
    """
    if value is None:
        value = t()
    if tb is not None and value.__traceback__ is not tb:
        raise value.with_traceback(tb)
    raise value


def iteritems(mapping: Any) -> Any:
    """Return `mapping.items()`."""
    return mapping.items()


def itervalues(mapping: Any) -> Any:
    """Return `mapping.values()`."""
    return mapping.values()


def get_this_psutil_process() -> Any:
    """Return a `psutil.Process` of this process; None if psutil is not installed."""
    try:
        from psutil import Process
    except ImportError:
        return None
    return Process()

"""`sys.stdin`, `sys.stdout` and `sys.stderr` that let other greenlets run while they wait.

Others share the descriptors: the shell, the programs in a pipeline, child processes. They would not
expect them to be non-blocking, and fail. So they stay blocking here, and each read or write is
preceded by a look whether it has to wait; a write is made in parts that a pipe takes at once.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from greenloop._core import get_hub_if_exists
from greenloop._fileobjectcommon import WriteIsWriteallMixin
from greenloop._fileobjectposix import GreenFileDescriptorIO
from greenloop.hub import getcurrent
from greenloop.lock import RLock

#: Bytes that a pipe which is ready takes without waiting: PIPE_BUF on Linux.
_ATOMIC = 4096

_READ = 1
_WRITE = 2


def _cannot_wait() -> bool:
    """Whether nobody else could run: a thread without a hub, the hub itself, as it reports an
    error say, and the end of the interpreter."""
    if sys.is_finalizing():
        return True
    hub = get_hub_if_exists()
    return hub is None or getcurrent() is hub


class _StreamIO(GreenFileDescriptorIO):
    """The raw file of a stream, whose descriptor stays as it is."""

    makes_nonblocking = False

    def readinto(self, buffer: Any, /) -> int:
        if _cannot_wait():
            return io.FileIO.readinto(self, buffer)
        if self.is_on_disk:
            return super().readinto(buffer)
        self._check_readable()
        self._state.wait_ready(self, _READ)
        return io.FileIO.readinto(self, buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(io.DEFAULT_BUFFER_SIZE):
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, b: Any, /) -> int:
        if _cannot_wait():
            return io.FileIO.write(self, b)
        if self.is_on_disk:
            return super().write(b)
        self._check_writable()
        self._state.wait_ready(self, _WRITE)
        with memoryview(b).cast("B") as data:
            return io.FileIO.write(self, data[:_ATOMIC])


class _UnbufferedStreamIO(WriteIsWriteallMixin, _StreamIO):
    """One whose `write` writes everything."""


def _in_turn(base: type, name: str) -> Callable[..., Any]:
    """The method of a class, called by one greenlet at a time."""
    method = getattr(base, name)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        lock = self._lock
        if not lock.acquire(blocking=False):
            if _cannot_wait():
                return self._out_of_turn(name, *args)
            lock.acquire()
        try:
            return method(self, *args, **kwargs)
        finally:
            lock.release()

    return call


class _Layer:
    """A buffer or text layer of a stream: of greenlets that use it one waits for the other, which
    the standard layers leave undefined, or refuse."""

    _lock: Any
    fileno: Callable[[], int]

    def __init_subclass__(cls) -> None:
        base = cls.__mro__[2]
        names = ("read", "read1", "readinto", "readinto1", "readline", "peek", "write", "flush")
        for name in names:
            if hasattr(base, name):
                setattr(cls, name, _in_turn(base, name))

    def _out_of_turn(self, name: str, *args: Any) -> Any:
        """The method of that name, where a greenlet has its turn that cannot be waited for."""
        if name == "write":
            return self._write_at_once(*args)
        if name == "flush":
            return None
        raise BlockingIOError("another greenlet is reading")

    def _write_at_once(self, data: Any) -> int:
        with memoryview(data).cast("B") as view:
            written = 0
            while written < len(view):
                written += os.write(self.fileno(), view[written:])
            return written


class _Unbuffered(_Layer, _UnbufferedStreamIO):
    """A raw file with no buffer above it."""


class _Reader(_Layer, io.BufferedReader):
    """The buffer of an input."""


class _Writer(_Layer, io.BufferedWriter):
    """The buffer of an output."""


class _Text(_Layer, io.TextIOWrapper):
    """A text stream."""

    def _write_at_once(self, data: str) -> int:
        super()._write_at_once(data.encode(self.encoding, self.errors or "strict"))
        return len(data)


_made: WeakSet[Any] = WeakSet()


def _forget_turns() -> None:
    """After a fork, in the child: a greenlet that had its turn is not there any more."""
    for stream in list(_made):
        stream._lock = stream.buffer._lock = RLock()


os.register_at_fork(after_in_child=_forget_turns)


def cooperative(stream: Any) -> Any:
    """Return a stream that does what one of `sys` does, and lets others run while it waits.

    None if the stream has no descriptor of its own, as one that a program has put there, or is of
    this kind already. What an input has read ahead is not in the new one.
    """
    if type(stream) is not io.TextIOWrapper or stream.closed:
        return None
    # With python -u there is no buffer in between.
    is_buffered = isinstance(stream.buffer, (io.BufferedReader, io.BufferedWriter))
    raw = stream.buffer.raw if is_buffered else stream.buffer
    if type(raw) is not io.FileIO:
        return None
    stream.flush()
    is_input = raw.readable()
    kind = _StreamIO if is_buffered else _Unbuffered
    buffer: Any = kind(raw.fileno(), "r" if is_input else "w", closefd=False)
    buffer.name = raw.name
    if is_buffered:
        buffer = _Reader(buffer) if is_input else _Writer(buffer)
    text: Any = _Text.__new__(_Text)
    buffer._lock = text._lock = RLock()
    text.__init__(
        buffer,
        stream.encoding,
        stream.errors,
        "\n",
        stream.line_buffering,
        stream.write_through,
    )
    text.mode = stream.mode
    _made.add(text)
    return text

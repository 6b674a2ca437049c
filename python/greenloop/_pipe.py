"""The files at the ends of pipes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from greenloop import _core

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class PipeIO(io.FileIO):
    """A raw file on a pipe, or on anything else with a descriptor; reading and writing block the
    calling greenlet only.

    The descriptor is not made non-blocking: a child process may be given it as well. A greenlet
    that waits when the file is closed gets an OSError (EBADF).
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to *size* bytes, all until the end if it is negative or None."""
        if size is None or size < 0:
            return self.readall()
        self._check(self.readable(), "reading")
        return _core._read_stream(self.fileno(), size)

    def readall(self) -> bytes:
        """Read all until the end."""
        self._check(self.readable(), "reading")
        pieces = []
        while piece := _core._read_stream(self.fileno(), io.DEFAULT_BUFFER_SIZE):
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer; return how many bytes."""
        self._check(self.readable(), "reading")
        return _core._read_stream_into(self.fileno(), buffer)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the data; return how many bytes."""
        self._check(self.writable(), "writing")
        return _core._write_stream(self.fileno(), data)

    def close(self) -> None:
        """Close it."""
        if not self.closed and self.closefd:
            _core._forget_fd(self.fileno())
        super().close()

    @staticmethod
    def _check(may: bool, what: str) -> None:
        if not may:
            raise io.UnsupportedOperation(f"File not open for {what}")


def open_pipe(fd: int, mode: str, buffering: int = -1) -> Any:
    """As `open(fd, mode, buffering)` for a descriptor, which it takes over, in a binary mode."""
    if buffering == 1:
        # As open() says it.
        warnings.warn(
            "line buffering (buffering=1) is for text only: the usual buffer is used",
            RuntimeWarning,
            stacklevel=2,
        )
    raw = PipeIO(fd, mode)
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    return io.BufferedReader(raw, size) if raw.readable() else io.BufferedWriter(raw, size)

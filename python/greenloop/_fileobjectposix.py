"""Files that are waited for by the hub, or read and written in native threads.

What a descriptor is decides. For pipes, terminals, sockets and all else that the system can tell
the readiness of, it is made non-blocking, and the hub waits. Files on disk count as ready always:
what is in the page cache is read at once (`RWF_NOWAIT`), the rest by a thread of the hub's pool.

io_uring would save the threads, but many systems refuse it (containers, hardened kernels), and
what it is best at, many small reads at once that are not cached, is not what files of Python do.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from greenloop import _core
from greenloop._fileobjectcommon import (
    FileObjectBase,
    OpenDescriptor,
    WriteIsWriteallMixin,
    in_thread,
)
from greenloop._shield import shield
from greenloop.hub import get_hub
from greenloop.lock import RLock
from greenloop.os import make_nonblocking
from greenloop.socket import cancel_wait_ex, socket

#: Bytes that one call reads or writes of a file on disk at most. Copying them takes a fraction of
#: a millisecond, in which no other greenlet runs.
CHUNK = 1 << 20

#: The same for what is taken from the page cache, or put there, without a thread: about what takes
#: as long as handing it over to a thread does.
CHUNK_AT_ONCE = 128 << 10

_READ = 1
_WRITE = 2


class GreenFileDescriptorIO(io.FileIO):
    """A raw file that lets other greenlets run while it waits.

    file: the descriptor, or a path.
    mode: as of `io.FileIO`.
    closefd: whether to close the descriptor; if not, it is made blocking again where it has been.
    state: the state of the socket that the descriptor belongs to, if there is one.

    Raises OSError as `io.FileIO`.
    """

    #: The object that the descriptor belongs to, if it was given as an object.
    source: Any = None
    #: Whether what the hub can wait for is made non-blocking.
    makes_nonblocking = True

    def __init__(
        self,
        file: Any,
        mode: str = "r",
        closefd: bool = True,
        state: _core.SocketState | None = None,
    ) -> None:
        super().__init__(file, mode, closefd)
        self._has_made_nonblocking = False
        self._is_closing = False
        self._owns_state = state is None
        fd = self.fileno()
        # Others may wait on the same descriptor.
        self._state = _core.SocketState(fd, 0, None, is_shared=True) if state is None else state
        kind = os.fstat(fd).st_mode
        #: Whether it is a file, or block device, that is always ready.
        self.is_on_disk = stat.S_ISREG(kind) or stat.S_ISBLK(kind)
        #: Whether the file system can tell what is in the page cache.
        self._can_read_cached = True
        self._can_write_cached = True
        if self.makes_nonblocking and not self.is_on_disk:
            self._has_made_nonblocking = bool(make_nonblocking(fd))

    # --- reading

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; return how many bytes, 0 at the end of the file."""
        self._check_readable()
        if not self.is_on_disk:
            return _core._fd_readinto(self._state, self, buffer)
        with memoryview(buffer).cast("B") as view:
            count = self._read_cached(view[:CHUNK_AT_ONCE])
            if count is not None:
                return count
            data = self._read_in_thread(min(len(view), CHUNK))
            view[: len(data)] = data
            return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to *size* bytes, by one call of the system; without *size* all there is."""
        if size is None or size < 0:
            return self.readall()
        self._check_readable()
        if not self.is_on_disk:
            return _core._fd_read(self._state, self, size)
        buffer = bytearray(min(size, CHUNK_AT_ONCE))
        count = self._read_cached(buffer)
        if count is not None:
            return bytes(memoryview(buffer)[:count])
        return self._read_in_thread(min(size, CHUNK))

    def readall(self) -> bytes:
        """Read up to the end of the file."""
        self._check_readable()
        if self.is_on_disk:
            return self._read_all_in_thread()
        pieces = []
        while piece := _core._fd_read(self._state, self, CHUNK_AT_ONCE):
            pieces.append(piece)
        return b"".join(pieces)

    def _read_cached(self, buffer: Any) -> int | None:
        """Read what is in memory; None if that is not known, or nothing."""
        if self._can_read_cached:
            try:
                return os.preadv(self.fileno(), [buffer], -1, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError:
                # The file system does not know. Other errors the thread will meet again.
                self._can_read_cached = False
        return None

    # A thread goes on when the greenlet that waits for it is killed. So it does not move the
    # file's position, does not use the caller's buffer, and is not told of the descriptor where
    # that matters: reading at a position from what has got the number meanwhile does no harm.

    def _read_in_thread(self, size: int) -> bytes:
        fd = self.fileno()
        position = os.lseek(fd, 0, os.SEEK_CUR)
        data: bytes = in_thread(os.pread, fd, size, position)
        os.lseek(fd, position + len(data), os.SEEK_SET)
        return data

    def _read_all_in_thread(self) -> bytes:
        fd = self.fileno()
        position = os.lseek(fd, 0, os.SEEK_CUR)
        if self._can_read_cached and os.fstat(fd).st_size - position < CHUNK_AT_ONCE:
            pieces = []
            while piece := self.read(CHUNK_AT_ONCE):
                pieces.append(piece)
            return b"".join(pieces)
        data: bytes = in_thread(_read_from, fd, position)
        os.lseek(fd, position + len(data), os.SEEK_SET)
        return data

    # --- writing

    def write(self, b: Any, /) -> int:
        """Write bytes; return how many were written, to a file on disk all of them."""
        self._check_writable()
        if not self.is_on_disk:
            return _core._fd_write(self._state, self, b)
        with memoryview(b).cast("B") as data:
            written = 0
            while written < len(data):
                try:
                    written += self._write_some(data[written:])
                except OSError:
                    # What has been written must be told of, lest it be written again.
                    if not written:
                        raise
                    break
            return written

    def _write_some(self, data: memoryview) -> int:
        if self._can_write_cached and len(data) <= CHUNK_AT_ONCE:
            try:
                return os.pwritev(self.fileno(), [data], -1, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError:
                self._can_write_cached = False
        # Not left before the thread is through with it: the descriptor may be closed then, and
        # its number be that of another file.
        with shield():
            count: int = in_thread(os.write, self.fileno(), bytes(data[:CHUNK]))
        return count

    def truncate(self, size: int | None = None, /) -> int:
        """Resize the file to so many bytes; up to the present position by default."""
        call = super().truncate
        if not self.is_on_disk:
            return call(size)
        with shield():
            result: int = in_thread(call, size)
        return result

    # --- the rest

    def _check_readable(self) -> None:
        if not self.readable():  # raises ValueError if it is closed
            raise io.UnsupportedOperation("File not open for reading")
        if self._is_closing:
            raise cancel_wait_ex()

    def _check_writable(self) -> None:
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")

    def stop_reading(self) -> None:
        """End reading: a greenlet that waits for something to read gets an OSError, and so does
        whoever tries from now on."""
        self._is_closing = True
        self._state.cancel_waits(_READ)

    def close(self) -> None:
        """Close the file: greenlets that wait for it get an OSError."""
        if self.closed:
            return
        state = getattr(self, "_state", None)
        if state is not None:
            self._end_waits(state)
        super().close()

    def _end_waits(self, state: _core.SocketState) -> None:
        if not self._owns_state:
            # The socket ends its waits when it is closed itself.
            return
        if self.closefd:
            state.release()
            return
        state.cancel_waits(_READ | _WRITE)
        if self._has_made_nonblocking:
            try:
                os.set_blocking(self.fileno(), True)
            except OSError:
                pass  # It has been closed.


def _may_wait(path: Any) -> bool:
    """Whether opening a path may wait for something to happen."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)


def _read_from(fd: int, position: int) -> bytes:
    """Read a file from a position to its end."""
    size = max(os.fstat(fd).st_size - position, 0) + 1
    pieces = []
    while piece := os.pread(fd, size, position):
        pieces.append(piece)
        position += len(piece)
        size = max(size - len(piece), CHUNK_AT_ONCE)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class GreenFileDescriptorIOWriteall(WriteIsWriteallMixin, GreenFileDescriptorIO):
    """One whose `write` writes everything."""


class GreenOpenDescriptor(OpenDescriptor):
    """As OpenDescriptor, for files that the hub waits for. Of an object, its descriptor counts."""

    raw_class = GreenFileDescriptorIO
    raw_class_writeall = GreenFileDescriptorIOWriteall

    def opened_raw(self) -> Any:
        """Open the raw file."""
        # The hub has descriptors of its own. Made in the middle of a use of the file, they could
        # get numbers that the program believes to be the file's, and closes.
        get_hub()
        fobj = self.fobj
        if self.is_path:
            # FIFOs wait for the other end, terminals for a line. A thread for every file would
            # make the opening of most some times slower.
            if _may_wait(fobj):
                return in_thread(self._raw, fobj, True)
            return self._raw(fobj, True)
        if self.is_fd():
            return self._raw(fobj, self.closefd)
        # Closing is the object's affair.
        raw = self._raw(fobj.fileno(), False, fobj._state if isinstance(fobj, socket) else None)
        try:
            raw.name = fobj.name
        except AttributeError:
            del raw.name
        # It closes the descriptor when it is dropped.
        raw.source = fobj
        return raw

    def buffer_size(self, raw: Any) -> int:
        """As much as is read and written at once."""
        return CHUNK_AT_ONCE if raw.is_on_disk else super().buffer_size(raw)


class FileObjectPosix(FileObjectBase):
    """A file that lets other greenlets run while it waits.

    fobj: a descriptor, an object that has one, such as a socket or a file, or a path.
    mode: as of `open()`.
    buffering: the size of the buffer in bytes; 0 for none, which in text mode means that nothing
        is kept back; 1 for line buffering in text mode; negative for a suitable one.
    closefd: whether closing closes the descriptor, or object. A path demands it.
    encoding, errors, newline: as of `open()`, for text.
    bufsize, close: former names of buffering and closefd.
    atomic_write: without a buffer, have one `write` write everything given.

    A pipe, terminal or socket is made non-blocking, for everybody who shares it; it is made
    blocking again by `close` unless that closes the descriptor. Whoever makes it blocking in
    between keeps all greenlets from running. Files on disk stay as they are; the hub's thread pool
    is used for what is not in the page cache.

    Greenlets that use the same file object take turns. `close` ends the wait of one that reads by
    an OSError, and lets one that writes come to its end. Using it afterwards raises an error that
    is an OSError as well as a ValueError.

    Raises what `open()` raises.
    """

    #: The size of buffers in gevent.
    default_bufsize = io.DEFAULT_BUFFER_SIZE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        descriptor = GreenOpenDescriptor(*args, **kwargs)
        file = descriptor.opened()
        #: The raw file.
        self.fileio: GreenFileDescriptorIO = descriptor.raw
        self._lock = RLock()
        # A write to a disk is not left half-way: what of a buffer has been written would not be
        # known. Others come to their end in any case, or may take forever.
        self._is_shielded = self.fileio.is_on_disk and descriptor.can_write
        # Without a buffer nothing is shared that would need a lock, unless one call is several.
        self._is_locked = file is not self.fileio or descriptor.atomic_write
        super().__init__(file, descriptor.closefd)

    def _wrap_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        # Refers to no more than it needs: a file object that is dropped is closed at once.
        if not self._is_locked:
            return method
        return _core.Exclusive(self._lock, method, self._is_shielded)

    def _do_close(self, file: Any, closefd: bool) -> None:
        lock, raw = self._lock, self.fileio
        try:
            if not lock.acquire(blocking=False):
                raw.stop_reading()
                lock.acquire()
            try:
                with shield() if self._is_shielded else nullcontext():
                    file.close()
            finally:
                lock.release()
        finally:
            # It is closed already unless something failed, a wait for a lock or for a reader.
            raw.close()
            if raw.source is not None and closefd:
                raw.source.close()

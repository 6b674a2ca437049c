"""What the classes of `greenloop.fileobject` have in common, and those that need no hub."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from errno import EBADF
from types import TracebackType
from typing import TYPE_CHECKING, Any

from greenloop.hub import get_hub, getcurrent
from greenloop.lock import DummySemaphore, Semaphore

if TYPE_CHECKING:
    from typing import Self


class FileObjectClosed(OSError, ValueError):
    """A file object is used after it was closed.

    An OSError as gevent's, a ValueError as that of the standard files.
    """

    def __init__(self) -> None:
        super().__init__(EBADF, "Bad file descriptor (FileObject was closed)")


# --- writing everything


class WriteallMixin(io.RawIOBase):
    """A raw file that can be told to write all bytes of a buffer."""

    def writeall(self, b: Any, /) -> int:
        """Write all bytes, by as many calls of `write` as are needed. Returns how many."""
        with memoryview(b).cast("B") as data:
            written = 0
            while written < len(data):
                count = super().write(data[written:])
                if count is None:  # as raw files say that they would have to wait
                    raise BlockingIOError
                written += count
            return written


class WriteIsWriteallMixin(WriteallMixin):
    """A raw file whose `write` writes everything, as that of buffered files does."""

    def write(self, b: Any, /) -> int:
        return self.writeall(b)


class WriteallFileIO(WriteIsWriteallMixin, io.FileIO):
    """A standard raw file whose `write` writes everything."""


# --- opening


class OpenDescriptor:
    """How a file is to be opened: arguments as those of `open()`, checked as it does.

    fobj: a descriptor, a path, or a file-like object.
    mode: as of `open()`.
    buffering: the size of the buffer in bytes; 0 for none, which in text mode means that nothing
        is kept back; 1 for line buffering in text mode; negative for a suitable one.
    closefd: whether closing the file closes the descriptor, or the object. A path demands it.
    encoding, errors, newline: as of `open()`, for text.
    bufsize, close: former names of buffering and closefd.
    atomic_write: without a buffer, have one `write` write everything given.

    Raises TypeError and ValueError for arguments that do not fit.
    """

    #: The classes of raw files: what `write` writes is what the system takes, or everything.
    raw_class: Callable[..., io.RawIOBase] = io.FileIO
    raw_class_writeall: Callable[..., io.RawIOBase] = WriteallFileIO

    def __init__(
        self,
        fobj: Any,
        mode: str = "r",
        bufsize: int | None = None,
        close: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        buffering: int | None = None,
        closefd: bool | None = None,
        atomic_write: bool = False,
    ) -> None:
        if buffering is not None and bufsize is not None and buffering != bufsize:
            raise TypeError(f"Cannot specify both {buffering=} and {bufsize=}")
        if closefd is not None and close is not None and closefd != close:
            raise TypeError(f"Cannot specify both {closefd=} and {close=}")
        buffering = next((x for x in (buffering, bufsize) if x is not None), -1)
        closefd = next((x for x in (closefd, close) if x is not None), True)
        for name, value in (("encoding", encoding), ("errors", errors)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"invalid {name}: {value!r}")
        if not isinstance(buffering, int):
            raise TypeError(f"invalid buffering: {buffering!r}")
        binary = _check_mode(mode)
        if binary:
            for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
                if value is not None:
                    article = "a" if name == "newline" else "an"
                    raise ValueError(f"binary mode doesn't take {article} {name} argument")
        #: The descriptor, object, or path; the latter as text or bytes.
        self.fobj = fobj
        self.is_path = not isinstance(fobj, int) and not hasattr(fobj, "fileno")
        if self.is_path:
            self.fobj = os.fspath(fobj)
            if not closefd:
                raise ValueError("Cannot use closefd=False with file name")
        self.mode = mode
        self.binary = binary
        #: The mode for the raw file.
        self.fileio_mode = mode.replace("b", "").replace("t", "")
        self.updating = "+" in mode
        self.can_read = self.updating or "r" in mode
        self.can_write = self.updating or "r" not in mode
        self.buffering = buffering
        self.closefd = bool(closefd)
        self.encoding = encoding
        self.errors = errors
        self.newline = newline
        self.atomic_write = atomic_write

    def is_fd(self) -> bool:
        """Whether the file is given as a descriptor's number."""
        return isinstance(self.fobj, int)

    def opened(self) -> Any:
        """Open the file; return it: raw, buffered or text, as the arguments say.

        Raises what `open()` does. As there, a descriptor may have been closed then.
        """
        self.raw = raw = self.opened_raw()
        try:
            return self._wrapped(raw)
        except BaseException:
            if raw is not self.fobj:
                raw.close()
            raise

    def opened_raw(self) -> Any:
        """Open the raw file. Of an object, it is the object itself, whatever layer it is."""
        if not self.is_fd() and not self.is_path:
            return self.fobj
        return self._raw(self.fobj, self.closefd)

    def _raw(self, file: Any, closefd: bool, *args: Any) -> Any:
        # Text goes to a raw file without asking how much of it was written.
        everything = self.buffering == 0 and (self.atomic_write or not self.binary)
        kind = self.raw_class_writeall if everything else self.raw_class
        return kind(file, self.fileio_mode, closefd, *args)

    def buffer_size(self, raw: Any) -> int:
        """The bytes that the buffer of a raw file should have at least."""
        return io.DEFAULT_BUFFER_SIZE

    def _wrapped(self, raw: Any) -> Any:
        """Put the layers around a raw file, or another object, that it lacks."""
        if isinstance(raw, io.TextIOBase) or hasattr(raw, "encoding"):
            if self.binary:
                raise ValueError("Unable to perform binary IO on top of text IO stream")
            return raw
        line_buffering = False
        size = self.buffering
        if size == 1 or (size < 0 and not self.binary and raw.isatty()):
            line_buffering = True
            size = -1
        is_buffered = isinstance(raw, io.BufferedIOBase) or hasattr(raw, "read1")
        stream = raw
        if size != 0 and not is_buffered:
            if size < 0:
                size = max(self.buffer_size(raw), getattr(raw, "_blksize", 0))
            if self.updating:
                stream = io.BufferedRandom(raw, size)
            elif self.can_write:
                stream = io.BufferedWriter(raw, size)
            else:
                stream = io.BufferedReader(raw, size)
        if self.binary:
            return stream
        text = io.TextIOWrapper(
            stream,
            self.encoding,
            self.errors,
            self.newline,
            line_buffering,
            write_through=self.buffering == 0,
        )
        text.mode = self.mode  # type: ignore[misc]
        return text


def _check_mode(mode: Any) -> bool:
    """Check a mode as `open()` does; return whether it is binary."""
    if not isinstance(mode, str):
        raise TypeError(f"invalid mode: {mode!r}")
    letters = set(mode)
    if letters - set("axrwb+tU") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if "U" in letters:
        if letters & set("awx+"):
            raise ValueError("mode U cannot be combined with 'x', 'w', 'a', or '+'")
        # Gone from open() in CPython 3.11: universal newlines are the default for text.
        raise ValueError(f"invalid mode: {mode!r}")
    if letters >= {"t", "b"}:
        raise ValueError("can't have text and binary mode at once")
    count = len(letters & set("axrw"))
    if count > 1:
        raise ValueError("can't have read/write/append mode at once")
    if count == 0:
        raise ValueError("must have exactly one of read/write/append mode")
    return "b" in letters


# --- file objects


class _ClosedFile:
    """Stands for the file of a file object that has been closed."""

    closed = True

    def __init__(self, file: Any) -> None:
        try:
            self.name = file.name
        except (AttributeError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:
        if name == "name":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise FileObjectClosed

    def __repr__(self) -> str:
        return "<closed file>"


#: Methods that use the file's data or its position; what else there is only answers questions.
_LOCKED_METHODS = (
    "flush",
    "peek",
    "read",
    "read1",
    "readinto",
    "readinto1",
    "readline",
    "readlines",
    "seek",
    "tell",
    "truncate",
    "write",
    "writelines",
)


class FileObjectBase:
    """Wraps a file: its methods and attributes are the file's own, but for `close`.

    The methods that a class changes are found in the instance: only those that the file has.
    """

    #: Names of the methods that `_wrap_method` is asked to change.
    _delegate_methods: tuple[str, ...] = _LOCKED_METHODS

    _io: Any = None

    def __init__(self, file: Any, closefd: bool) -> None:
        """file: an open file. closefd: whether to close it, and not only let it go."""
        self._close = closefd
        self._io = file
        self._do_delegate_methods()

    @property
    def io(self) -> Any:
        """The file that is wrapped."""
        return self._io

    @io.setter
    def io(self, file: Any) -> None:
        self._drop_methods()
        self._io = file
        self._do_delegate_methods()

    def _do_delegate_methods(self) -> None:
        """Put the methods into the instance."""
        for name in self._delegate_methods:
            method = getattr(self._io, name, None)
            if method is not None:
                setattr(self, name, self._wrap_method(method))

    def _drop_methods(self) -> None:
        for name in self._delegate_methods:
            self.__dict__.pop(name, None)

    def _wrap_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """What is to be called in place of a method of the file."""
        return method

    def __getattr__(self, name: str) -> Any:
        return getattr(self._io, name)

    def __repr__(self) -> str:
        extra = self._extra_repr()
        return (
            f"<{type(self).__name__} at {id(self):#x} {'closed' if self.closed else ''}"
            f"_fobj={self._io!r}{extra}>"
        )

    def _extra_repr(self) -> str:
        """What a derived class adds to the representation."""
        return ""

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return bool(self._io.closed)

    def close(self) -> None:
        """Write what is buffered, and close the file. Closing again does nothing."""
        file = self._io
        if isinstance(file, _ClosedFile):
            return
        self._drop_methods()
        self._io = _ClosedFile(file)
        self._do_close(file, self._close)

    def _do_close(self, file: Any, closefd: bool) -> None:
        """Close a file, or only let it go."""
        let_go(file, closefd)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if line := self.readline():
            return line
        raise StopIteration

    next = __next__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def let_go(file: Any, closefd: bool, keep: Any = None) -> None:
    """Close a file; or write what is buffered, and close the layers that are above `keep`."""
    if closefd:
        file.close()
        return
    if file.closed:
        return
    if not hasattr(file, "detach") or file is keep:
        file.flush()
        return
    while file is not keep and hasattr(file, "detach"):
        file = file.detach()


def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Make a call in a thread of the hub's pool while others run; here where nobody may wait."""
    if sys.is_finalizing():
        return call(*args)
    hub = get_hub()
    if getcurrent() is hub:
        return call(*args)
    return hub.threadpool.apply(call, args)


class FileObjectBlock(FileObjectBase):
    """A standard file, which keeps all greenlets from running while it waits.

    Arguments are as for FileObjectPosix.
    """

    def __init__(self, fobj: Any, *args: Any, **kwargs: Any) -> None:
        descriptor = OpenDescriptor(fobj, *args, **kwargs)
        self._fobj = None if descriptor.is_fd() or descriptor.is_path else fobj
        super().__init__(descriptor.opened(), descriptor.closefd)

    def _do_close(self, file: Any, closefd: bool) -> None:
        if self._fobj is None:
            # The raw file knows whether the descriptor is its own.
            file.close()
        else:
            let_go(file, closefd, self._fobj)


class FileObjectThread(FileObjectBlock):
    """A file whose methods are called in native threads, while other greenlets run.

    It is for all files and file-like objects, and never makes a descriptor non-blocking. If the
    wait for a call is ended by a Timeout or `kill`, the thread ends the call all the same; the
    next one begins after that.

    fobj, mode, buffering, closefd, encoding, errors, newline, bufsize, close, atomic_write: as
        for FileObjectPosix.
    lock: whether calls are made one after the other; or a semaphore to hold during a call.
    threadpool: the pool; that of the hub by default.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        lock = kwargs.pop("lock", True)
        pool = kwargs.pop("threadpool", None)
        self.threadpool = get_hub().threadpool if pool is None else pool
        if isinstance(lock, bool):
            lock = Semaphore() if lock else DummySemaphore()
        if not hasattr(lock, "__enter__"):
            raise TypeError(f"Expected a Semaphore or boolean, got {type(lock)!r}")
        self.lock = lock
        super().__init__(*args, **kwargs)

    def _extra_repr(self) -> str:
        return f" threadpool={self.threadpool!r}"

    def _wrap_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        # Refers to no more than it needs: a file object that is dropped is closed at once.
        lock, pool = self.lock, self.threadpool

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return _locked_apply(lock, pool, method, args, kwargs)

        return call

    def _do_close(self, file: Any, closefd: bool) -> None:
        close = super()._do_close
        _locked_apply(self.lock, self.threadpool, close, (file, closefd), {})


def _locked_apply(
    lock: Any, pool: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a method in a thread of a pool. The lock is held for as long as that takes, also if
    the greenlet does not wait for it to the end."""
    if sys.is_finalizing() or pool._apply_immediately() or getcurrent() is pool.hub:
        with lock:
            return method(*args, **kwargs)
    lock.acquire()
    try:
        result = pool.spawn(method, *args, **kwargs)
    except BaseException:
        lock.release()
        raise
    result.rawlink(lambda _: lock.release())
    return result.get()

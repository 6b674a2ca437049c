"""Child processes: the standard :mod:`subprocess` module, blocking one greenlet only.

Everything the standard module has is here under the same name. `Popen` is a subclass of the
standard class, with its arguments and methods; waiting for the child, talking to it (`communicate`)
and its pipes (`stdin`, `stdout`, `stderr`) let other greenlets run. (As gevent.subprocess.)
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess as __subprocess__
from collections.abc import Callable
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any

from greenloop import _core
from greenloop._core import AsyncResult, Lock, sleep, spawn_raw
from greenloop._pipe import open_pipe
from greenloop.fileobject import FileObject as FileObject  # a name that gevent.subprocess has
from greenloop.os import ChildWait
from greenloop.select import POLLIN, POLLOUT, poll

if TYPE_CHECKING:
    from types import TracebackType

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


#: Names that replace those of the standard module when it is patched. (The functions of the
#: standard module use the class that they find there.)
__implements__ = [
    "Popen",
    "call",
    "check_call",
    "check_output",
    "getoutput",
    "getstatusoutput",
    "run",
]

#: Names taken over from the standard module as they are.
__imports__ = [
    name
    for name in dir(__subprocess__)
    if not name.startswith("__") and name not in __implements__ and name not in globals()
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__subprocess__, _name))
del _name

__all__ = sorted({*__subprocess__.__all__})

_PIPE = __subprocess__.PIPE
_CompletedProcess = __subprocess__.CompletedProcess
_CalledProcessError = __subprocess__.CalledProcessError
_TimeoutExpired = __subprocess__.TimeoutExpired

_Standard = __subprocess__.Popen

# As much as a pipe holds.
_CHUNK = 65536


class Popen(_Standard):  # type: ignore[type-arg]
    """A child process; what waits for it blocks the calling greenlet only.

    It has everything that the standard class has, with the same meaning. `gevent.wait()` takes it.

    A descriptor that the child is given by a file or socket object without timeout is made blocking
    again if somebody has made it non-blocking: the child would not expect that.

    threadpool: taken for compatibility.
    """

    # The child's descriptors and ours, until there are files for ours.
    _pipes: tuple[int, ...]
    _bufsize: int
    _end: AsyncResult | None = None
    _collected: dict[Any, list[bytes]]
    _unsent: memoryview

    @wraps(_Standard.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, threadpool: Any = None, **kwargs: Any) -> None:
        bufsize = args[1] if len(args) > 1 else kwargs.get("bufsize", -1)
        self._bufsize = -1 if bufsize is None else bufsize
        self._pipes = ()
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            # It did not come to files that the constructor would have closed.
            for fd in _ours(self._pipes):
                os.close(fd)
            raise

    # --- starting: hooks of the standard class's constructor

    def _get_handles(self, *streams: Any) -> tuple[int, ...]:
        """The descriptors of the child and ours, alternately; -1 where there is none."""
        for stream in streams:
            if not (stream is None or isinstance(stream, int)):
                _make_blocking(stream)
        self._pipes = handles = super()._get_handles(*streams)  # type: ignore[misc]
        # Our ends are kept back: the constructor would make files of them that block.
        return _without_ours(handles)

    def _execute_child(self, *args: Any) -> None:
        self._waitpid_lock = Lock()
        handles, self._pipes = self._pipes, ()
        _, stdin, stdout, _, stderr, _ = handles
        if stdin != -1:
            self.stdin = self._open(stdin, "wb")
        if stdout != -1:
            self.stdout = self._open(stdout, "rb")
        if stderr != -1:
            self.stderr = self._open(stderr, "rb")
        super()._execute_child(*_with_handles(args, handles))  # type: ignore[misc]

    def _open(self, fd: int, mode: str) -> Any:
        """A file for our end of a pipe."""
        size = self._bufsize
        if not self.text_mode:  # type: ignore[attr-defined]
            return open_pipe(fd, mode, size)
        by_line = size == 1
        binary = open_pipe(fd, mode, -1 if by_line else size)
        options = {"encoding": self.encoding, "errors": self.errors}  # type: ignore[attr-defined]
        if mode == "wb":
            options |= {"write_through": True, "line_buffering": by_line}
        return io.TextIOWrapper(binary, **options)

    # --- waiting

    def _wait(self, timeout: float | None) -> int | None:
        deadline = None if timeout is None else monotonic() + timeout
        with ChildWait(self.pid) as child:
            while not self._look():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise _TimeoutExpired(self.args, timeout)  # type: ignore[arg-type]
                child.wait(left)
        return self.returncode

    def _look(self) -> bool:
        """Whether the child has ended."""
        with self._waitpid_lock:
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)  # type: ignore[attr-defined]
                if pid == self.pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode is not None

    def rawlink(self, callback: Callable[[Popen], object]) -> None:
        """Have the hub call `callback(self)` once the child has ended."""
        if self._end is None:
            self._end = AsyncResult()
            spawn_raw(self._tell_end, self._end)
        self._end.rawlink(_Link(self, callback))

    def unlink(self, callback: Callable[[Popen], object]) -> None:
        """Take a callback back that was given to `rawlink`."""
        if self._end is not None:
            self._end.unlink(_Link(self, callback))

    def _tell_end(self, end: AsyncResult) -> None:
        end.set(self._wait(None))

    # --- talking

    def _communicate(
        self, input: Any, endtime: float | None, orig_timeout: float | None
    ) -> tuple[Any, Any]:
        outputs = [file for file in (self.stdout, self.stderr) if file is not None]
        if not self._communication_started:  # type: ignore[attr-defined]
            self._collected = {file: [] for file in outputs}
            self._unsent = self._encoded(input)
            if self.stdin is not None:
                # There may be something in its buffer.
                with contextlib.suppress(BrokenPipeError):
                    self.stdin.flush()
                    if not self._unsent:
                        self.stdin.close()
        files = {file.fileno(): file for file in outputs if not file.closed}
        waiting = poll()
        for fd in files:
            waiting.register(fd, POLLIN)
        if self.stdin is not None and not self.stdin.closed and self._unsent:
            files[self.stdin.fileno()] = self.stdin
            waiting.register(self.stdin, POLLOUT)
        while files:
            left = None if endtime is None else max(endtime - monotonic(), 0.0)
            ready = waiting.poll(None if left is None else left * 1000)
            if not ready and left is not None and endtime is not None and monotonic() >= endtime:
                raise _TimeoutExpired(
                    self.args,
                    orig_timeout,  # type: ignore[arg-type]
                    output=self._so_far(self.stdout),
                    stderr=self._so_far(self.stderr),
                )
            for fd, _ in ready:
                file = files[fd]
                if not (self._send(fd) if file is self.stdin else self._receive(fd, file)):
                    waiting.unregister(fd)
                    del files[fd]
                    with contextlib.suppress(BrokenPipeError):
                        file.close()
        self.wait(timeout=None if endtime is None else max(endtime - monotonic(), 0.0))
        return self._output(self.stdout), self._output(self.stderr)

    def _encoded(self, input: Any) -> memoryview:
        """What is to be sent, as bytes."""
        if input and self.text_mode:  # type: ignore[attr-defined]
            stdin: Any = self.stdin
            input = input.encode(stdin.encoding, stdin.errors)
        return memoryview(input or b"").cast("B")

    def _send(self, fd: int) -> bool:
        """Send some input; return whether there is more."""
        try:
            count = _core._write_stream(fd, self._unsent[:_CHUNK])
        except BrokenPipeError:
            return False
        self._unsent = self._unsent[count:]
        return bool(self._unsent)

    def _receive(self, fd: int, file: Any) -> bool:
        """Receive some output; return whether there may be more."""
        piece = _core._read_stream(fd, _CHUNK)
        self._collected[file].append(piece)
        return bool(piece)

    def _so_far(self, file: Any) -> bytes | None:
        return b"".join(self._collected.get(file, ())) or None

    def _output(self, file: Any) -> Any:
        if file is None:
            return None
        data = b"".join(self._collected[file])
        if not self.text_mode:  # type: ignore[attr-defined]
            return data
        return data.decode(file.encoding, file.errors).replace("\r\n", "\n").replace("\r", "\n")

    # --- the end of a with statement

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for file in (self.stdout, self.stderr, self.stdin):
                if file is not None:
                    _close(file)
        finally:
            super().__exit__(kind, value, traceback)


class _Link:
    """A callback that is given the process in place of the result it is linked to. Two for the same
    callback are equal, for the sake of `unlink`."""

    __slots__ = ("callback", "process")

    def __init__(self, process: Popen, callback: Callable[[Popen], object]) -> None:
        self.process = process
        self.callback = callback

    def __call__(self, _: object) -> None:
        self.callback(self.process)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Link) and self.callback == other.callback

    def __hash__(self) -> int:
        return hash(self.callback)


def _without_ours(handles: tuple[int, ...]) -> tuple[int, ...]:
    """Of a child's descriptors and ours for its three streams, the child's."""
    stdin, _, _, stdout, _, stderr = handles
    return stdin, -1, -1, stdout, -1, stderr


def _ours(handles: tuple[int, ...]) -> list[int]:
    """Of a child's descriptors and ours for its three streams, ours."""
    return [handles[at] for at in (1, 2, 4) if handles and handles[at] != -1]


def _with_handles(args: tuple[Any, ...], handles: tuple[int, ...]) -> tuple[Any, ...]:
    """Arguments of the standard `_execute_child` with our descriptors again, which CPython 3.11 to
    3.15 expects together, but not all in one place."""
    part = _without_ours(handles)
    for at in range(len(args) - len(part) + 1):
        if args[at : at + len(part)] == part:
            return args[:at] + handles + args[at + len(part) :]
    raise RuntimeError("this version of CPython starts processes in a way that is not known")


def _make_blocking(stream: Any) -> None:
    timeout = getattr(stream, "gettimeout", None)
    if timeout is None or timeout() is None:
        os.set_blocking(stream.fileno(), True)


def _close(file: Any) -> None:
    """Close our end of a pipe. A greenlet that waits in it is told so."""
    try:
        file.close()
    except RuntimeError:
        # That greenlet is within the buffer, which closes once it has left.
        buffer = getattr(file, "buffer", file)
        getattr(buffer, "raw", buffer).close()
        sleep(0)


# --- functions, which use the class above whether or not the standard module is patched


def call(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> int:
    """Run a program and wait for it; return its exit status.

    popenargs, kwargs: as for Popen.
    timeout: seconds that it may take; then it is killed and TimeoutExpired raised.
    """
    with Popen(*popenargs, **kwargs) as process:
        try:
            status: int = process.wait(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return status


def check_call(*popenargs: Any, **kwargs: Any) -> int:
    """As `call`, but raise CalledProcessError if the exit status is not 0."""
    status = call(*popenargs, **kwargs)
    if status:
        command = kwargs.get("args")
        raise _CalledProcessError(status, popenargs[0] if command is None else command)
    return 0


def check_output(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    """Run a program and return what it writes to its standard output.

    popenargs, kwargs: as for Popen.
    timeout: seconds that it may take; then it is killed and TimeoutExpired raised.
    input (in kwargs): what to send to its standard input.

    Raises CalledProcessError, which has the output, if the exit status is not 0; ValueError for the
    argument *stdout*.
    """
    for name in ("stdout", "check"):
        if name in kwargs:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in kwargs and kwargs["input"] is None:
        # No input is the end of input, not that of this process.
        text = any(
            kwargs.get(name) for name in ("universal_newlines", "text", "encoding", "errors")
        )
        kwargs["input"] = "" if text else b""
    return run(*popenargs, stdout=_PIPE, timeout=timeout, check=True, **kwargs).stdout


def run(
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> __subprocess__.CompletedProcess[Any]:
    """Run a program and return a CompletedProcess.

    popenargs, kwargs: as for Popen.
    input: what to send to its standard input.
    capture_output: have its standard output and standard error in the result.
    timeout: seconds that it may take; then it is killed and TimeoutExpired raised, which has the
        output up to then.
    check: raise CalledProcessError, which has the output, if the exit status is not 0.
    """
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = _PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = _PIPE
    with Popen(*popenargs, **kwargs) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            # The end of the with statement waits for it.
            raise
        status = process.poll()
    if check and status:
        raise _CalledProcessError(status, process.args, output=stdout, stderr=stderr)
    return _CompletedProcess(process.args, status, stdout, stderr)


def getstatusoutput(
    cmd: Any, *, encoding: str | None = None, errors: str | None = None
) -> tuple[int, str]:
    """Run a command in a shell; return its exit status and its output as text, standard error
    included, without the newline at the end.

    cmd: the command.
    encoding, errors: how to decode the output.
    """
    done = run(
        cmd,
        shell=True,
        text=True,
        stdout=_PIPE,
        stderr=__subprocess__.STDOUT,
        encoding=encoding,
        errors=errors,
    )
    return done.returncode, done.stdout.removesuffix("\n")


def getoutput(cmd: Any, *, encoding: str | None = None, errors: str | None = None) -> str:
    """As `getstatusoutput`, but return the output only."""
    return getstatusoutput(cmd, encoding=encoding, errors=errors)[1]

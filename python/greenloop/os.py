"""The standard module :mod:`os`, with what waits made cooperative: forking, waiting for child
processes, reading and writing of descriptors that may block. (As gevent.os.)
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from greenloop import _core
from greenloop._core import get_hub_if_exists, sleep
from greenloop.core import READ, WRITE
from greenloop.hub import get_hub

if TYPE_CHECKING:
    from typing import TypeAlias

    Buffer: TypeAlias = bytes | bytearray | memoryview

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


_T = TypeVar("_T")

#: Names that replace those of the standard module when it is patched.
__implements__ = ["close", "fork", "forkpty", "wait", "wait3", "wait4", "waitid", "waitpid"]
__extensions__ = [
    "fork_and_watch",
    "fork_gevent",
    "forkpty_and_watch",
    "forkpty_gevent",
    "make_nonblocking",
    "nb_read",
    "nb_write",
    "tp_read",
    "tp_write",
]

#: Names taken over from the standard module as they are.
__imports__ = [
    name
    for name in dir(os)
    if not name.startswith("__") and name not in __implements__ and name not in globals()
]

for _name in __imports__:
    globals().setdefault(_name, getattr(os, _name))
del _name

__all__ = sorted({*os.__all__, *__implements__, *__extensions__})

# The functions of the standard library, whatever is put in their place later.
_close = os.close
_fork = os.fork
_forkpty = os.forkpty
_pidfd_open = os.pidfd_open
_wait4 = os.wait4
_waitid = os.waitid
_waitpid = os.waitpid
_read = os.read
_write = os.write

# --- descriptors


def close(fd: int) -> None:
    """As os.close. Greenlets of this thread that wait for the descriptor get an OSError (EBADF)."""
    _core._forget_fd(fd)
    _close(fd)


def make_nonblocking(fd: int) -> bool | None:
    """Make a descriptor non-blocking, as `nb_read` and `nb_write` need it.

    Returns True if it was blocking before, None otherwise. Raises OSError for what is none.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL, 0)
    if flags & os.O_NONBLOCK:
        return None
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    return True


def _retry(fd: int, events: int, call: Callable[..., Any], argument: Any) -> Any:
    """Make a call on a non-blocking descriptor, again whenever it would have had to wait."""
    watcher = None
    try:
        while True:
            try:
                return call(fd, argument)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    raise
            hub = get_hub()
            if watcher is None:
                watcher = hub.loop.io(fd, events)
            hub.wait(watcher)
    finally:
        if watcher is not None:
            watcher.close()


def nb_read(fd: int, n: int) -> bytes:
    """Read up to *n* bytes from a non-blocking descriptor; others run until there are some.

    Returns an empty string at the end of the file. Raises OSError as `os.read`.
    """
    result: bytes = _retry(fd, READ, _read, n)
    return result


def nb_write(fd: int, buf: Buffer) -> int:
    """Write bytes to a non-blocking descriptor; others run until there is room for some.

    Returns how many were written, which may be less than all. Raises OSError as `os.write`.
    """
    count: int = _retry(fd, WRITE, _write, buf)
    return count


def tp_read(fd: int, n: int) -> bytes:
    """Read up to *n* bytes from a descriptor of any kind, in a native thread of the hub's pool."""
    result: bytes = get_hub().threadpool.apply(_read, (fd, n))
    return result


def tp_write(fd: int, buf: Buffer) -> int:
    """Write bytes to a descriptor of any kind, in a native thread of the hub's pool. Returns how
    many were written."""
    count: int = get_hub().threadpool.apply(_write, (fd, buf))
    return count


# --- child processes


def fork() -> int:
    """As os.fork: returns 0 in the child, and the child's process ID in the parent.

    The child goes on in the greenlet that called, with a hub that shares nothing with the parent's.
    Other greenlets are left behind, as threads are: they go on in the parent only.
    """
    return _fork()


def forkpty() -> tuple[int, int]:
    """As os.forkpty: fork with a new pseudo-terminal; returns process ID and descriptor."""
    return _forkpty()


#: fork() and forkpty() make the child's hub anew in any case.
fork_gevent = fork
forkpty_gevent = forkpty


def fork_and_watch(
    callback: Callable[[Any], object] | None = None,
    loop: Any = None,
    ref: bool = False,
    fork: Callable[[], Any] = fork_gevent,
) -> Any:
    """Fork, and have a callback called in the parent when the child has ended.

    callback: called by the hub with the child's watcher, whose `rstatus` is as from os.waitpid().
    loop: of which loop the watcher is; that of the calling thread's hub by default.
    ref: whether that keeps the loop running.
    fork: what forks; its result, or the first part of that, is the process ID.

    Returns what *fork* does. `waitpid` of this module finds the child's status once more.
    """
    result = fork()
    pid = result[0] if isinstance(result, tuple) else result
    if pid and callback is not None:
        watcher = (get_hub().loop if loop is None else loop).child(pid, ref=ref)
        _watched[pid] = None
        watcher.start(_ended, watcher, callback)
    return result


def forkpty_and_watch(
    callback: Callable[[Any], object] | None = None,
    loop: Any = None,
    ref: bool = False,
    forkpty: Callable[[], tuple[int, int]] = forkpty_gevent,
) -> tuple[int, int]:
    """As `fork_and_watch`, with a new pseudo-terminal: returns process ID and descriptor."""
    result: tuple[int, int] = fork_and_watch(callback, loop, ref, forkpty)
    return result


#: Children that watchers look after, which take the status away from the system: process ID to
#: what waitpid is to return, or None for those that run.
_watched: dict[int, tuple[int, int] | None] = {}
os.register_at_fork(after_in_child=_watched.clear)


def _ended(watcher: Any, callback: Callable[[Any], object]) -> None:
    watcher.stop()
    _watched[watcher.pid] = watcher.rpid, watcher.rstatus
    try:
        callback(watcher)
    finally:
        watcher.close()


class ChildWait:
    """Waits for something to happen to child processes, as often as it takes.

    A single child's end is told by a descriptor. No descriptor tells of other things, and a signal
    is for the main thread: for these it pauses, for longer and longer.

    pid: the child whose end is of interest; None for anything else.
    """

    __slots__ = ("_delay", "_descriptor", "_pid")

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._descriptor = -1
        self._delay = 0.0005

    def __enter__(self) -> ChildWait:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._descriptor != -1:
            _core._forget_fd(self._descriptor)
            _close(self._descriptor)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is time to look, *timeout* seconds at most (None for no limit)."""
        if self._descriptor == -1 and self._pid is not None:
            try:
                self._descriptor = _pidfd_open(self._pid)
            except OSError:
                # There is none in old kernels and sandboxes, or too many are open; or the child has
                # just been waited for, as the next look tells.
                self._pid = None
        if self._descriptor != -1:
            _core._wait_fd(self._descriptor, READ, timeout)
            return
        sleep(self._delay if timeout is None else min(self._delay, timeout))
        self._delay = min(2 * self._delay, 0.05)


def _wait(look: Callable[[], _T | None], pid: int | None) -> _T:
    """Look at child processes until there is something to tell."""
    with ChildWait(pid) as child:
        while True:
            result = look()
            if result is not None:
                return result
            child.wait()


def _is_alone() -> bool:
    """Whether nobody else could run in this thread."""
    return get_hub_if_exists() is None and not _watched


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    """As os.waitpid: wait for a child process; other greenlets run meanwhile.

    pid: the child's process ID; -1 for any child, 0 for any of this process' group, another
        negative number for any of that group.
    options: os.WNOHANG not to wait; os.WUNTRACED, os.WCONTINUED to be told of these as well.

    Returns process ID and status. Raises ChildProcessError if there is no such child.
    """
    if options & os.WNOHANG:
        return _look(pid, options)
    if _is_alone():
        return _waitpid(pid, options)

    def look() -> tuple[int, int] | None:
        found = _look(pid, options | os.WNOHANG)
        return found if found[0] else None

    return _wait(look, pid if pid > 0 and not options and pid not in _watched else None)


def wait() -> tuple[int, int]:
    """As os.wait: wait for any child process; other greenlets run meanwhile.

    Returns process ID and status. Raises ChildProcessError if there is none.
    """
    return waitpid(-1, 0)


def wait3(options: int) -> tuple[int, int, Any]:
    """As os.wait3: wait for any child process; other greenlets run meanwhile.

    options: as for `waitpid`.

    Returns process ID, status and what it used. Raises ChildProcessError if there is none.
    """
    return wait4(-1, options)


def wait4(pid: int, options: int) -> tuple[int, int, Any]:
    """As os.wait4: wait for a child process; other greenlets run meanwhile.

    pid, options: as for `waitpid`. Children that `fork_and_watch` looks after are not found.

    Returns process ID, status and what it used. Raises ChildProcessError if there is no such child.
    """
    if options & os.WNOHANG or _is_alone():
        return _wait4(pid, options)

    def look() -> tuple[int, int, Any] | None:
        found = _wait4(pid, options | os.WNOHANG)
        return found if found[0] else None

    return _wait(look, pid if pid > 0 and not options else None)


def waitid(idtype: int, id: int, options: int, /) -> Any:
    """As os.waitid: wait for child processes; other greenlets run meanwhile.

    idtype: os.P_PID, os.P_PGID, os.P_ALL or os.P_PIDFD: what *id* means.
    id: which child, or children.
    options: made of os.WEXITED, os.WSTOPPED, os.WCONTINUED, os.WNOHANG, os.WNOWAIT.

    Returns an `os.waitid_result`, or None with WNOHANG if there is nothing to tell. Raises
    ChildProcessError if there is no such child. Those that `fork_and_watch` looks after are not
    found.
    """
    if options & os.WNOHANG or _is_alone():
        return _waitid(idtype, id, options)
    is_end = idtype == os.P_PID and not options & (os.WSTOPPED | os.WCONTINUED)
    return _wait(lambda: _waitid(idtype, id, options | os.WNOHANG), id if is_end else None)


def _look(pid: int, options: int) -> tuple[int, int]:
    """What has become of children, without waiting."""
    if pid in _watched:
        if _watched[pid] is None:
            return 0, 0
        return _watched.pop(pid) or (0, 0)
    if pid == -1:
        for child, status in _watched.items():
            if status is not None:
                del _watched[child]
                return status
    try:
        return _waitpid(pid, options)
    except ChildProcessError:
        if pid == -1 and _watched:
            return 0, 0
        raise

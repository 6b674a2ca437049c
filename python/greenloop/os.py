"""Processes and files for greenlets. (As gevent.os.)

Reading and writing of descriptors that may block, waiting for child processes, forking.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenloop._core import get_hub_if_exists, sleep
from greenloop.core import READ, WRITE
from greenloop.hub import get_hub

if TYPE_CHECKING:
    from typing import TypeAlias

    Buffer: TypeAlias = bytes | bytearray | memoryview

__implements__ = ["fork", "forkpty", "waitpid"]
__extensions__ = [
    "fork_and_watch",
    "fork_gevent",
    "forkpty_and_watch",
    "forkpty_gevent",
    "make_nonblocking",
    "nb_read",
    "nb_write",
    "posix_spawn",
    "posix_spawnp",
    "tp_read",
    "tp_write",
]
__all__ = [*__implements__, *__extensions__]  # noqa: PLE0604

# The functions of the standard library, whatever is put in their place later.
_fork = os.fork
_forkpty = os.forkpty
_waitpid = os.waitpid
_read = os.read
_write = os.write
posix_spawn = os.posix_spawn
posix_spawnp = os.posix_spawnp

# --- descriptors


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
            except BlockingIOError:
                pass
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

    The child goes on in the greenlet that called, with copies of all the others, and a hub that
    shares nothing with the parent's.
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


def waitpid(pid: int, options: int) -> tuple[int, int]:
    """As os.waitpid: wait for a child process; other greenlets run meanwhile.

    pid: the child's process ID; -1 for any child, 0 for any of this process' group, another
        negative number for any of that group.
    options: os.WNOHANG not to wait; os.WUNTRACED, os.WCONTINUED to be told of these as well.

    Returns process ID and status. Raises ChildProcessError if there is no such child.
    """
    if get_hub_if_exists() is None and not _watched:
        # Nobody else could run in this thread.
        return _waitpid(pid, options)
    delay = 0.0005
    ends = None
    try:
        while True:
            done = _look(pid, options | os.WNOHANG)
            if done[0] or options & os.WNOHANG:
                return done
            if ends is None and pid > 0 and not options and pid not in _watched:
                ends = _end_of(pid)
            if ends is not None:
                get_hub().wait(ends[1])
            else:
                # No descriptor tells of these, and a signal is for the main thread.
                sleep(delay)
                delay = min(2 * delay, 0.05)
    finally:
        if ends is not None:
            descriptor, watcher = ends
            watcher.close()
            os.close(descriptor)


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


def _end_of(pid: int) -> tuple[int, Any] | None:
    """A descriptor that gets readable when a child has ended, and a watcher of it; None if there
    cannot be one."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        # There is none in old kernels and sandboxes, or too many are open; or the child has just
        # been waited for, as the next look tells.
        return None
    return descriptor, get_hub().loop.io(descriptor, READ)

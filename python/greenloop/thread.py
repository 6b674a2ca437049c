"""Threads that are greenlets, and the locks that go with them. (As gevent.thread.)

Every name has the meaning of the same name in the standard `_thread` module. A thread started here
is a greenlet of the calling native thread. The primitives work between greenlets of one native
thread and between native threads alike.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading as _stdlib_threading
import weakref
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from greenloop import _core
from greenloop._core import (
    Greenlet,
    GreenletExit,
    _getacting,
    get_hub,
    get_hub_if_exists,
    getcurrent,
)
from greenloop._core import ThreadRLock as RLock
from greenloop.local import local
from greenloop.lock import Lock

__all__ = [
    "TIMEOUT_MAX",
    "LockType",
    "RLock",
    "allocate",
    "allocate_lock",
    "error",
    "exit",
    "exit_thread",
    "get_ident",
    "get_native_id",
    "interrupt_main",
    "stack_size",
    "start_new",
    "start_new_thread",
]

#: What replaces the names of the standard module, as far as that has them: which of the private
#: ones it has depends on the Python version.
__implements__ = [
    name
    for name in (
        "LockType",
        "RLock",
        "_ThreadHandle",
        "_count",
        "_local",
        "_make_thread_handle",
        "_set_sentinel",
        "_shutdown",
        "allocate",
        "allocate_lock",
        "get_ident",
        "interrupt_main",
        "lock",
        "set_name",
        "start_joinable_thread",
        "start_new",
        "start_new_thread",
    )
    if hasattr(_thread, name)
]

error = _thread.error
if sys.version_info >= (3, 13):
    daemon_threads_allowed = _thread.daemon_threads_allowed
    __all__ += ["daemon_threads_allowed"]
exit = exit_thread = _thread.exit
get_native_id = _thread.get_native_id
stack_size = _thread.stack_size
TIMEOUT_MAX = _thread.TIMEOUT_MAX

lock = LockType = allocate = allocate_lock = Lock
_local = local

# Kept from before anything is patched.
_native_get_ident = _thread.get_ident
_native_start_new_thread = _thread.start_new_thread
_native_count = _thread._count
_native_interrupt_main = _thread.interrupt_main
_native_set_name: Callable[[str], None] | None = getattr(_thread, "set_name", None)
_native_shutdown: Callable[[], None] | None = getattr(_thread, "_shutdown", None)

# Since Python 3.13 threads have handles; before, a lock that is released at their end.
_HAS_HANDLES = hasattr(_thread, "_ThreadHandle")


def get_ident(greenlet: _core.greenlet | None = None) -> int:
    """Return the number that identifies a greenlet as a thread.

    It is the native thread's own for its main greenlet, and another for each other greenlet. As
    with threads, it may be used again once the greenlet is gone.

    greenlet: None for the current one.
    """
    if greenlet is None:
        try:
            greenlet = _getacting()
        except RuntimeError:
            # The thread is ending, and has no greenlets any more.
            return _native_get_ident()
        if greenlet.parent is None:
            return _native_get_ident()
    elif greenlet.parent is None and _is_own_main(greenlet):
        return _native_get_ident()
    return id(greenlet)


def _is_own_main(greenlet: _core.greenlet) -> bool:
    """Whether a greenlet without a parent is the main greenlet of the calling native thread."""
    root = getcurrent()
    while root.parent is not None:
        root = root.parent
    return root is greenlet


# --- the end of a thread


class _Waiters:
    """Greenlets, of any native thread, that wait until something has happened."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: list[Lock] = []

    def wait(self, happened: Callable[[], bool], timeout: float) -> None:
        """Wait for a call of `wake`, or *timeout* seconds. A negative number is no limit.

        happened: whether there is nothing to wait for. It is asked once more when nothing can be
            missed any longer.
        """
        lock = Lock()
        lock.acquire()
        self._locks.append(lock)
        try:
            if not happened():
                lock.acquire(True, timeout if timeout >= 0 else -1)
        finally:
            try:
                self._locks.remove(lock)
            except ValueError:
                pass  # `wake` has taken it out

    def wake(self) -> None:
        """End all waits."""
        while self._locks:
            self._locks.pop().release()


class _ThreadHandle:
    """What others know of a thread: whether it runs, and how to wait for its end."""

    __slots__ = ("__weakref__", "_done", "_ident", "_started", "_waiters")

    def __init__(self) -> None:
        self._ident = 0
        self._started = False
        self._done = False
        self._waiters = _Waiters()

    @property
    def ident(self) -> int:
        """The thread's identity; 0 before it is started."""
        return self._ident

    def is_done(self) -> bool:
        """Whether the thread has ended."""
        return self._done

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended.

        timeout: how many seconds to wait at most; None or a negative number for no limit.

        Raises RuntimeError if it has not been started, or is the current one.
        """
        if not self._started:
            raise RuntimeError("thread not started")
        if self.is_done():
            return
        if self._ident == get_ident():
            raise RuntimeError("Cannot join current thread")
        self._waiters.wait(self.is_done, -1 if timeout is None else timeout)

    def _begin(self, ident: int) -> None:
        self._ident = ident
        self._started = True

    def _set_done(self) -> None:
        if not self._started:
            raise RuntimeError("thread not started")
        self._done = True
        self._waiters.wake()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object: ident={self._ident}>"


def _make_thread_handle(ident: int) -> _ThreadHandle:
    """Return a handle for a thread that runs and was not started here."""
    if not isinstance(ident, int):
        raise TypeError("ident must be an integer")
    handle = _ThreadHandle()
    handle._begin(ident)
    return handle


class _Sentinel:
    """A lock that a thread has as long as it runs.

    Unlike others it is handed to nobody when it is released: `threading`, which takes and releases
    it in order to wait for the end of the thread, expects it to be free after that.
    """

    __slots__ = ("__weakref__", "_held", "_waiters")

    def __init__(self) -> None:
        self._held = False
        self._waiters = _Waiters()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._held and blocking:
            deadline = monotonic() + timeout
            while self._held and (timeout < 0 or (left := deadline - monotonic()) > 0):
                self._waiters.wait(self._is_free, -1 if timeout < 0 else left)
        if self._held:
            return False
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        self._waiters.wake()

    def locked(self) -> bool:
        return self._held

    def _is_free(self) -> bool:
        return not self._held

    def _at_fork_reinit(self) -> None:
        self._held = False


# The threads that run; the handles of native ones; those that the program waits for at its end.
_running: set[_ThreadGreenlet] = set()
_native_handles: weakref.WeakSet[_ThreadHandle] = weakref.WeakSet()
_not_daemons: dict[_ThreadHandle, None] = {}


def _watch(handle: _ThreadHandle, daemon: bool) -> None:
    """Note the handle of a native thread that runs already."""
    _native_handles.add(handle)
    if not daemon:
        _not_daemons[handle] = None


class _NativeThread:
    """What has to be told when a native thread ends."""

    def __init__(self) -> None:
        self.greenlets: set[_ThreadGreenlet] = set()
        self.sentinels: list[_Sentinel] = []
        #: That of a greenlet, while it is in force; see `greenloop.signal`.
        self.signal_mask: Any = None

    def __del__(self) -> None:
        # Its hub has gone with it: these will never run again.
        for greenlet in list(self.greenlets):
            greenlet.finish()
        for sentinel in self.sentinels:
            _release(sentinel)


class _PerNativeThread(_thread._local):
    """Where a native thread has its `_NativeThread`.

    A class of its own, which stays the native one when others are replaced.
    """

    def __init__(self) -> None:
        self.record = _NativeThread()


_here = _PerNativeThread()


def _release(sentinel: _Sentinel) -> None:
    if sentinel.locked():
        sentinel.release()


class _ThreadGreenlet(Greenlet):
    """The greenlet that a thread is."""

    def __init__(
        self,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        handle: _ThreadHandle | None,
    ) -> None:
        super().__init__()
        self._call = (function, args, kwargs)
        self._handle = handle
        #: Released at the end; see _set_sentinel.
        self._sentinel: _Sentinel | None = None
        #: Whether it is a copy that a forked child has of a thread of its parent.
        self._left_over = False
        #: The signals that it blocks, if it has ever asked for that; see `greenloop.signal`.
        self.signal_mask: Any = None
        self._native = _here.record

    def begin(self) -> int:
        """Make it run when its turn comes; return its identity."""
        ident = id(self)
        if self._handle is not None:
            self._handle._begin(ident)
        _running.add(self)
        self._native.greenlets.add(self)
        self.start()
        return ident

    def _run(self) -> None:
        function, args, kwargs = self._call
        del self._call
        try:
            function(*args, **kwargs)
        except (SystemExit, GreenletExit):
            pass
        except KeyboardInterrupt as interrupt:
            _pass_on(interrupt)
        except BaseException as unhandled:
            # The fork has cleared what the copy would find of itself in `threading`.
            if not self._left_over:
                _report(function, unhandled)
        finally:
            del function, args, kwargs
            self.finish()

    def finish(self) -> None:
        """Tell everybody who waits for the thread that it has ended."""
        _running.discard(self)
        self._native.greenlets.discard(self)
        if self._handle is not None:
            _not_daemons.pop(self._handle, None)
            self._handle._set_done()
        if self._sentinel is not None:
            _release(self._sentinel)

    def _formatinfo(self) -> str:
        call = getattr(self, "_call", None)
        return "thread" if call is None else f"thread: {call[0]!r}"


def _pass_on(interrupt: BaseException) -> None:
    """Raise KeyboardInterrupt in the main greenlet.

    Python raises it in whichever greenlet the main thread runs at that moment, but it is meant
    for the main thread proper.
    """
    get_hub().handle_system_error(type(interrupt), interrupt, interrupt.__traceback__)


def _report(function: Callable[..., object], unhandled: BaseException) -> None:
    """Hand an exception that ended a thread to sys.unraisablehook, as the interpreter does."""
    message = "Exception ignored in thread started by"
    subject: object = function
    if _HAS_HANDLES:
        message, subject = f"{message} {function!r}", None
    make = _unraisable_type()
    sys.unraisablehook(
        make((type(unhandled), unhandled, unhandled.__traceback__, message, subject))
    )


_unraisable: list[Callable[[tuple[Any, ...]], Any]] = []


def _unraisable_type() -> Callable[[tuple[Any, ...]], Any]:
    """The type of sys.unraisablehook's argument.

    It has no public name, and the standard hook takes no other.
    """
    if not _unraisable:

        class Raises:
            def __del__(self) -> None:
                raise RuntimeError

        hook = sys.unraisablehook
        sys.unraisablehook = lambda args: _unraisable.append(type(args))
        try:
            Raises()
        finally:
            sys.unraisablehook = hook
    return _unraisable[0]


# --- starting threads


def start_new_thread(
    function: Callable[..., object],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    /,
) -> int:
    """Start a thread that calls a function, and return its identity.

    function: what to call. What it returns is ignored; if it raises, sys.unraisablehook is called,
        unless it is SystemExit.
    args: a tuple; may be left out, as in gevent.
    kwargs: a dictionary, or nothing.

    Raises TypeError if an argument has another type.
    """
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is None:
        kwargs = {}
    elif not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    sys.audit("_thread.start_new_thread", function, args, kwargs)
    _forward_interrupts(function)
    return _ThreadGreenlet(function, args, kwargs, None).begin()


start_new = start_new_thread


def start_joinable_thread(
    function: Callable[[], object], handle: _ThreadHandle | None = None, daemon: bool = True
) -> _ThreadHandle:
    """Start a thread that calls a function, and return the handle to wait for it with.

    function: what to call, as for `start_new_thread`.
    handle: one that no thread has been started with; None makes one.
    daemon: whether the program may end without waiting for the thread.

    Raises TypeError if an argument has another type, RuntimeError if the handle has been used.
    """
    if not callable(function):
        raise TypeError("thread function must be callable")
    if handle is None:
        handle = _ThreadHandle()
    elif not isinstance(handle, _ThreadHandle):
        raise TypeError("'handle' must be a _ThreadHandle")
    if handle._started:
        raise RuntimeError("thread already started")
    sys.audit("_thread.start_joinable_thread", function, daemon, handle)
    _forward_interrupts(function)
    if not daemon:
        _not_daemons[handle] = None
    _ThreadGreenlet(function, (), {}, handle).begin()
    return handle


def _forward_interrupts(function: Callable[..., object]) -> None:
    """Make a `threading.Thread` that is about to start let pass what is not its own.

    A Thread prints every exception that ends it, and that is that. KeyboardInterrupt has to get
    to the main greenlet, and a kill is no error.
    """
    thread = getattr(function, "__self__", None)
    report = getattr(thread, "_invoke_excepthook", None)
    if not isinstance(thread, _stdlib_threading.Thread) or report is None:
        return

    def report_others(thread: _stdlib_threading.Thread) -> None:
        error = sys.exception()
        if isinstance(error, KeyboardInterrupt):
            _pass_on(error)
        elif not isinstance(error, GreenletExit):
            report(thread)

    thread._invoke_excepthook = report_others  # type: ignore[attr-defined]


# --- private names of the standard module


def _set_sentinel() -> _Sentinel:
    """Return a lock that is released, if somebody holds it, when the current thread ends.

    (`threading` waits for threads with it before Python 3.13.)
    """
    sentinel = _Sentinel()
    current = getcurrent()
    if isinstance(current, _ThreadGreenlet):
        current._sentinel = sentinel
    else:
        _here.record.sentinels.append(sentinel)
    return sentinel


def _count() -> int:
    """Return how many threads run, native ones included. Worker threads of our pools that have
    nothing to do are not: the program has not started them."""
    return max(_native_count() - _core._idle_workers(), 0) + len(_running)


def _shutdown() -> None:
    """Wait for all threads that are no daemons. (Since Python 3.13.)"""
    me = get_ident()
    while handle := next((handle for handle in list(_not_daemons) if handle.ident != me), None):
        handle.join()
        _not_daemons.pop(handle, None)
    if _native_shutdown is not None:
        _native_shutdown()


def set_name(name: str) -> None:
    """Set the name that the operating system shows for the thread. (CPython 3.14.)

    In a greenlet this does nothing: the native thread is not the greenlet's alone.
    """
    if not isinstance(name, str):
        raise TypeError(f"set_name() argument 'name' must be str, not {type(name).__name__}")
    if _native_set_name is not None and getcurrent().parent is None:
        _native_set_name(name)


def interrupt_main(signum: int = signal.SIGINT, /) -> None:
    """Do in the main greenlet of the main thread what the arrival of a signal would do.

    signum: the signal's number.

    Raises ValueError if there is no such signal.
    """
    hub = get_hub_if_exists()
    if hub is None or not hub.main_hub or getcurrent() is hub.parent:
        _native_interrupt_main(signum)  # type: ignore[arg-type]  # any number will do
        return
    if not 1 <= signum < signal.NSIG:
        raise ValueError("signal number out of range")
    try:
        # The handler runs here and now. What it raises is for the main greenlet.
        _native_interrupt_main(signum)  # type: ignore[arg-type]  # any number will do
    except BaseException as error:
        hub.handle_error(None, type(error), error, error.__traceback__)


def _after_fork_in_child() -> None:
    current = getcurrent()
    for greenlet in list(_running):
        if greenlet is not current:
            # Python's own threads do not exist in the child.
            greenlet._left_over = True
            greenlet.finish()
    me = get_ident()
    for handle in list(_native_handles):
        if handle.ident != me:
            handle._set_done()
            _not_daemons.pop(handle, None)
            _native_handles.discard(handle)


os.register_at_fork(after_in_child=_after_fork_in_child)

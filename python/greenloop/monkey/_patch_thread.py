"""`_thread`, `threading`, `_threading_local`, and the locks that exist when they are patched."""

from __future__ import annotations

import _queue
import _thread
import _threading_local as stdlib_threading_local
import gc
import os
import sys
import threading as stdlib_threading
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from greenloop import config
from greenloop import local as green_local
from greenloop import thread as green_thread
from greenloop import threading as green_threading
from greenloop.events import DoNotPatch
from greenloop.lock import Lock
from greenloop.monkey._aliases import replace_aliases, standard_modules
from greenloop.monkey._announce import did_patch, vetoable, will_patch
from greenloop.monkey._async_exceptions import patch_async_exceptions
from greenloop.monkey._existing import Maker, replace_referenced
from greenloop.monkey._imports import hand_over_imports
from greenloop.monkey._items import keep_item, patch_item, patch_module, warn
from greenloop.monkey._state import saved
from greenloop.monkey._when_imported import when_imported
from greenloop.queue import SimpleQueue

# Kept from before anything is patched.
_NativeLock: Any = type(_thread.allocate_lock())
_NativeRLock: Any = _thread.RLock
_NativeLocal: Any = _thread._local
_NativeHandle: Any = getattr(_thread, "_ThreadHandle", None)
# Where a Thread of the standard library keeps its handle (3.13 and later).
_HANDLE = "_os_thread_handle" if sys.version_info >= (3, 14) else "_handle"
_native_start_new_thread = _thread.start_new_thread


@vetoable
def patch_thread(
    threading: bool = True,
    _threading_local: bool = True,
    Event: bool = True,  # noqa: N803 - gevent's name for it
    logging: bool = True,
    existing_locks: bool = True,
) -> None:
    """Make threads greenlets, and replace the primitives that they are built with.

    The classes of `threading` stay what they are: Thread, Condition, Event, Semaphore, Barrier
    and Timer are built from what is replaced here. Threads that run already stay native; waiting
    for them does not block other greenlets.

    threading: patch `threading` as well as `_thread`.
    _threading_local: patch `_threading_local` too.
    Event: say that `threading.Event` is patched. It is cooperative in any case, and stays the class
        that it is.
    logging: replace the locks of `logging` and its handlers.
    existing_locks: replace locks, `threading.local` and `queue.SimpleQueue` objects that have been
        made already, if nobody holds or uses them. While other native threads run that is done for
        those that the standard library's modules and classes have, and no others.
    """
    names = will_patch(_thread, green_thread, green_thread.__implements__)
    threading = threading and _will_patch_threading()
    skip = set() if threading else {"threading"}
    skip.add("_threading_local")
    first = "_thread" not in saved
    # Making a hub must not import anything from here on: an import may have to wait for another
    # thread's, and waiting needs the hub.
    config.settings["loop"].get()
    threads = _known_threads() if threading else []
    if existing_locks and first:
        _replace_existing()
    replace_aliases(
        _thread,
        {name: getattr(green_thread, name) for name in names},
        skip=skip,
    )
    patch_module(_thread, green_thread, names, _notify_will_event=False)
    for name in names:
        function = getattr(green_thread, name)
        if isinstance(function, FunctionType):
            # Who looks functions up by module and name, as pickle does, finds them there.
            function.__module__ = _thread.__name__
    if first:
        hand_over_imports()
    if _threading_local:
        patch_item(stdlib_threading_local, "local", green_local.local)
    if logging and existing_locks and first:
        _replace_logging_locks()
    if threading:
        if "allocate_lock" in names:
            _take_over_lock()
        patch_item(stdlib_threading, "_DummyThread", green_threading._DummyThread)
        for thread in threads:
            _adapt_thread(thread)
        if Event:
            keep_item(stdlib_threading, "Event")
        _prepare_forks()
        when_imported("ctypes", patch_async_exceptions)
        did_patch(stdlib_threading, green_threading)


def _take_over_lock() -> None:
    """Make sure that `threading.Lock` makes no native locks, whatever has been put there."""
    if "Lock" in saved.get("threading", {}):
        return
    present = stdlib_threading.Lock
    patch_item(stdlib_threading, "Lock", Lock)
    warn(
        f"threading.Lock had been replaced by {present!r}, which may go on to make locks that "
        "block all greenlets, so patching has replaced it. To keep it, patch before it is put "
        "there, or make it with functools.wraps or wrapt."
    )


def _will_patch_threading() -> bool:
    """Tell that `threading` is about to be patched. Returns whether nobody objects."""
    try:
        will_patch(stdlib_threading, green_threading, ["_DummyThread"])
    except DoNotPatch:
        return False
    return True


# --- threads that exist already


def _known_threads() -> list[Any]:
    """All Thread objects whose thread may still run, or be started."""
    dangling = getattr(stdlib_threading, "_dangling", ())
    return list({*dangling, *stdlib_threading.enumerate()})


def _adapt_thread(thread: Any) -> None:
    """Make sure that starting or joining a thread that was made before does not block."""
    if thread.ident is None:
        # It will be a greenlet. What it tells its start with has a native lock.
        thread._started = stdlib_threading.Event()
    if _NativeHandle is None:
        _adapt_sentinel(thread)
    elif type(getattr(thread, _HANDLE)) is _NativeHandle:
        _adapt_handle(thread)


def _adapt_handle(thread: Any) -> None:
    native = getattr(thread, _HANDLE)
    if thread.ident is None:
        setattr(thread, _HANDLE, green_thread._ThreadHandle())
    elif not native.is_done():
        is_main = thread is stdlib_threading.main_thread()
        handle = green_thread._ThreadHandle() if is_main else _HandleOfNative(native)
        handle._begin(thread.ident)
        setattr(thread, _HANDLE, handle)
        # `threading` itself sees to it that the main thread is waited for.
        green_thread._watch(handle, daemon=is_main or thread.daemon)
        if not is_main:
            _native_start_new_thread(_tell, (native.join, handle._set_done))


def _adapt_sentinel(thread: Any) -> None:
    native = thread._tstate_lock
    if type(native) is not _NativeLock:
        return
    is_main = thread is stdlib_threading.main_thread()
    sentinel: Any = green_thread._Sentinel() if is_main else _SentinelOfNative(native)
    sentinel.acquire()
    thread._tstate_lock = sentinel
    waited_for: set[Any] = vars(stdlib_threading)["_shutdown_locks"]
    if native in waited_for:
        waited_for.remove(native)
        waited_for.add(sentinel)
    if not is_main:
        _native_start_new_thread(_tell, (sentinel.wait_natively, sentinel.release))


class _HandleOfNative(green_thread._ThreadHandle):
    """The handle of a native thread.

    native: its own one. Somebody may wait for it since before patching: he knows the end first.
    """

    __slots__ = ("native",)

    def __init__(self, native: Any) -> None:
        super().__init__()
        self.native = native

    def is_done(self) -> bool:
        return super().is_done() or bool(self.native.is_done())


class _SentinelOfNative(green_thread._Sentinel):
    """The sentinel of a native thread.

    native: its own one. Somebody may wait for it since before patching: he knows the end first.
    """

    __slots__ = ("native",)

    def __init__(self, native: Any) -> None:
        super().__init__()
        self.native = native

    def locked(self) -> bool:
        return super().locked() and self.native.locked()

    def wait_natively(self) -> None:
        self.native.acquire()
        self.native.release()


def _tell(wait: Callable[[], object], tell: Callable[[], object]) -> None:
    """Wait for the end of a native thread, in another one, and pass the news on to greenlets."""
    try:
        wait()
    finally:
        tell()


# --- locks that exist already


def _new_lock(native: Any) -> Any:
    return None if native.locked() else Lock()


def _new_rlock(native: Any) -> Any:
    if native._is_owned() or not native.acquire(blocking=False):
        return None
    native.release()
    return green_thread.RLock()


def _new_local(native: Any) -> Any:
    new = green_local.local()
    vars(new).update(vars(native))
    return new


def _new_queue(native: Any) -> Any:
    new: Any = SimpleQueue()
    while not native.empty():
        new.put(native.get_nowait())
    return new


_MAKERS: dict[type, Maker] = {
    _NativeLock: _new_lock,
    _NativeRLock: _new_rlock,
    _NativeLocal: _new_local,
    _queue.SimpleQueue: _new_queue,
}


def _replace_existing() -> None:
    alone = green_thread._native_count() == 0
    if alone:
        replace_referenced(_MAKERS)
    else:
        _pin_executors()
    # What is left: maybe the program has a reference too.
    for module in standard_modules():
        _replace_in(module)
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                _replace_in(value)


def _replace_in(owner: ModuleType | type) -> None:
    for name, value in list(vars(owner).items()):
        if type(value) in (_NativeLock, _NativeRLock, _NativeLocal):
            new = _MAKERS[type(value)](value)
            if new is not None:
                patch_item(owner, name, new)


def _pin_executors() -> None:
    """Keep executors that have native threads from getting greenlets besides.

    Their queue is native, and a greenlet that waits for it would block all others.
    """
    module = sys.modules.get("concurrent.futures.thread")
    if module is None:
        return
    for item in gc.get_objects():
        # Not isinstance: asking an object for its __class__ may run code of a lazy one.
        if issubclass(type(item), module.ThreadPoolExecutor) and item._threads:
            item._max_workers = len(item._threads)


def _replace_logging_locks() -> None:
    module = sys.modules.get("logging")
    for reference in list(getattr(module, "_handlerList", ())):
        handler: Any = reference() if isinstance(reference, weakref.ref) else reference
        lock = getattr(handler, "lock", None)
        if type(lock) is _NativeRLock and _new_rlock(lock) is not None:
            handler.createLock()


# --- fork


_forks_prepared = False


def _prepare_forks() -> None:
    global _forks_prepared
    if not _forks_prepared:
        _forks_prepared = True
        os.register_at_fork(before=_before_fork)


def _before_fork() -> None:
    # `threading` makes the thread that forks the child's main thread. Since Python 3.13 it can do
    # so with dummies, but not with a greenlet that it has never seen.
    if _NativeHandle is not None and green_thread.get_ident() not in green_threading._active:
        stdlib_threading.current_thread()

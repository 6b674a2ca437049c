"""Native threads that make blocking calls for greenlets. (As gevent.threadpool.)"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import os
import sys
import threading
from _thread import get_ident
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from greenloop import _core
from greenloop.event import AsyncResult
from greenloop.exceptions import InvalidThreadUseError
from greenloop.hub import Hub, get_hub, get_hub_if_exists, getcurrent, sleep
from greenloop.lock import Semaphore
from greenloop.pool import GroupMappingMixin

__all__ = ["ThreadPool", "ThreadPoolExecutor", "ThreadResult"]


def _get_thread_profile() -> Any:
    """Return the function of `threading.setprofile`."""
    return threading.getprofile()


def _get_thread_trace() -> Any:
    """Return the function of `threading.settrace`."""
    return threading.gettrace()


class ThreadPool(GroupMappingMixin):
    """A pool of native threads, to call functions in that block or compute and know nothing of
    greenlets. The greenlet that waits for one lets others run.

    maxsize: how many threads there may be; they are started when they are needed.
    hub: the hub whose greenlets use the pool; that of the calling thread by default. The pool may
        be used in that hub's thread only.
    idle_task_timeout: after so many seconds without anything to do a thread ends; never if that is
        less than 0 or None. The pool of a hub has `config.threadpool_idle_task_timeout`.

    Its length is the number of calls that are not over. Threads do not keep the process from
    ending. While a call is made, the functions of `threading.settrace` and `threading.setprofile`
    are set in its thread. In a child process after `os.fork()` the pool has no threads, and starts
    new ones.
    """

    #: Of gevent's pool: what starts and ends threads. There is none here.
    manager = None
    #: Of gevent's pool: what tells it of a fork. There is none here.
    fork_watcher = None

    def __init__(
        self, maxsize: int, hub: Hub | None = None, idle_task_timeout: float | None = -1
    ) -> None:
        _check_maxsize(maxsize)
        self.hub = get_hub() if hub is None else hub
        limit = idle_task_timeout
        if limit is not None and limit < 0:
            limit = None
        self._pool = _core.WorkerPool(maxsize, vars(threading), _call_traced, limit)
        self._slots = _slots(maxsize)
        # Slots that are taken and are not given back: maxsize has been lowered.
        self._excess = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} at {id(self):#x} tasks={len(self)} size={self.size} "
            f"maxsize={self.maxsize}>"
        )

    def __len__(self) -> int:
        return self._pool.unfinished

    @property
    def task_queue(self) -> _TaskQueue:
        """The calls that are not over: how many there are, and how many wait for a thread."""
        return _TaskQueue(self._pool)

    @property
    def pid(self) -> int:
        """The process that the pool's threads are in: always this one."""
        return os.getpid()

    @property
    def maxsize(self) -> int:
        """How many threads there may be.

        When a few more calls than this are not over, `spawn` waits.
        """
        return self._pool.maxsize

    @maxsize.setter
    def maxsize(self, value: int) -> None:
        _check_maxsize(value)
        change = value - self._pool.maxsize
        self._pool.maxsize = value
        while change > 0:
            change -= 1
            self._release()
        while change < 0:
            change += 1
            if not self._slots.acquire(blocking=False):
                self._excess += 1

    def _release(self) -> None:
        """Give a slot back, if it is still one."""
        if self._excess > 0:
            self._excess -= 1
        else:
            self._slots.release()

    @property
    def size(self) -> int:
        """How many threads there are.

        Setting it starts threads, up to `maxsize`, or ends some: those that have nothing to do,
        the others when their calls are over, which is waited for.
        """
        return self._pool.size

    @size.setter
    def size(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"Size of the pool cannot be negative: {value!r}")
        if value > self.maxsize:
            raise ValueError(
                f"Size of the pool cannot be bigger than maxsize: {value!r} > {self.maxsize!r}"
            )
        self._pool.size = value
        delay = 0.0005
        while self._pool.size > value and getcurrent() is not self.hub:
            sleep(delay)
            delay = min(delay * 2, 0.05)
            # Greenlets that have waited for a slot meanwhile may have had threads started.
            if self._pool.size > value:
                self._pool.size = value

    def adjust(self) -> None:
        """Does nothing: threads are started and ended as they should be."""

    def join(self) -> None:
        """Wait until all calls are over."""
        self._pool.join()

    def kill(self) -> None:
        """End all threads; wait for those that are in a call. The pool can be used again."""
        self.size = 0

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncResult:
        """Have a thread call ``func(*args, **kwargs)``; return an AsyncResult for what it returns
        or raises.

        Waits while `maxsize` calls are not over. Raises InvalidThreadUseError in any other thread
        than the hub's.
        """
        if get_hub() is not self.hub:
            raise InvalidThreadUseError("this pool belongs to another thread's hub")
        slots = self._slots
        slots.acquire()
        result = AsyncResult()

        def done(value: Any, error: BaseException | None) -> None:
            if slots is self._slots:
                self._release()
            if error is None:
                result.set(value)
            else:
                result.set_exception(error, (type(error), error, error.__traceback__))

        try:
            self._pool.submit(func, args, kwargs, done)
        except BaseException:
            self._release()
            raise
        return result

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Have a thread call ``func(*args, **kwds)``, wait for it, and return or raise what it
        does. In another thread than the hub's, a pool's for instance, it is called at once."""
        arguments = () if args is None else tuple(args)
        keywords = {} if kwds is None else dict(kwds)
        if self._apply_immediately():
            return func(*arguments, **keywords)
        return self._pool.apply(func, arguments, keywords)

    def _apply_immediately(self) -> bool:
        return get_hub() is not self.hub

    def _apply_async_use_greenlet(self) -> bool:
        # A greenlet, as spawn() waits when the pool is full.
        return True

    def _apply_async_cb_spawn(self, callback: Callable[[Any], Any], result: Any) -> None:
        callback(result)

    def reinit(self) -> None:
        """Make the pool usable in a child process after `os.fork()`.

        It is done by itself; doing it again is harmless.
        """
        self._on_fork()

    def _on_fork(self) -> None:
        # The calls under way are lost in the child, and with them their slots.
        self._slots = _slots(self.maxsize)
        self._excess = 0


class _TaskQueue:
    """What can be asked of a pool's calls."""

    def __init__(self, pool: _core.WorkerPool) -> None:
        self._pool = pool

    @property
    def unfinished_tasks(self) -> int:
        """How many calls are not over."""
        return self._pool.unfinished

    def qsize(self) -> int:
        """How many calls wait for a thread."""
        return self._pool.waiting

    def __len__(self) -> int:
        return self._pool.waiting

    def empty(self) -> bool:
        """Whether no call waits for a thread."""
        return not self._pool.waiting

    def full(self) -> bool:
        """False: any number of calls can wait."""
        return False


def _call_traced(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> Any:
    """Make a call for a thread while functions are set that are to see what threads do."""
    profile, trace = threading.getprofile(), threading.gettrace()
    try:
        if profile is not None:
            sys.setprofile(profile)
        if trace is not None:
            sys.settrace(trace)
        return function(*args, **(kwargs or {}))
    finally:
        sys.settrace(None)
        sys.setprofile(None)


def _check_maxsize(maxsize: object) -> None:
    if not isinstance(maxsize, int):
        raise TypeError(f"maxsize must be integer: {maxsize!r}")
    if maxsize < 0:
        raise ValueError(f"maxsize must not be negative: {maxsize!r}")


def _slots(maxsize: int) -> Semaphore:
    # One call more than there are threads, so that a thread that is done finds the next at once.
    return Semaphore(maxsize + 1)


class ThreadResult:
    """Takes what a native thread has worked out to the hub of another.

    Made in the hub's thread. Another one calls `set` or `handle_error`, once; the hub then
    *call_when_ready*, reports the error if it is one, and gives this object to *receiver*, which
    reads `value`, `exception` and `exc_info`.

    receiver: called by the hub with this object.
    hub: the hub. Its loop runs at least until then.
    call_when_ready: called by the hub without arguments, before *receiver*.

    (As gevent.threadpool.ThreadResult. `ThreadPool` does without it.)
    """

    def __init__(
        self,
        receiver: Callable[[ThreadResult], object],
        hub: Hub,
        call_when_ready: Callable[[], object],
    ) -> None:
        self.receiver: Callable[[ThreadResult], object] | None = receiver
        self.hub: Hub | None = hub
        #: What failed, for the report of an error.
        self.context: Any = None
        #: What was given to `set`; for the time of *receiver*.
        self.value: Any = None
        #: Type, instance and traceback of an error; () without one. Without the traceback after
        #: *receiver*.
        self.exc_info: tuple[Any, ...] = ()
        self._call_when_ready: Callable[[], object] | None = call_when_ready
        self.async_watcher: Any = hub.loop.async_()
        self.async_watcher.start(self._on_async)

    @property
    def exception(self) -> BaseException | None:
        """The error, or None."""
        return self.exc_info[1] if self.exc_info else None

    def successful(self) -> bool:
        """Whether there is no error."""
        return not self.exc_info

    def set(self, value: Any) -> None:
        """Give a value. From any thread."""
        self.value = value
        self.async_watcher.send()

    def handle_error(self, context: Any, exc_info: tuple[Any, ...]) -> None:
        """Give an error. From any thread.

        context: what failed, for the report.
        exc_info: as from `sys.exc_info()`.
        """
        self.context = context
        self.exc_info = exc_info
        self.async_watcher.send()

    def destroy_in_main_thread(self) -> None:
        """Give it up, in the hub's thread: nobody is called any more."""
        self._forget()
        self.receiver = None

    def _forget(self) -> None:
        watcher, self.async_watcher = self.async_watcher, _NoWatcher()
        watcher.stop()
        watcher.close()
        self.context = self.hub = self._call_when_ready = None

    def _on_async(self) -> None:
        hub, context, call_when_ready = self.hub, self.context, self._call_when_ready
        receiver, self.receiver = self.receiver, None
        self._forget()
        try:
            if call_when_ready is not None:
                call_when_ready()
            if self.exc_info and hub is not None:
                hub.handle_error(context, *self.exc_info)
            if receiver is not None:
                receiver(self)
        finally:
            self.value = None
            if self.exc_info:
                self.exc_info = (*self.exc_info[:2], None)


class _NoWatcher:
    """Stands for the watcher of a result that has been given, or given up."""

    def send(self) -> None:
        pass

    stop = close = send

    def __bool__(self) -> bool:
        return False


class _Future(concurrent.futures.Future[Any]):
    """A future that greenlets can wait for: `result` and `exception` block the calling greenlet
    only, and `greenloop.wait` takes it."""

    def __init__(self) -> None:
        super().__init__()
        # Set when it is over, after everything else.
        self._over = AsyncResult()

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Make the call, in a thread."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            self._fail(error)
            # The traceback has this frame, which must not keep the future alive.
            del self
        else:
            self.set_result(value)
            self._over.set(None)

    def _fail(self, error: BaseException) -> None:
        self.set_exception(error)
        self._over.set(None)

    def cancel(self) -> bool:
        """Do not make the call, if it has not begun. Returns whether it will not be made."""
        if not super().cancel():
            return False
        self._over.set(None)
        return True

    def ready(self) -> bool:
        """Whether the call is over, or has been cancelled."""
        return self.done()

    def successful(self) -> bool:
        """Whether the call is over and has not failed."""
        return self.done() and not self.cancelled() and super().exception(0) is None

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned or raised.

        timeout: seconds to wait at most; None for no limit.

        Raises TimeoutError after *timeout*, CancelledError if the call has been cancelled.
        """
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None. *timeout* and what is raised are as for `result`."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        # Not by an exception: it could be somebody else's Timeout.
        if not self.done():
            self._over.wait(timeout=timeout)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have ``fn(self)`` called when the call is over, or has been cancelled; now if it is.

        It is called by the hub of the calling thread, and must not wait; in a thread without one,
        by the thread that makes the call. What it raises is reported.
        """
        if self.done() or get_hub_if_exists() is None:
            super().add_done_callback(fn)
        else:
            self._over.rawlink(_DoneCallback(fn, self))

    def rawlink(self, callback: Callable[[Any], Any]) -> None:
        """Have the hub call ``callback(self)`` when the call is over."""
        self._over.rawlink(_WithFuture(callback, self))

    def unlink(self, callback: Callable[[Any], Any]) -> None:
        """Take back a `rawlink`."""
        self._over.unlink(_WithFuture(callback, self))


class _WithFuture:
    """Calls a function with a future in place of the object that it is linked to."""

    def __init__(self, callback: Callable[[Any], Any], future: _Future) -> None:
        self._callback = callback
        self._future = future

    def __call__(self, _: object) -> None:
        self._callback(self._future)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _WithFuture) and (self._callback, self._future) == (
            other._callback,
            other._future,
        )

    def __hash__(self) -> int:
        return hash((self._callback, self._future))


class _DoneCallback(_WithFuture):
    """One whose errors are printed, and nothing more, as other futures do with them."""

    def __call__(self, _: object) -> None:
        try:
            self._callback(self._future)
        except Exception:
            get_hub().print_exception((self._callback, self._future), *sys.exc_info())


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The standard executor, on native threads even when threading is patched. Its futures can be
    waited for by greenlets: by their own methods, by `greenloop.wait` and `iwait`, and, when
    threading is patched, by `concurrent.futures.wait` and `as_completed`.

    max_workers: how many threads there may be.
    thread_name_prefix: taken for compatibility; the threads have no names.
    initializer, initargs: called in each thread before its first call. If it raises, the executor
        is broken: BrokenThreadPool is what all calls raise.

    It can be used from every thread.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        super().__init__(max_workers, thread_name_prefix)
        self._threadpool = ThreadPool(self._max_workers)
        self._start: Callable[[], None] | None = None
        self._failure: BaseException | None = None
        self._pending: set[_Future] = set()
        if initializer is not None:
            self._start = lambda: initializer(*initargs)
            # Of native threads, whatever is patched.
            self._started: set[int] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Have a thread call ``fn(*args, **kwargs)``; return a future.

        Raises RuntimeError after `shutdown`, BrokenThreadPool if the initializer failed.
        """
        if self._failure is not None:
            raise self._broken_error()
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = _Future()
        self._pending.add(future)
        try:
            self._threadpool._pool.submit(self._call, (future, fn, args, kwargs), None, _no_answer)
        except BaseException:
            self._pending.discard(future)
            raise
        return future

    def _call(self, future: _Future, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._pending.discard(future)
        if self._start is not None and not self._is_started():
            if future.set_running_or_notify_cancel():
                future._fail(self._broken_error())
            return
        future._run(fn, args, kwargs)

    def _is_started(self) -> bool:
        """Call the initializer if this thread has not. Whether that was a success."""
        assert self._start is not None
        here = get_ident()
        if self._failure is None and here not in self._started:
            try:
                self._start()
            except BaseException as error:
                self._failure = error
            else:
                self._started.add(here)
        return self._failure is None

    def _broken_error(self) -> BaseException:
        error = concurrent.futures.thread.BrokenThreadPool(
            "A thread initializer failed, the thread pool is not usable anymore"
        )
        error.__cause__ = self._failure
        return error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the threads end when they have worked off what there is.

        wait: wait until all calls are over.
        cancel_futures: cancel those that have not begun.
        """
        self._shutdown = True
        if cancel_futures:
            for future in list(self._pending):
                future.cancel()
        if wait:
            self._threadpool.join()
        self._threadpool._pool.close()

    def kill(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `shutdown`; gevent's executor has both."""
        self.shutdown(wait, cancel_futures=cancel_futures)


def _no_answer(value: Any, error: BaseException | None) -> None:
    """Called by the hub when a call of an executor is over: the future has told already."""

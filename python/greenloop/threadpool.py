"""Native threads that make blocking calls for greenlets. (As gevent.threadpool.)"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from greenloop import _core
from greenloop.event import AsyncResult
from greenloop.exceptions import InvalidThreadUseError
from greenloop.hub import Hub, get_hub, getcurrent, sleep
from greenloop.lock import Semaphore
from greenloop.pool import GroupMappingMixin
from greenloop.timeout import Timeout

__all__ = ["ThreadPool", "ThreadPoolExecutor"]


class ThreadPool(GroupMappingMixin):
    """A pool of native threads, to call functions in that block or compute and know nothing of
    greenlets. The greenlet that waits for one lets others run.

    maxsize: how many threads there may be; they are started when they are needed.
    hub: the hub whose greenlets use the pool; that of the calling thread by default. The pool may
        be used in that hub's thread only.
    idle_task_timeout: taken for compatibility; threads stay.

    Its length is the number of calls that are not over. Threads do not keep the process from
    ending.
    """

    def __init__(self, maxsize: int, hub: Hub | None = None, idle_task_timeout: int = -1) -> None:
        _check_maxsize(maxsize)
        self.hub = get_hub() if hub is None else hub
        self._pool = _core.WorkerPool(maxsize)
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

    def _on_fork(self) -> None:
        # The calls under way are lost in the child, and with them their slots.
        self._slots = _slots(self.maxsize)
        self._excess = 0


def _check_maxsize(maxsize: object) -> None:
    if not isinstance(maxsize, int):
        raise TypeError(f"maxsize must be integer: {maxsize!r}")
    if maxsize < 0:
        raise ValueError(f"maxsize must not be negative: {maxsize!r}")


def _slots(maxsize: int) -> Semaphore:
    # One call more than there are threads, so that a thread that is done finds the next at once.
    return Semaphore(maxsize + 1)


class _Future(concurrent.futures.Future[Any]):
    """A future that greenlets can wait for: `result` and `exception` block the calling greenlet
    only, and gevent's `wait` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self._over = AsyncResult()

    def _finish(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)
        self._over.set(None)

    def cancel(self) -> bool:
        """A call that has been submitted is made: False."""
        return False

    def ready(self) -> bool:
        """Whether the call is over."""
        return self.done()

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned or raised. TimeoutError if it takes more than `timeout`
        seconds."""
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None. TimeoutError as for `result`."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if not self.done():
            try:
                self._over.get(timeout=timeout)
            except Timeout:
                raise concurrent.futures.TimeoutError from None

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


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The standard executor, on native threads even when threading is patched. Its futures can be
    waited for by greenlets.

    max_workers: how many threads there may be. The other arguments are those of the standard
    class; `initializer` is not supported.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None:
            raise TypeError("threads are shared with other calls: no initializer")
        super().__init__(max_workers, thread_name_prefix)
        self._threadpool = ThreadPool(self._max_workers)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Have a thread call ``fn(*args, **kwargs)``; return a future. RuntimeError after
        `shutdown`."""
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if get_hub() is not self._threadpool.hub:
            raise InvalidThreadUseError("this executor belongs to another thread's hub")
        future = _Future()
        future.set_running_or_notify_cancel()
        self._threadpool._pool.submit(fn, args, kwargs, future._finish)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `wait`, wait until those that were submitted are over;
        `cancel_futures` has nothing to cancel."""
        self._shutdown = True
        if wait:
            self._threadpool.join()
        self._threadpool._pool.close()

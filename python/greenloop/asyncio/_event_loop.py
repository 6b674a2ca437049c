"""The event loop: what of it is not called for every event."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from greenloop import _core, thread
from greenloop._core import Greenlet
from greenloop._hub_local import get_hub
from greenloop.asyncio import _private
from greenloop.asyncio._connections import Connections
from greenloop.asyncio._futures import wrap
from greenloop.asyncio._processes import Processes
from greenloop.resolver.thread import Resolver as ThreadResolver
from greenloop.threadpool import ThreadPoolExecutor

__all__ = ["EventLoop"]


#: How many threads the default executor has at most: as the standard one's.
_WORKERS = min(32, (os.cpu_count() or 1) + 4)


def _threads_are_greenlets() -> bool:
    """Whether threading is patched."""
    return threading.get_ident is thread.get_ident


def _own_resolver() -> Any:
    """Return the hub's resolver, None if `socket` does the same in a thread of the executor.

    The latter leaves programs the way of replacing the functions of `socket`.
    """
    resolver = get_hub().resolver
    if isinstance(resolver, ThreadResolver) and not _threads_are_greenlets():
        return None
    return resolver


class _NoSelector(selectors.BaseSelector):
    """Stands where the standard loops have their selector: the hub looks for events."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise RuntimeError("the loop has no selector: use add_reader and add_writer")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class EventLoop(_core.AsyncioLoop, Connections, Processes):
    """asyncio's event loop on the hub of the thread that runs it.

    All that `asyncio.AbstractEventLoop` has. While it runs other greenlets go on, and a blocking
    call of greenloop in a coroutine stops that coroutine alone.
    """

    _thread_id: int | None
    _default_executor: Any
    _warns_of_blocking = False

    def __init__(self) -> None:
        super().__init__(_NoSelector())

    # --- running

    def run_forever(self) -> None:
        """Run until `stop` is called.

        The calling greenlet waits; what is thrown into it meanwhile (kill, Timeout,
        KeyboardInterrupt) ends the run.
        """
        self._check_closed()
        self._check_running()
        self._thread_id = threading.get_ident()
        _private.set_running_loop(self)
        try:
            self._run_until_stopped()
        finally:
            self._thread_id = None
            _private.set_running_loop(None)

    def _enter_runner(self) -> None:
        """Set what asyncio keeps of a running loop, in a greenlet that calls its callbacks."""
        _private.set_running_loop(self)
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        depth = _private.DEBUG_STACK_DEPTH if self._debug else 0
        sys.set_coroutine_origin_tracking_depth(depth)

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode on or off."""
        self._debug = bool(enabled)
        self._set_debug(self._debug)

    @property
    def warns_of_blocking(self) -> bool:
        """Whether there is a warning in the log of asyncio when a callback or coroutine makes a
        call that has to wait, with the line where it does. Off by default.
        """
        return self._warns_of_blocking

    @warns_of_blocking.setter
    def warns_of_blocking(self, value: bool) -> None:
        self._warns_of_blocking = bool(value)
        self._set_tells_of_blocking(self._warns_of_blocking)

    def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
        """Have `create_task` call `factory(loop, coro, **kwargs)`; None for `asyncio.Task`."""
        super().set_task_factory(factory)
        self._set_has_factory(factory is not None)

    def close(self) -> None:
        """Close the loop, which must not run: drop callbacks, timers and descriptors.

        The default executor is shut down; its threads are not waited for.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        super().close()
        self._shut()

    # --- what would block

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func(*args)` in an executor; return a future.

        executor: None for the default one, which has native threads whether or not threading is
            patched.
        """
        if executor is None and self._default_executor is None and _threads_are_greenlets():
            self._check_closed()
            self._check_default_executor()
            self._default_executor = ThreadPoolExecutor(_WORKERS)
        return super().run_in_executor(executor, func, *args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Have the default executor take no more calls; wait until those it has are over.

        timeout: how many seconds to wait at most; None for no limit. When they are over there is a
            RuntimeWarning.
        """
        executor = self._default_executor
        if not isinstance(executor, ThreadPoolExecutor):
            arguments = () if timeout is None else (timeout,)
            await super().shutdown_default_executor(*arguments)
            return
        self._executor_shutdown_called = True
        closing = wrap(Greenlet.spawn(executor.shutdown), loop=self)
        done, _ = await asyncio.wait([closing], timeout=timeout)
        if not done:
            executor.shutdown(wait=False)
            warnings.warn(
                f"The executor did not finish its calls within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Look a host up as `socket.getaddrinfo` does, by the hub's resolver."""
        resolver = _own_resolver()
        if resolver is None:
            return await super().getaddrinfo(
                host, port, family=family, type=type, proto=proto, flags=flags
            )
        look_up = resolver.getaddrinfo
        return await wrap(Greenlet.spawn(look_up, host, port, family, type, proto, flags))

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """Look an address up as `socket.getnameinfo` does, by the hub's resolver."""
        resolver = _own_resolver()
        if resolver is None:
            return await super().getnameinfo(sockaddr, flags)
        return await wrap(Greenlet.spawn(resolver.getnameinfo, sockaddr, flags))

    # --- what standard loops have for their selector

    def _make_self_pipe(self) -> None:
        """Make nothing: the hub has a pipe to be woken by."""

    def _close_self_pipe(self) -> None:
        """Close nothing: see `_make_self_pipe`."""

    def _write_to_self(self) -> None:
        """Do nothing: what makes something ready wakes the hub."""

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: the hub tells handles of events."""

    # --- signals

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` in the loop when signal `sig` arrives.

        In the main thread only. ValueError is raised for what is no signal, RuntimeError for one
        that cannot be caught and in other threads.
        """
        if asyncio.iscoroutine(callback) or _private.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        before = self._signal_handlers.get(sig)
        self._signal_handlers[sig] = asyncio.Handle(callback, args, self, None)
        try:
            signal.signal(sig, self._signal_arrived)
            signal.siginterrupt(sig, False)
        except (ValueError, OSError) as error:
            if before is None:
                del self._signal_handlers[sig]
            else:
                self._signal_handlers[sig] = before
            if isinstance(error, ValueError):
                raise RuntimeError(str(error)) from None
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise

    def _signal_arrived(self, signum: int, frame: FrameType | None) -> None:
        """Python's signal handler: has the loop call ours."""
        handle = self._signal_handlers.get(signum)
        if handle is None:
            return
        if handle.cancelled():
            self.remove_signal_handler(signum)
        elif not self.is_closed():
            self.call_soon_threadsafe(handle._run)

    def remove_signal_handler(self, sig: int) -> bool:
        """Put a signal's default handler back. False if the loop had none for it."""
        self._check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        return True

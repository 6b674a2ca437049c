"""The hub: the greenlet that runs the event loop of a thread."""

from __future__ import annotations

import os
import sys
import time
import weakref
from _thread import get_ident, get_native_id
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import count
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TextIO

from greenloop import _core
from greenloop._config import config
from greenloop._core import (
    GreenletExit,
    TrackedRawGreenlet,
    Waiter,
    _kill_soon,
    _throw_next,
    _throw_now,
    get_hub,
    get_hub_if_exists,
    getcurrent,
    set_hub,
    sleep,
    spawn_raw,
)
from greenloop._core import greenlet as RawGreenlet  # noqa: N812 - gevent's name for it
from greenloop._hub_local import get_loop, set_default_hub_class, set_loop
from greenloop._ident import IdentRegistry
from greenloop._socket_event import SocketEvent
from greenloop._util import readproperty
from greenloop._wait import iwait, wait
from greenloop.exceptions import (
    BlockingSwitchOutError,
    HubDestroyed,
    InvalidThreadUseError,
    LoopExit,
)

__all__ = [
    "GreenletExit",
    "Hub",
    "HubDestroyed",
    "LoopExit",
    "RawGreenlet",
    "TrackedRawGreenlet",
    "Waiter",
    "get_hub",
    "get_hub_if_exists",
    "get_loop",
    "getcurrent",
    "idle",
    "iwait",
    "kill",
    "reinit",
    "set_default_hub_class",
    "set_hub",
    "set_loop",
    "signal",
    "sleep",
    "spawn_raw",
    "wait",
]

#: gevent's name for it, which programs read from here too.
_get_hub = get_hub_if_exists


def _new_loop(flags: Any = None, default: bool | None = None) -> Any:
    """A loop as configured, for a hub of this thread."""
    if flags is None:
        flags = config.libev_backend
    if default is None:
        # Linux numbers the main thread as the process.
        default = get_native_id() == os.getpid()
    return config.loop(flags=flags, default=default)


class Hub(_core.Hub):
    """The greenlet that runs the event loop of a thread. `get_hub()` makes it.

    Programs may subclass it, and replace its methods on an instance. (As gevent.hub.Hub.)

    loop: the loop to run, or the flags for a new one (see `greenloop.core.loop`). None for the one
        that the thread's last hub has left, or else a new one as configured.
    default: whether a new loop is the main one of the process. None for whether this is the main
        thread.
    """

    #: Exceptions that are no errors when they end a greenlet: nothing is printed.
    NOT_ERROR: ClassVar[tuple[type[BaseException], ...]] = (GreenletExit, SystemExit)

    #: Exceptions that are raised in the main greenlet, whichever greenlet they end.
    SYSTEM_ERROR: ClassVar[tuple[type[BaseException], ...]] = (
        KeyboardInterrupt,
        SystemExit,
        SystemError,
    )

    #: A name for messages.
    name = ""

    #: How many native threads the thread pool has at most.
    threadpool_size = 10

    #: The native thread that looks after the hub, if that was started.
    periodic_monitoring_thread: Any = None

    _resolver: Any = None
    _threadpool: Any = None

    _count: ClassVar[Iterator[int]] = count(1)

    def __init__(self, loop: Any = None, default: bool | None = None) -> None:
        super().__init__()
        if loop is None and default is None:
            pass
        elif isinstance(loop, _core.loop):
            if default is not None:
                raise TypeError("Unexpected argument: default")
            if self.loop is not loop:
                _core._attach_loop(self, loop)
        else:
            _core._attach_loop(self, _new_loop(loop, default))
        #: A number that no other hub of the process has.
        self.minimal_ident = next(Hub._count)
        #: A weak reference to the greenlet that needed the hub first.
        self.spawning_greenlet = weakref.ref(self.parent) if config.track_greenlet_tree else None
        #: A dict shared by all greenlets that callbacks of the loop spawn.
        self.spawn_tree_locals: dict[Any, Any] | None = {} if config.track_greenlet_tree else None
        #: The identity of the hub's thread, as from `threading.get_ident()`.
        self.thread_ident = get_ident()
        self.switch_interval = sys.getswitchinterval()

    @property
    def main_hub(self) -> bool:
        """Whether it is the hub of the program's main thread."""
        loop = self.loop
        return loop is not None and loop.default

    @property
    def backend(self) -> Any:
        """Which backends new loops may use: `config.libev_backend`. The one in use is
        `loop.backend`."""
        return config.libev_backend

    @cached_property
    def ident_registry(self) -> IdentRegistry:
        """Gives small numbers to objects of the hub's thread; Greenlets have `minimal_ident`."""
        return IdentRegistry()

    # --- errors

    @readproperty
    def exception_stream(self) -> TextIO | None:
        """Where errors are printed: sys.stderr as it is then, unless something else is assigned.
        None prints nothing."""
        return sys.stderr

    @cached_property
    def format_context(self) -> Callable[[Any], str]:
        """Makes the text for what an error is reported of; `config.format_context`."""
        made: Callable[[Any], str] = config.format_context
        return made

    def handle_error(
        self,
        context: Any,
        type: type[BaseException],
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Report an error that nobody caught. Called with every such error.

        It is printed, unless it is one of NOT_ERROR. If it is one of SYSTEM_ERROR it is raised in
        the main greenlet too.

        context: what failed, a Greenlet or callback. None for what is not the fault of a greenlet,
            for example the exception of a signal handler: that is not printed but raised in the
            main greenlet, whatever it is.
        type, value, tb: as in sys.exc_info().
        """
        type, value, tb = self._normalize_exception(type, value, tb)  # noqa: A001
        try:
            if context is not None and not issubclass(type, self.NOT_ERROR):
                self.print_exception(context, type, value, tb)
        finally:
            if issubclass(type, self.SYSTEM_ERROR) or (
                context is None and not issubclass(type, self.NOT_ERROR)
            ):
                self.handle_system_error(type, value, tb)

    def _normalize_exception(
        self,
        type: type[BaseException] | None,
        value: BaseException | str | None,
        tb: TracebackType | None,
    ) -> tuple[Any, Any, TracebackType | None]:
        """Three times None stands for the exception that is being handled."""
        if type is None and value is None and tb is None:
            return sys.exc_info()
        if isinstance(value, str) and type is not None:
            value = type(value)
        return type, value, tb

    def handle_system_error(
        self,
        type: type[BaseException],
        value: BaseException | None,
        tb: TracebackType | None = None,
    ) -> None:
        """Raise an exception in the main greenlet of the hub's thread.

        In the hub and in the main greenlet it is raised at once, from elsewhere when the running
        greenlet gives way: the main greenlet is the next to run then.
        """
        main = self.parent
        assert main is not None
        if getcurrent() in (self, main):
            _throw_now(main, type, value, tb)
        else:
            _throw_next(main, type, value, tb)

    def print_exception(
        self,
        context: Any,
        type: type[BaseException],
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Write an exception with its traceback to `exception_stream`.

        context: what failed; None if that is not known. The last line tells it, and the time.
        type, value, tb: as in sys.exc_info().
        """
        stream = self.exception_stream
        if stream is None:
            return
        import traceback

        if not isinstance(value, BaseException):
            value = type() if value is None else type(value)
        lines = traceback.format_exception(type, value, tb)
        lines.append(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        if context is not None:
            lines.append(f" {self._describe(context)} failed with {type.__name__}\n")
        lines.append("\n")
        # One call: what several threads print does not get mixed up.
        stream.write("".join(lines))

    def _describe(self, context: Any) -> str:
        if isinstance(context, str):
            return context
        if context is self:
            # The core knows that the error came up to the hub, but not from whom.
            return "a greenlet of the hub"
        try:
            return self.format_context(context)
        except Exception as error:
            # A repr() of the program's own, which must not hide what happened.
            return f"{object.__repr__(context)} (whose repr raised {error.__class__.__name__})"

    # --- waiting

    def switch_out(self) -> NoReturn:
        """What a wait in a callback of the loop comes to: raises BlockingSwitchOutError.

        A class derived from Greenlet may have a method of this name. It is called, without
        arguments, whenever a greenlet of the class leaves to wait, and must not wait itself; what
        it raises ends the wait.
        """
        raise BlockingSwitchOutError(
            "Impossible to call blocking function in the event loop callback"
        )

    def wait(self, watcher: Any) -> None:
        """Wait until a watcher's event happens. The watcher is started for that, and stopped.

        watcher: one that is not active, from `hub.loop`.
        """
        if isinstance(watcher, SocketEvent):
            watcher.wait()
            return
        waiter = Waiter()
        watcher.start(waiter.switch)
        try:
            waiter.get()
        finally:
            watcher.stop()

    def cancel_wait(
        self,
        watcher: Any,
        error: BaseException | type[BaseException],
        close_watcher: bool = False,
    ) -> None:
        """Raise an exception in the greenlet that waits for a watcher in `wait`, if there is one.

        It is raised when the hub gets to it.

        error: what to raise.
        close_watcher: close the watcher as well.
        """
        if isinstance(watcher, SocketEvent):
            watcher.cancel(error)
        elif watcher.callback is not None:
            self.loop.run_callback(self._cancel_wait, watcher, error, close_watcher)
        elif close_watcher:
            watcher.close()

    def cancel_waits_close_and_then(
        self,
        watchers: Iterable[Any],
        exc_kind: BaseException | type[BaseException],
        then: Callable[..., object],
        *then_args: Any,
    ) -> None:
        """Close watchers, raise an exception in the greenlets that wait for them, then call back.

        If nobody waits for any, all is done at once; otherwise when the hub gets to it.

        watchers: the watchers; None among them counts for nothing.
        exc_kind: what to raise.
        then: called with *then_args* when the watchers are closed.
        """
        waited_for = []
        for watcher in watchers:
            if watcher is None:
                continue
            if isinstance(watcher, SocketEvent):
                watcher.cancel(exc_kind)
            elif watcher.callback is None:
                watcher.close()
            else:
                waited_for.append(watcher)
        if waited_for:
            self.loop.run_callback(self._cancel_waits, waited_for, exc_kind, then, then_args)
        else:
            then(*then_args)

    def _cancel_waits(
        self,
        watchers: list[Any],
        error: BaseException | type[BaseException],
        then: Callable[..., object],
        then_args: tuple[Any, ...],
    ) -> None:
        for watcher in watchers:
            self._cancel_wait(watcher, error, True)
        then(*then_args)

    def _cancel_wait(
        self, watcher: Any, error: BaseException | type[BaseException], close_watcher: bool
    ) -> None:
        # It may have been stopped meanwhile, and its callback is gone with that.
        waiter = getattr(watcher.callback, "__self__", None) if watcher.active else None
        if close_watcher:
            watcher.close()
        if isinstance(waiter, Waiter):
            waiter.throw(error)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the loop has nothing left to do.

        timeout: how many seconds to wait at most; None for no limit.

        Returns whether it has nothing left to do. Raises InvalidThreadUseError in a thread that
        is not the hub's.
        """
        if self.dead:
            return True
        if get_hub_if_exists() is not self:
            raise InvalidThreadUseError(f"{self!r} can be joined in its own thread only")
        return _core._join_hub(self, timeout)

    # --- its parts

    @property
    def loop_class(self) -> Any:
        """The class of new loops: `config.loop`."""
        return config.loop

    @cached_property
    def resolver_class(self) -> Any:
        """The class of `resolver`; `config.resolver` unless something else is assigned."""
        return config.resolver

    @property
    def resolver(self) -> Any:
        """Looks up host names; made when it is first needed."""
        if self._resolver is None:
            self._resolver = self.resolver_class(hub=self)
        return self._resolver

    @resolver.setter
    def resolver(self, value: Any) -> None:
        self._resolver = value

    @resolver.deleter
    def resolver(self) -> None:
        self._resolver = None

    @cached_property
    def threadpool_class(self) -> Any:
        """The class of `threadpool`; `config.threadpool` unless something else is assigned."""
        return config.threadpool

    @property
    def threadpool(self) -> Any:
        """Native threads for what cannot be waited for otherwise; made when first needed."""
        if self._threadpool is None:
            self._threadpool = self.threadpool_class(
                self.threadpool_size,
                hub=self,
                idle_task_timeout=config.threadpool_idle_task_timeout,
            )
        return self._threadpool

    @threadpool.setter
    def threadpool(self, value: Any) -> None:
        self._threadpool = value

    @threadpool.deleter
    def threadpool(self) -> None:
        self._threadpool = None

    def start_periodic_monitoring_thread(self) -> Any:
        """Start the native thread that looks after the hub, if `config.monitor_thread` is set.

        It is started when the hub first runs, and only once. Subscribers of `greenloop.events` are
        told. To be called in the hub's thread.

        Returns its object, with `add_monitoring_function` and others; None if there is none.
        """
        if self.periodic_monitoring_thread is None and config.monitor_thread:
            from greenloop._monitor import PeriodicMonitoringThread
            from greenloop.events import (
                PeriodicMonitorThreadStartedEvent,
                notify_and_call_entry_points,
            )

            monitor = self.periodic_monitoring_thread = PeriodicMonitoringThread(self)
            if self.main_hub:
                monitor.install_monitor_memory_usage()
            notify_and_call_entry_points(PeriodicMonitorThreadStartedEvent(monitor))
        return self.periodic_monitoring_thread

    # --- its end

    def destroy(self, destroy_loop: bool | None = None) -> None:
        """Drop everything that is to run, and free what the hub uses.

        The thread has no hub then, until it needs a new one. To be called in its thread, by the
        main greenlet.

        destroy_loop: whether the loop is destroyed as well, with everything that waits. If not, the
            thread's next hub runs it on. None means all loops but the main one of the process.

        Raises InvalidThreadUseError in another thread while the hub's own runs.
        """
        if getcurrent() is self:
            raise AssertionError("the hub cannot destroy itself")
        monitor, self.periodic_monitoring_thread = self.periodic_monitoring_thread, None
        if monitor is not None:
            monitor.kill()
        if self.thread_ident != get_ident() and not self.dead:
            raise InvalidThreadUseError(f"{self!r} can be destroyed in its own thread only")
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.close()
        pool, self._threadpool = self._threadpool, None
        if pool is not None:
            pool.kill()
        loop = self.loop
        if loop is None:
            return
        if destroy_loop is None:
            destroy_loop = not loop.default
        if get_hub_if_exists() is self:
            set_hub(None)
        if not destroy_loop:
            _core._keep_loop(loop)
        elif _core._get_kept_loop() is loop:
            _core._keep_loop(None)
        _core._destroy_hub(self, destroy_loop)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.dead:
            return f"<{name} {self.name!r} at {id(self):#x} destroyed>"
        loop = self.loop
        if loop is None:
            return f"<{name} {self.name!r} at {id(self):#x} destroyed>"
        parts = [f"<{name} {self.name!r} at {id(self):#x} {loop.backend}"]
        parts.append(f"active={loop.activecnt} ready={loop.pendingcnt}")
        if self._resolver is not None:
            parts.append(f"resolver={self._resolver!r}")
        if self._threadpool is not None:
            parts.append(f"threadpool={self._threadpool!r}")
        parts.append(f"thread_ident={self.thread_ident:#x}>")
        return " ".join(parts)


set_default_hub_class(Hub)


def idle(priority: int = 0) -> None:
    """Wait until nothing else is ready to run.

    priority: taken for compatibility; all who wait so are equal. (As gevent.idle.)
    """
    _core._idle()


def kill(greenlet: Any, exception: BaseException | type[BaseException] = GreenletExit) -> None:
    """Raise an exception in a greenlet when the hub gets to it, without waiting.

    `Greenlet.kill` does more; this is for the main greenlet and those from `spawn_raw`, which do
    not have it. A Greenlet that has not begun to run never will.

    greenlet: one of any kind, dead ones included, to which nothing happens.
    exception: what to raise.

    Raises TypeError if *greenlet* is no greenlet. (As gevent.kill.)
    """
    if greenlet.dead:
        return
    method = getattr(greenlet, "kill", None)
    if method is None:
        _kill_soon(greenlet, exception)
    else:
        method(exception, block=False)


class signal:  # noqa: N801 - a function, for those who use it
    """Calls a function, in a greenlet of its own, whenever the process receives a signal.

    Only the main thread's hub receives signals. An exception of *handler* is raised in the main
    greenlet.

    signalnum: the signal's number.
    handler: the function, called with all further arguments. It may wait.

    Raises TypeError if *handler* cannot be called, ValueError if there is no such signal.
    (As gevent.signal_handler.)
    """

    #: The class of the greenlets; None for Greenlet.
    greenlet_class: ClassVar[Any] = None

    def __init__(
        self, signalnum: int, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        if not callable(handler):
            raise TypeError("signal handler must be callable.")
        self.hub = get_hub()
        self.watcher: _core.signal = self.hub.loop.signal(signalnum, ref=False)
        self.handler = handler
        self.args = args
        self.kwargs = kwargs
        self.watcher.start(self._start)

    @property
    def ref(self) -> bool:
        """Whether waiting for the signal keeps the loop running; it does not at first."""
        return self.watcher.ref

    @ref.setter
    def ref(self, value: bool) -> None:
        self.watcher.ref = value

    def cancel(self) -> None:
        """Do not call the function any more."""
        self.watcher.stop()

    def _start(self) -> None:
        greenlet_class = self.greenlet_class or _core.Greenlet
        greenlet_class.spawn(self.handle)

    def handle(self) -> None:
        """Call the function, in the current greenlet."""
        try:
            self.handler(*self.args, **self.kwargs)
        except BaseException as error:
            self.hub.handle_error(None, type(error), error, error.__traceback__)


def reinit(hub: Hub | None = None) -> None:
    """Make a hub usable in a child process after `os.fork()`.

    `os.fork` does it by itself here, so that a child never shares descriptors of the loop with
    its parent. Doing it again is harmless.

    hub: None for the hub of this thread, if it has one. (As gevent.reinit.)
    """
    if hub is None:
        hub = get_hub_if_exists()
        if hub is None:
            return
    hub.loop.reinit()
    for part in (hub._threadpool, hub._resolver, hub.periodic_monitoring_thread):
        after_fork = getattr(part, "_on_fork", None)
        if after_fork is not None:
            after_fork()

"""The native thread that looks after a hub: does it get its turn, how much memory is used?

It costs the watched thread nothing. That one's hub counts whom it lets run anyway; the monitor
thread sleeps in the core, looks at the number there without the GIL, and comes back to Python only
if the hub did nothing for `config.max_blocking_time`, or if it is time for something else.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

from greenloop import _core
from greenloop import thread as _green_thread
from greenloop import time as _green_time
from greenloop._config import config
from greenloop._tracer import GreenletTracer, blocking_report
from greenloop.events import (
    EventLoopBlocked,
    IPeriodicMonitorThread,
    MemoryUsageThresholdExceeded,
    MemoryUsageUnderThreshold,
    implementer,
    notify,
)

__all__ = ["MonitorWarning", "PeriodicMonitoringThread"]

# The originals, whatever is patched.
start_new_thread: Any = _green_thread._native_start_new_thread
thread_sleep: Any = _green_time._native_sleep
_thread_ident = _green_thread._native_get_ident

MonitoringFunction = Callable[[Any], object]

#: By the identities of their threads.
_running: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class MonitorWarning(RuntimeWarning):
    """The category of warnings about monitoring."""


class _Entry:
    """A function that is called every now and then.

    period: how often, in seconds; None for never.
    """

    __slots__ = ("function", "last_run_time", "period")

    def __init__(self, function: MonitoringFunction, period: float | None) -> None:
        self.function = function
        self.period = period
        self.last_run_time = 0.0

    def __repr__(self) -> str:
        return repr((self.function, self.period, self.last_run_time))


class _SwitchWatch:
    """Tells whether a hub gets its turn.

    hub: a `greenloop.hub.Hub`.
    """

    def __init__(self, hub: Any) -> None:
        self._watch = _core._SwitchWatch(hub)
        self.sleep = self._watch.sleep
        self.wake = self._watch.wake
        self.kill = self._watch.stop
        self.ignore_current_greenlet_blocking = self._watch.ignore_current_greenlet_blocking
        self.monitor_current_greenlet_blocking = self._watch.monitor_current_greenlet_blocking

    def did_block_hub(self, hub: Any) -> tuple[bool, Any] | None:
        greenlet = self._watch.blocking()
        return None if greenlet is None else (True, greenlet)


class _TraceWatch(GreenletTracer):
    """The same for an object that only behaves like a hub: by a trace function."""

    sleep: Any = None

    def wake(self) -> None:
        """Do nothing: the thread sleeps for short times only."""


@implementer(IPeriodicMonitorThread)
class PeriodicMonitoringThread:
    """A native thread that looks after a hub until that is gone.

    Made, and started, by `Hub.start_periodic_monitoring_thread`, in the hub's thread.
    """

    #: For how many seconds it sleeps at most.
    inactive_sleep_time = 2.0

    #: For how many seconds it sleeps at least.
    min_sleep_time = 0.005

    #: How many seconds there are at least between looks at the memory use.
    min_memory_monitor_period = 2

    def __init__(self, hub: Any) -> None:
        assert _thread_ident() == hub.thread_ident
        self._hub_wref = weakref.ref(hub, self._on_hub_gc)
        #: False when the thread is to end.
        self.should_run = True
        self._greenlet_tracer = self._watch(hub)
        self._monitoring_functions = [_Entry(self.monitor_blocking, config.max_blocking_time)]
        self._calculated_sleep_time = self._shortest_period()
        # How many bytes were in use when that was last too many; 0 when it is not.
        self._memory_exceeded = 0
        self._process: Any = None
        self._start()

    @staticmethod
    def _watch(hub: Any) -> _SwitchWatch | _TraceWatch:
        return _SwitchWatch(hub) if isinstance(hub, _core.Hub) else _TraceWatch()

    def _start(self) -> None:
        self.pid = os.getpid()
        # Ahead of time: hubs do not wait for what this thread might do.
        _core._count_watching_thread(1)
        try:
            self.monitor_thread_ident: int = start_new_thread(self._run, ())
        except BaseException:
            _core._count_watching_thread(-1)
            raise

    def _run(self) -> None:
        _running[_thread_ident()] = self
        try:
            self()
        finally:
            _running.pop(_thread_ident(), None)
            _core._count_watching_thread(-1)

    def _on_fork(self) -> None:
        # In the child, where the thread does not exist.
        if os.getpid() == self.pid or not self.should_run:
            return
        hub = self.hub
        if isinstance(self._greenlet_tracer, _SwitchWatch) and hub is not None:
            # The thread may have held its lock at the time of the fork.
            self._greenlet_tracer = self._watch(hub)
        self._process = None
        self._start()

    @property
    def hub(self) -> Any:
        """The hub; None if that is gone."""
        return self._hub_wref()

    def _shortest_period(self) -> float:
        periods = [entry.period for entry in self._monitoring_functions if entry.period]
        return min(periods, default=0)

    def monitoring_functions(self) -> list[Any]:
        """Return what is called every now and then: objects with function and period.

        The first is the one that looks for blocking greenlets; its period is
        `config.max_blocking_time`.
        """
        first = self._monitoring_functions[0]
        if first.period != config.max_blocking_time:
            first.period = config.max_blocking_time
            self._calculated_sleep_time = self._shortest_period()
        return self._monitoring_functions

    def add_monitoring_function(self, function: MonitoringFunction, period: float | None) -> None:
        """Have a function called in the monitor thread every now and then.

        function: called with the hub. It must not wait cooperatively; `hub.loop` has
            `run_callback_threadsafe` for what is to be done in the hub's thread. What it raises is
            reported by the hub. SystemExit ends the thread.
        period: how many seconds there are to be, about, from call to call. None not to call it any
            more. If the function was added before, this is its new period.

        Raises ValueError if the period is not positive, or the function cannot be called.
        """
        if not callable(function):
            raise ValueError("function must be callable")
        if period is not None and period <= 0:
            raise ValueError("Period must be positive.")
        # A new list: the thread may be going through the old one.
        functions = list(self._monitoring_functions)
        index = next((i for i, entry in enumerate(functions) if entry.function == function), None)
        if period is None:
            if index is not None and index > 0:
                del functions[index]
        elif index is None:
            functions.append(_Entry(function, period))
        else:
            functions[index] = _Entry(function, period)
        self._monitoring_functions = functions
        self._calculated_sleep_time = self._shortest_period()
        self._greenlet_tracer.wake()

    def calculate_sleep_time(self) -> float:
        """Return for how many seconds to sleep when there is something to do every time."""
        if self._calculated_sleep_time <= 0:
            return self.inactive_sleep_time
        return max(self._calculated_sleep_time, self.min_sleep_time)

    def kill(self) -> None:
        """End the thread. It may go on for a moment."""
        if self.should_run:
            self.should_run = False
            self._greenlet_tracer.kill()

    def _on_hub_gc(self, _reference: object) -> None:
        self.kill()

    # --- in the thread

    def __call__(self) -> None:
        """What the thread does."""
        try:
            while self.should_run:
                functions = self.monitoring_functions()
                blocking = self._pause(functions)
                hub = self.hub
                if hub is None or hub.dead:
                    self.kill()
                if self.should_run:
                    self._call(hub, functions, blocking)
                # Not kept alive while the thread sleeps.
                del hub
        except SystemExit:
            pass

    def _pause(self, functions: list[_Entry]) -> bool | None:
        """Sleep. Returns whether a greenlet seems to block; None if that is to be found out."""
        sleep = self._greenlet_tracer.sleep
        if sleep is None:
            thread_sleep(self.calculate_sleep_time())
            return None
        now = perf_counter()
        due = [entry.last_run_time + entry.period - now for entry in functions[1:] if entry.period]
        seconds = max(min([self.inactive_sleep_time, *due]), self.min_sleep_time)
        blocking: bool = sleep(seconds, functions[0].period or 0)
        return blocking

    def _call(self, hub: Any, functions: list[_Entry], blocking: bool | None) -> None:
        now = perf_counter()
        for index, entry in enumerate(functions):
            if index == 0 and blocking is not None:
                # The setting may have changed meanwhile.
                due = blocking and bool(config.max_blocking_time)
            else:
                due = bool(entry.period) and entry.last_run_time + (entry.period or 0) <= now
            if not due:
                continue
            entry.last_run_time = now
            try:
                entry.function(hub)
            except SystemExit:
                raise
            except BaseException as error:
                hub.handle_error(self, type(error), error, error.__traceback__)

    # --- greenlets that block

    def monitor_blocking(self, hub: Any) -> tuple[Any, list[str]] | None:
        """Report it if the hub has done nothing since the last call.

        Subscribers of `greenloop.events` get an EventLoopBlocked first; they may change the report.

        Returns the greenlet and the lines of the report; None if all is well.
        """
        blocked = self._greenlet_tracer.did_block_hub(hub)
        if not blocked:
            return None
        greenlet = blocked[1]
        options = {"greenlet_stacks": False, "current_thread_ident": self.monitor_thread_ident}
        report = blocking_report(self, hub, greenlet, options)
        notify(EventLoopBlocked(greenlet, config.max_blocking_time, report, hub=hub))
        return self._show_blocking_report(hub, report, greenlet)

    def _show_blocking_report(
        self, hub: Any, report: list[str], greenlet: Any
    ) -> tuple[Any, list[str]]:
        stream = hub.exception_stream
        if config.print_blocking_reports and stream is not None:
            # One call: what several threads print does not get mixed up.
            stream.write("\n".join(report) + "\n")
        return greenlet, report

    def ignore_current_greenlet_blocking(self) -> None:
        """Do not report the running greenlet until it waits."""
        self._greenlet_tracer.ignore_current_greenlet_blocking()

    def monitor_current_greenlet_blocking(self) -> None:
        """Report the running greenlet, if it blocks, from now on."""
        self._greenlet_tracer.monitor_current_greenlet_blocking()

    # --- memory

    def _get_process(self) -> Any:
        if self._process is None:
            self._process = _this_process()
        return self._process

    def can_monitor_memory_usage(self) -> bool:
        """Tell whether the system says how much memory is in use."""
        return self._get_process() is not None

    def install_monitor_memory_usage(self) -> None:
        """Look at the memory use every `config.memory_monitor_period` seconds.

        Issues a MonitorWarning instead if the system does not tell it.
        """
        if not self.can_monitor_memory_usage():
            warnings.warn(
                "Unable to monitor memory usage. Install psutil.", MonitorWarning, stacklevel=2
            )
            return
        period = max(config.memory_monitor_period or 0, self.min_memory_monitor_period)
        self.add_monitoring_function(self.monitor_memory_usage, period)

    def monitor_memory_usage(self, _hub: Any) -> Any:
        """Tell subscribers of `greenloop.events` if too much memory is used, or not any more.

        Returns the event; None if there is nothing new, -1 if there is no limit.
        """
        limit = config.max_memory_usage
        if not limit:
            return -1
        info = self._get_process().memory_full_info()
        usage = getattr(info, "uss", 0) or info.rss
        event: MemoryUsageThresholdExceeded | MemoryUsageUnderThreshold | None = None
        before = self._memory_exceeded
        self._memory_exceeded = usage if usage > limit else 0
        if usage > limit:
            if usage > before:
                event = MemoryUsageThresholdExceeded(usage, limit, info)
        elif before:
            event = MemoryUsageUnderThreshold(usage, limit, info, before)
        if event is not None:
            notify(event)
        return event

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} at {id(self):#x} in thread {self.monitor_thread_ident:#x} "
            f"for {self.hub!r}>"
        )


class _MemoryInfo:
    """How much memory a process uses, in bytes.

    rss: what it has in memory.
    uss: what it has for itself, and would be free if it ended.
    """

    def __init__(self, rss: int, uss: int) -> None:
        self.rss = rss
        self.uss = uss

    def __repr__(self) -> str:
        return f"memory(rss={self.rss}, uss={self.uss})"


class _LinuxProcess:
    """This process, as Linux describes it. (As psutil.Process.)"""

    PATH = "/proc/self/smaps_rollup"

    def memory_full_info(self) -> _MemoryInfo:
        """Return how much memory the process uses."""
        sizes: dict[str, int] = {}
        with open(self.PATH, encoding="ascii", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) == 3 and words[2] == "kB":
                    sizes[words[0]] = int(words[1]) * 1024
        own = sizes.get("Private_Clean:", 0) + sizes.get("Private_Dirty:", 0)
        return _MemoryInfo(sizes.get("Rss:", 0), own)


def _this_process() -> Any:
    """What tells the memory use: psutil's object if that is installed. None if nothing can."""
    try:
        import psutil
    except ImportError:
        return _LinuxProcess() if os.path.exists(_LinuxProcess.PATH) else None
    try:
        process = psutil.Process()
        process.memory_full_info()
    except psutil.AccessDenied:
        return None
    return process


def _after_fork_in_child() -> None:
    hub = _core.get_hub_if_exists()
    monitor = getattr(hub, "periodic_monitoring_thread", None)
    # A loop that is destroyed has no number.
    if hub is not None and monitor is not None and hub.loop.ptr:
        # When the hub next runs: the child may be about to execute another program.
        hub.loop.run_callback(monitor._on_fork)


os.register_at_fork(after_in_child=_after_fork_in_child)

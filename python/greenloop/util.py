"""Looking at what a program's greenlets do."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
from collections.abc import Callable
from time import perf_counter
from types import FrameType, TracebackType
from typing import Any, TextIO

from greenloop._core import get_hub
from greenloop._tree import GreenletTree
from greenloop.thread import _native_get_ident

__all__ = ["GreenletTree", "assert_switches", "format_run_info", "print_run_info", "wrap_errors"]


class wrap_errors:  # noqa: N801 - a function, for those who use it
    """A function that returns exceptions of some classes instead of raising them.

    errors: an exception class or a tuple of them.
    func: the function to call; its attributes can be read from this object too.
    """

    def __init__(
        self,
        errors: type[BaseException] | tuple[type[BaseException], ...],
        func: Callable[..., Any],
    ) -> None:
        self._errors = errors
        self._func = func
        functools.update_wrapper(self, func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; return what it returns, or raises."""
        try:
            return self._func(*args, **kwargs)
        except self._errors as error:
            return error

    def __str__(self) -> str:
        return str(self._func)

    def __repr__(self) -> str:
        return repr(self._func)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._func, name)


def print_run_info(
    thread_stacks: bool = True,
    greenlet_stacks: bool = True,
    limit: int | None = None,
    file: TextIO | None = None,
) -> None:
    """Print what format_run_info returns.

    file: where to; None for sys.stderr.
    """
    lines = format_run_info(thread_stacks, greenlet_stacks, limit)
    print("\n".join(lines), file=sys.stderr if file is None else file)


def format_run_info(
    thread_stacks: bool = True,
    greenlet_stacks: bool = True,
    limit: int | None = None,
    current_thread_ident: int | None = None,
) -> list[str]:
    """Describe all threads and all greenlets, as lines of text for people to read.

    thread_stacks: show where each thread is.
    greenlet_stacks: show where each greenlet of this thread is. Where each was spawned is shown in
        any case.
    limit: how many frames of each stack to show; None for all.
    current_thread_ident: the identity of the thread to be marked as current; None for this one.
    """
    if current_thread_ident is None:
        current_thread_ident = _native_get_ident()
    rule = "*" * 80
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    monitors = getattr(sys.modules.get("greenloop._monitor"), "_running", {})
    lines = [rule, "* Threads"]
    for ident, frame in sys._current_frames().items():
        monitor = monitors.get(ident)
        name = names.get(ident) if monitor is None else repr(monitor)
        current = ") (CURRENT" if ident == current_thread_ident else ""
        lines += [rule, f"Thread {ident:#x} ({name}{current})"]
        if thread_stacks:
            lines += "".join(traceback.format_stack(frame, limit)).splitlines()
        else:
            lines.append("\t...stack elided...")
    lines += [rule, "* Greenlets", rule]
    trees = GreenletTree.forest()
    trees.sort(key=lambda tree: "" if tree.is_current_tree else repr(tree.greenlet))
    for tree in trees:
        lines.append("---- Thread boundary")
        # Of another thread, the running greenlet does not stand still to be looked at.
        stacks = greenlet_stacks and tree.is_current_tree
        lines += tree.format_lines({"running_stacks": stacks, "running_stack_limit": limit})
    return lines


GreenletTree.__module__ = __name__

#: The former name of format_run_info.
dump_stacks = format_run_info


def clear_stack_frames(frame: FrameType | None) -> None:
    """Drop the local variables of frames, as far as that is possible: not of those that run.

    frame: the innermost frame.
    """
    while frame is not None:
        try:
            frame.clear()
        except RuntimeError:
            pass
        frame = frame.f_back


class _FailedToSwitch(AssertionError):
    """Code that should have let other greenlets run did not."""


class assert_switches:  # noqa: N801 - gevent's name for it
    """Makes sure that a piece of code lets other greenlets run.

    A context manager, which raises AssertionError at the end if there was no switch to another
    greenlet. An exception of the code is passed on.

    max_blocking_time: raise it only if no other greenlet got to run for more than so many seconds.
        The time that the hub waits for events does not count.
    hub_only: with *max_blocking_time*: the hub has to get its turn in that time, and once at least;
        other greenlets do not count.
    """

    hub: Any = None
    #: The trace function that watches, within the context.
    tracer: Any = None

    def __init__(self, max_blocking_time: float | None = None, hub_only: bool = False) -> None:
        self.max_blocking_time = max_blocking_time
        self.hub_only = hub_only
        self._entered = 0.0

    def __enter__(self) -> assert_switches:
        from greenloop import _tracer

        self.hub = get_hub()
        if not self.max_blocking_time:
            self.tracer = _tracer.GreenletTracer()
        else:
            kind = _tracer.HubSwitchTracer if self.hub_only else _tracer.MaxSwitchTracer
            self.tracer = kind(self.hub, self.max_blocking_time)
        self._entered = perf_counter()
        self.tracer.monitor_current_greenlet_blocking()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        hub, self.hub = self.hub, None
        tracer, self.tracer = self.tracer, None
        blocked = tracer.did_block_hub(hub)
        tracer.kill()
        if kind is not None or not blocked:
            return
        lines = [
            f"{'To the hub' if self.hub_only else 'To any greenlet'} "
            f"in {perf_counter() - self._entered:.4f} seconds"
        ]
        if self.max_blocking_time:
            lines[0] += f" (max allowed {self.max_blocking_time:.4f} seconds)"
        lines += tracer.did_block_hub_report(hub, blocked[1], {})
        raise _FailedToSwitch("\n".join(lines))

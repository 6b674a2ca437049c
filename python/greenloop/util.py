"""Looking at what a program's greenlets do."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Callable
from time import perf_counter
from types import FrameType, TracebackType
from typing import Any, TextIO

from greenloop._core import get_hub, getcurrent, gettrace, greenlet, settrace
from greenloop.hub import Hub

__all__ = ["assert_switches", "format_run_info", "print_run_info", "wrap_errors"]


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
    thread_stacks: bool = True, greenlet_stacks: bool = True, limit: int | None = None
) -> list[str]:
    """Describe all threads and all greenlets that have not ended, as lines of text.

    thread_stacks: the stack of each thread.
    greenlet_stacks: the stack of each greenlet.
    limit: how many frames of each stack to show; None for all.
    """
    lines: list[str] = []
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines += ["*" * 80, "* Threads", "*" * 80]
    for ident, frame in sys._current_frames().items():
        lines += ["*" * 80, f"Thread {ident:#x} ({names.get(ident, 'not known to threading')})"]
        if thread_stacks:
            lines += _stack(frame, limit)
    lines += ["*" * 80, "* Greenlets", "*" * 80]
    for found in [one for one in gc.get_objects() if isinstance(one, greenlet)]:
        if found.dead or (not found and found.gr_frame is None):
            continue
        lines += ["*" * 80, repr(found)]
        if isinstance(found, Hub):
            lines.append("the event loop of its thread")
        if found is getcurrent():
            lines.append("running")
        if greenlet_stacks and found.gr_frame is not None:
            lines += _stack(found.gr_frame, limit)
    return lines


def _stack(frame: FrameType, limit: int | None) -> list[str]:
    text = "".join(traceback.format_stack(frame, limit))
    return text.splitlines()


class _FailedToSwitch(AssertionError):
    """Code that should have let other greenlets run did not."""


class assert_switches:  # noqa: N801 - gevent's name for it
    """Makes sure that a piece of code lets other greenlets run.

    A context manager, which raises AssertionError at the end if there was no switch.

    max_blocking_time: raise it also if more than so many seconds passed without a switch.
    hub_only: count only the time that ends with a switch to the hub.
    """

    def __init__(self, max_blocking_time: float | None = None, hub_only: bool = False) -> None:
        self.max_blocking_time = max_blocking_time
        self.hub_only = hub_only
        self._switched = False
        self._longest = 0.0
        self._since = 0.0
        self._before: Any = None

    def _trace(self, event: str, args: Any) -> None:
        if event in ("switch", "throw") and (not self.hub_only or args[1] is get_hub()):
            now = perf_counter()
            self._switched = True
            self._longest = max(self._longest, now - self._since)
            self._since = now
        if self._before is not None:
            self._before(event, args)

    def __enter__(self) -> assert_switches:
        self._switched = False
        self._longest = 0.0
        self._since = perf_counter()
        self._before = gettrace()
        settrace(self._trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        settrace(self._before)
        if kind is not None:
            return
        if not self._switched:
            raise _FailedToSwitch("no other greenlet was switched to")
        longest = max(self._longest, perf_counter() - self._since)
        if self.max_blocking_time is not None and longest > self.max_blocking_time:
            raise _FailedToSwitch(
                f"no switch for {longest:.3f} seconds, more than {self.max_blocking_time}"
            )

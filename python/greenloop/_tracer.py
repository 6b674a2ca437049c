"""Trace functions that tell whether greenlets are switched often enough.

They are installed with `greenlet.settrace` when they are made, in the thread that they watch, and
call the one that was installed before.
"""

from __future__ import annotations

import sys
import traceback
from time import perf_counter
from typing import Any

from greenloop._core import getcurrent, settrace
from greenloop._util import gmctime

__all__ = ["GreenletTracer", "HubSwitchTracer", "MaxSwitchTracer", "blocking_report"]


class GreenletTracer:
    """Tells whether there was a switch since it was last asked."""

    def __init__(self) -> None:
        #: Switches since did_block_hub was last called.
        self.greenlet_switch_counter = 0
        #: The greenlet that was switched to last; None if that is not to count.
        self.active_greenlet: Any = None
        self._killed = False
        #: The trace function that was installed before, or None.
        self.previous_trace_function: Any = settrace(self)

    def __call__(self, event: str, args: Any) -> None:
        """Take note of a switch. Called by the interpreter, in the thread that is watched."""
        self._note(args[1] if event in ("switch", "throw") else None)
        if self.previous_trace_function is not None:
            self.previous_trace_function(event, args)

    def _note(self, target: Any) -> None:
        self.greenlet_switch_counter += 1
        self.active_greenlet = target

    def kill(self) -> None:
        """Install the trace function that was installed before. To be called in that thread."""
        if not self._killed:
            self._killed = True
            settrace(self.previous_trace_function)
            self.previous_trace_function = None

    def did_block_hub(self, hub: Any) -> tuple[bool, Any] | None:
        """Return (True, greenlet) if a greenlet has kept the hub from running, else None.

        hub: the thread's hub, which may run as long as it likes.
        """
        active = self.active_greenlet
        switches, self.greenlet_switch_counter = self.greenlet_switch_counter, 0
        if switches or active is None or active is hub:
            return None
        return True, active

    def ignore_current_greenlet_blocking(self) -> None:
        """Do not count the running greenlet until the next switch."""
        self.active_greenlet = None

    def monitor_current_greenlet_blocking(self) -> None:
        """Count the greenlet that calls this from now on."""
        self.active_greenlet = getcurrent()

    def did_block_hub_report(
        self, hub: Any, active_greenlet: Any, format_kwargs: dict[str, Any]
    ) -> list[str]:
        """Describe a greenlet that has kept the hub from running, as lines of text.

        hub: the hub.
        active_greenlet: the greenlet.
        format_kwargs: arguments for `greenloop.util.format_run_info`.
        """
        return blocking_report(self, hub, active_greenlet, format_kwargs)


class MaxSwitchTracer(GreenletTracer):
    """Tells whether a greenlet ever ran for too long.

    hub: the hub, which may run as long as it likes.
    max_blocking_time: how many seconds a greenlet may run.
    """

    def __init__(self, hub: Any, max_blocking_time: float) -> None:
        self.hub = hub
        self.max_blocking_time = max_blocking_time
        #: The longest time, in seconds, that a greenlet ran.
        self.max_blocking = 0.0
        self._since = perf_counter()
        super().__init__()

    def _note(self, target: Any) -> None:
        now = perf_counter()
        if self.active_greenlet is not None and self.active_greenlet is not self.hub:
            self._ran(now - self._since)
        super()._note(target)
        if self._counts_from_here(target):
            self._since = now

    def _counts_from_here(self, target: Any) -> bool:
        return True

    def _ran(self, seconds: float) -> None:
        self.max_blocking = max(self.max_blocking, seconds)

    def did_block_hub(self, hub: Any) -> tuple[bool, Any] | None:
        """Return (True, greenlet) if one has run for too long, else None."""
        if self.active_greenlet is not hub:
            self._ran(perf_counter() - self._since)
        return (True, self.active_greenlet) if self.max_blocking > self.max_blocking_time else None

    def kill(self) -> None:
        """Install the trace function that was installed before. To be called in that thread."""
        self.hub = None
        super().kill()


class HubSwitchTracer(MaxSwitchTracer):
    """Tells whether the hub ever had to wait for too long for its turn, or did not get one.

    hub: the hub.
    max_blocking_time: how many seconds greenlets may run until it is its turn.
    """

    def __init__(self, hub: Any, max_blocking_time: float) -> None:
        self._entered = False
        super().__init__(hub, max_blocking_time)

    def _note(self, target: Any) -> None:
        self._left = self.active_greenlet is self.hub
        super()._note(target)
        self._entered = self._entered or target is self.hub

    def _counts_from_here(self, target: Any) -> bool:
        return self._left

    def did_block_hub(self, hub: Any) -> tuple[bool, Any] | None:
        """Return (True, greenlet) if the hub had to wait for too long, else None."""
        blocked = super().did_block_hub(hub)
        return blocked if self._entered else (True, self.active_greenlet)


def blocking_report(
    reporter: object, hub: Any, active_greenlet: Any, format_kwargs: dict[str, Any]
) -> list[str]:
    """Describe a greenlet that keeps a hub from running, as lines of text.

    reporter: who found it.
    hub: the hub. The stack shown is the one that its thread has now.
    active_greenlet: the greenlet.
    format_kwargs: arguments for `greenloop.util.format_run_info`.
    """
    from greenloop.util import format_run_info

    lines = [
        "=" * 80,
        f"{gmctime()} : Greenlet {active_greenlet} appears to be blocked",
        f"    Reported by {reporter}",
        f"Blocked Stack (for thread id {hub.thread_ident:#x}):",
    ]
    frame = sys._current_frames().get(hub.thread_ident)
    if frame is None:
        lines.append(f"    Unknown: hub {hub!r} has no running thread")
    else:
        lines += "".join(traceback.format_stack(frame)).splitlines()
    lines.append("Info:")
    return lines + format_run_info(**format_kwargs)

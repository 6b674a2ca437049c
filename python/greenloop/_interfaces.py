"""What loops, watchers and callbacks promise, for annotations. (As gevent._interfaces.)"""

from __future__ import annotations

from greenloop import core
from greenloop.events import Attribute, Interface, implementer

__all__ = ["ICallback", "ILoop", "IWatcher"]

# ruff: noqa: N805 -- an interface has no self
# mypy: disable-error-code="no-untyped-def,misc,no-untyped-call"


class ILoop(Interface):
    """An event loop: `hub.loop`. Its methods that make watchers take `ref`, whether the watcher
    keeps the loop running, and `priority`."""

    default = Attribute("Whether it is the loop of the main thread.")

    def now():
        """The loop's time, in seconds."""

    def update_now():
        """Set the loop's time to the present."""

    def io(fd, events, ref=True, priority=None):
        """Make a watcher of a descriptor."""

    def timer(after, repeat=0.0, ref=True, priority=None):
        """Make a watcher of the time, in seconds."""

    def signal(signum, ref=True, priority=None):
        """Make a watcher of a signal."""

    def idle(ref=True, priority=None):
        """Make a watcher that is called when there is nothing else to do."""

    def prepare(ref=True, priority=None):
        """Make a watcher that is called before the loop waits."""

    def check(ref=True, priority=None):
        """Make a watcher that is called after the loop has waited."""

    def async_(ref=True, priority=None):
        """Make a watcher that other threads can wake."""

    def run_callback(func, *args):
        """Have a function called soon. Returns an ICallback."""

    def run_callback_threadsafe(func, *args):
        """Have a function called soon; from any thread. Returns an ICallback."""


class IWatcher(Interface):
    """Something that calls back when an event happens."""

    def start(callback, *args, **kwargs):
        """Call a function when the event happens, until it is stopped."""

    def stop():
        """Do not call it any more."""

    def close():
        """Give up what the watcher holds. It cannot be used after that."""


class ICallback(Interface):
    """A call that is to be made by a loop. It is true as long as it is."""

    def stop():
        """Do not make it."""

    def close():
        """As stop."""


implementer(ILoop)(core.loop)
implementer(ICallback)(core.callback)
implementer(IWatcher)(core.watcher)

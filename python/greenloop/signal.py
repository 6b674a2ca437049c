"""The standard module :mod:`signal`. (As gevent.signal.)

A handler set with `signal` is called whatever the hub waits for. If no greenlet runs when the
signal arrives, it is called in one of its own, and may wait; otherwise it interrupts the one that
runs. Watching child processes takes no signal away from anybody: handlers of SIGCHLD are called for
all children.

Handlers set with this module's `signal`, which is the standard one under patching, differ from
others in where their exceptions go. `SystemExit` and `KeyboardInterrupt` are raised in the main
greenlet, as they are in the main thread otherwise. (A thread that is a greenlet would end without a
word of SystemExit.) Others of a handler of SIGCHLD are reported by the hub, as in gevent, since no
greenlet has to do with the child that ended.

Setting handlers and raising signals in a loop lets other greenlets run in the end.

A thread that is a greenlet and blocks signals does so for itself: see `pthread_sigmask`.

`greenloop.signal_handler` calls a function in a greenlet of its own in any case.
"""

from __future__ import annotations

import signal as __signal__
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from types import FrameType
from typing import TYPE_CHECKING, Any

from greenloop._core import _after_one_of_many
from greenloop.hub import get_hub, get_hub_if_exists, getcurrent
from greenloop.thread import _here, _ThreadGreenlet

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


#: Names that replace those of the standard module when it is patched.
__implements__ = ["getsignal", "pthread_sigmask", "raise_signal", "signal"]
__extensions__: list[str] = []

#: Names taken over from the standard module as they are.
__imports__ = [
    name for name in dir(__signal__) if not name.startswith("_") and name not in __implements__
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__signal__, _name))
del _name

__all__ = sorted([*__imports__, *__implements__])

_native_signal = __signal__.signal
_native_getsignal = __signal__.getsignal
_native_pthread_sigmask = __signal__.pthread_sigmask
_native_raise_signal = __signal__.raise_signal

_Handler = Callable[[int, FrameType | None], Any]


class _Delivering:
    """What is installed for a handler: calls it and has its exceptions raised where they belong.

    function: the handler.
    """

    __slots__ = ("function",)

    def __init__(self, function: _Handler) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.function!r}>"

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        try:
            self.function(signum, frame)
        except Exception as error:
            if signum != __signal__.SIGCHLD:
                raise
            get_hub().handle_error(self.function, type(error), error, error.__traceback__)
        except (KeyboardInterrupt, SystemExit):
            hub = get_hub_if_exists()
            if hub is None or getcurrent() is hub.parent:
                raise
            is_in_hub = getcurrent() is hub
            if is_in_hub:
                # Not at once: the hub is in the middle of something.
                hub.loop.run_callback(hub.handle_system_error, *sys.exc_info())
            else:
                # What runs here is somebody else, who goes on; the main greenlet is the next. What
                # is queued would come too late: it may be about to run, and to run to its end.
                hub.handle_system_error(*sys.exc_info())


@wraps(_native_signal)
def signal(signalnum: int, handler: Any) -> Any:
    """Set what is done about a signal, and return what was before.

    signalnum: the signal's number.
    handler: a function, which is called with the number and the frame that is interrupted (None if
        no greenlet runs); or SIG_IGN or SIG_DFL.

    Raises ValueError in other threads than the main one and for what is no signal, TypeError for
    what is no handler, OSError if the system refuses.
    """
    before = _native_signal(signalnum, _Delivering(handler) if callable(handler) else handler)
    _after_one_of_many()
    return _plain(before)


@wraps(_native_raise_signal)
def raise_signal(signalnum: int, /) -> None:
    """Send a signal to this process, and have it handled before going on.

    signalnum: the signal's number.

    Raises what the handler raises, unless that is for the main greenlet; OSError if there is no
    such signal.
    """
    _native_raise_signal(signalnum)
    _after_one_of_many()


# As the standard functions in Python; that of one in C is the module it is written in.
raise_signal.__module__ = __signal__.__name__


@wraps(_native_getsignal)
def getsignal(signalnum: int) -> Any:
    """What is done about a signal: a function, SIG_IGN, SIG_DFL, or None for a handler that was not
    installed by Python."""
    return _plain(_native_getsignal(signalnum))


def _plain(handler: Any) -> Any:
    return handler.function if isinstance(handler, _Delivering) else handler


class _Mask:
    """The signals that a thread blocks which shares its native thread with others."""

    __slots__ = ("base", "own")

    def __init__(self) -> None:
        #: None before it blocks others than its native thread does.
        self.own: set[Any] | None = None
        #: What the native thread blocks otherwise, while this is in force.
        self.base: set[Any] = set()

    def change(self, how: int, mask: Iterable[int]) -> Any:
        if _here.record.signal_mask is not self:
            self.base = _native_pthread_sigmask(__signal__.SIG_BLOCK, ())
            if self.own is not None:
                _native_pthread_sigmask(__signal__.SIG_SETMASK, self.own)
            _here.record.signal_mask = self
            get_hub().loop.run_callback(self.lay_aside)
        before = _native_pthread_sigmask(how, mask)
        self.own = _native_pthread_sigmask(__signal__.SIG_BLOCK, ())
        return before

    def lay_aside(self) -> None:
        """Let the native thread have its own."""
        if _here.record.signal_mask is self:
            _here.record.signal_mask = None
            _native_pthread_sigmask(__signal__.SIG_SETMASK, self.base)


@wraps(_native_pthread_sigmask)
def pthread_sigmask(how: int, mask: Iterable[int]) -> Any:
    """Change which signals the calling thread blocks, and return those that it did before.

    A thread that is a greenlet shares its native thread with others, maybe with the whole program,
    which has to get its signals. So what such a thread blocks is blocked until it lets others run,
    and for processes that it starts until then. Any other greenlet, the main one before all,
    changes what its native thread blocks.

    how: SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK.
    mask: signals' numbers.

    Raises ValueError for numbers that are no signals, OSError if *how* is none of the three.
    """
    current = getcurrent()
    mine: _Mask | None = None
    if isinstance(current, _ThreadGreenlet):
        mine = current.signal_mask = current.signal_mask or _Mask()
    in_force: _Mask | None = _here.record.signal_mask
    if in_force is not None and in_force is not mine:
        in_force.lay_aside()
    return (_native_pthread_sigmask if mine is None else mine.change)(how, mask)

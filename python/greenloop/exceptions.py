"""Exceptions that are greenloop's own. (Names and bases as in gevent.exceptions.)

The core raises these too: it imports them from here when it first needs one.
"""

from __future__ import annotations

from greenloop._core import GreenletExit

__all__ = [
    "BlockingSwitchOutError",
    "ConcurrentObjectUseError",
    "DropInError",
    "HubDestroyed",
    "InvalidSwitchError",
    "InvalidThreadUseError",
    "LoopExit",
]


class LoopExit(Exception):
    """The event loop has nothing left that could wake the greenlet that waits.

    The message names the greenlets that wait, what each waits on, and where. ``args[1]`` is the
    hub.
    """

    @property
    def hub(self) -> object:
        """The hub whose loop ran out of work."""
        return self.args[1] if len(self.args) > 1 else None

    def __str__(self) -> str:
        if not self.args:
            return ""
        return "\n\t".join(str(arg) for arg in self.args)


class BlockingSwitchOutError(AssertionError):
    """A function that waits was called in the hub, for example by a watcher's callback."""


class InvalidSwitchError(AssertionError):
    """A greenlet that waits was switched to by somebody who does not end its wait."""


class ConcurrentObjectUseError(AssertionError):
    """Two greenlets use an object at the same time that only one may use."""


class InvalidThreadUseError(RuntimeError):
    """An object was used from a thread that it does not belong to."""


class DropInError(RuntimeError):
    """greenloop cannot stand in for gevent and greenlet in this process.

    Either the real gevent or greenlet was imported first, or child processes were asked for
    and the start-up hook they need is not installed. Nothing has been changed.
    """


class HubDestroyed(GreenletExit):
    """Raised in the hub's greenlet when the hub is destroyed. ``args[0]`` tells to destroy the
    loop as well."""

    def __init__(self, destroy_loop: bool | None) -> None:
        super().__init__(destroy_loop)
        self.destroy_loop = destroy_loop


class InvalidClientInput(OSError):
    """The body of a request is malformed; raised by what reads it."""


class WebSocketError(OSError):
    """A WebSocket is closed, or its client breaks the protocol.

    code: what it is closed with, see RFC 6455, 7.4; 1005 if the client has not said, 1006 if the
    connection has just ended.
    """

    def __init__(self, message: str, code: int) -> None:
        # As the one argument: OSError would take two for a number and a text.
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[WebSocketError], tuple[str, int]]:
        return type(self), (str(self), self.code)


class InvalidClientRequest(ValueError):
    """A client has sent a request that is malformed, or has not sent all of it in time.

    status: the number to answer with. reason: what is wrong.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason

"""One side of a socket, as gevent's `_read_event` and `_write_event` show it.

There a socket has a watcher for each direction, that its calls start and stop; programs wait for
these watchers, cancel the waits for them, and ask them who waits. Here calls wait without any: this
answers in their place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenloop.core import loop
    from greenloop.socket import socket

READ = 1
WRITE = 2


class SocketEvent:
    """What a greenlet waits for in a call of a socket: that it can be read, or written."""

    __slots__ = ("_socket", "events")

    #: 1 for reading, 2 for writing.
    events: int

    def __init__(self, socket: socket, events: int) -> None:
        self._socket = socket
        self.events = events

    def __repr__(self) -> str:
        side = "reading" if self.events == READ else "writing"
        return f"<{type(self).__name__} for {side} {self._socket!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SocketEvent):
            return NotImplemented
        return self._socket is other._socket and self.events == other.events

    def __hash__(self) -> int:
        return hash((id(self._socket), self.events))

    @property
    def fd(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._socket.fileno()

    @property
    def loop(self) -> loop:
        """The loop of the calling thread's hub."""
        own: loop = self._socket.hub.loop
        return own

    @property
    def ref(self) -> bool:
        """Whether waiting keeps the loop running: the socket's `ref`."""
        return self._socket.ref

    @ref.setter
    def ref(self, value: bool) -> None:
        self._socket.ref = value

    @property
    def active(self) -> bool:
        """Whether a greenlet waits."""
        return self._socket._state.waiting(self.events) is not None

    @property
    def callback(self) -> Callable[..., Any] | None:
        """What is called on the event: `switch` of the greenlet that waits; None if none does."""
        waiting = self._socket._state.waiting(self.events)
        return None if waiting is None else waiting.switch

    def wait(self) -> None:
        """Block the calling greenlet until the event happens, whatever the socket's timeout.

        Raises ConcurrentObjectUseError if another greenlet waits for it already, OSError (EBADF) if
        the socket is closed, or is closed meanwhile.
        """
        if self.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._socket._state.wait_ready(self._socket, self.events)

    def cancel(self, error: type[BaseException] | BaseException) -> None:
        """Raise an exception in the greenlet that waits, if one does."""
        if isinstance(error, type):
            error = error()
        self._socket._state.throw(self.events, error)

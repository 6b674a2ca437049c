"""What transports do that is not done for every message: how they look, and what is told of errors.

Called by the core (`crates/python/src/aio/transport`).
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any

from greenloop.asyncio import _private
from greenloop.asyncio._streams import adopt
from greenloop.asyncio._tls import adopt_tls

if TYPE_CHECKING:
    from contextvars import Context

    from greenloop import _core

    _AnyTransport = _core.StreamTransport | _core.DatagramTransport

__all__ = [
    "SENDFILE_MODE",
    "DatagramTransport",
    "abandon",
    "adopt_tls",
    "describe",
    "detach",
    "failed",
    "log",
    "make_datagram_transport",
    "make_stream_transport",
    "report",
    "settle",
    "unclosed",
    "written_in_vain",
]

SENDFILE_MODE = _private.SENDFILE_TRY_NATIVE

#: From so many writes to a lost connection on the log tells of each.
VAIN_WRITES = 5


class DatagramTransport(asyncio.DatagramTransport, _private.FlowControl):  # type: ignore[misc]
    """What transports of datagrams are for `isinstance`: none of them is made from this class."""


def _known(sock: socket.socket, extra: dict[str, Any] | None) -> dict[str, Any]:
    """Return what `get_extra_info` tells of a socket."""
    extra = {} if extra is None else dict(extra)
    extra["socket"] = _private.TransportSocket(sock)
    try:
        extra["sockname"] = sock.getsockname()
    except OSError:
        extra["sockname"] = None
    if "peername" not in extra:
        try:
            extra["peername"] = sock.getpeername()
        except OSError:
            extra["peername"] = None
    return extra


def make_stream_transport(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[Any] | None = None,
    extra: dict[str, Any] | None = None,
    server: Any = None,
    context: Context | None = None,
) -> _core.StreamTransport:
    """Make the transport of a connected socket: its protocol is told, then it is read from.

    waiter: a future that is done then. context: what the protocol is called in, a copy of the
        current one if it is None.
    """
    from greenloop import _core

    adopt(protocol, loop)
    extra = _known(sock, extra)
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.proto in (0, socket.IPPROTO_TCP):
        # What is written is meant to be sent, however little it is.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = _core.StreamTransport(loop, sock, protocol, extra, server, context)
    if server is not None:
        _private.attach(server, transport)
    loop._transports[transport._sock_fd] = transport
    transport._start()
    if waiter is not None:
        loop.call_soon(settle, waiter)
    return transport


def _has_own_methods(sock: Any) -> bool:
    """Whether a class written in Python does something else with datagrams than the system.

    That of a proxy's client, for one, has each begin with a header.
    """
    methods = (getattr(type(sock), name, None) for name in ("recvfrom", "send", "sendto"))
    return not all(isinstance(method, MethodDescriptorType) for method in methods)


def make_datagram_transport(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.DatagramProtocol,
    address: Any = None,
    waiter: asyncio.Future[Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> _core.DatagramTransport:
    """Make the transport of a datagram socket: its protocol is told, then it is read from.

    address: the only one that may be sent to, if it is not None. waiter: as above. The protocol is
        called in a copy of the current context.
    """
    from greenloop import _core

    transport = _core.DatagramTransport(
        loop, sock, protocol, address, _known(sock, extra), by_methods=_has_own_methods(sock)
    )
    loop._transports[transport._sock_fd] = transport
    transport._start()
    if waiter is not None:
        loop.call_soon(settle, waiter)
    return transport


def describe(transport: _AnyTransport) -> str:
    """Return what `repr` says of a transport."""
    parts = [type(transport).__name__]
    if transport._sock is None:
        parts.append("closed")
    elif transport.is_closing():
        parts.append("closing")
    parts.append(f"fd={transport._sock_fd}")
    if transport._sock is not None:
        size = transport.get_write_buffer_size()
        parts.append(f"read={'polling' if transport.is_reading() else 'idle'}")
        parts.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
    return f"<{' '.join(parts)}>"


def log(transport: _AnyTransport, message: str) -> None:
    """In debug mode: log what a transport does."""
    _private.logger.debug("%r %s", transport, message)


def failed(transport: _AnyTransport, error: BaseException, message: str) -> None:
    """Tell of an error that ends a connection.

    What the system or the other side can cause is no fault of the program's, and logged in debug
    mode only.
    """
    loop = transport._loop
    if not isinstance(error, OSError):
        report(transport, error, message)
    elif loop.get_debug():
        _private.logger.debug("%r: %s", transport, message, exc_info=error)


def report(transport: _AnyTransport, error: BaseException, message: str) -> None:
    """Tell the loop's exception handler of an error."""
    transport._loop.call_exception_handler(
        {
            "message": message,
            "exception": error,
            "transport": transport,
            "protocol": transport._protocol,
        }
    )


def written_in_vain(writes: int) -> None:
    """Tell of one more write to a lost connection."""
    if writes >= VAIN_WRITES:
        _private.logger.warning("socket.send() raised exception.")


def settle(waiter: asyncio.Future[Any]) -> None:
    """Have a future be done, unless it is."""
    if not waiter.done():
        waiter.set_result(None)


def abandon(waiter: asyncio.Future[Any]) -> None:
    """Tell who waits for everything to be sent that it will not be."""
    if not waiter.done():
        waiter.set_exception(ConnectionError("Connection is closed by peer"))


def detach(server: Any, transport: _core.StreamTransport) -> None:
    """Tell a server that a connection of it has ended."""
    _private.detach(server, transport)


def unclosed(kind: str, fd: int, sock: socket.socket, server: Any) -> None:
    """Warn of a transport that was dropped and not closed, and close its socket."""
    warnings.warn(f"unclosed transport <{kind} fd={fd}>", ResourceWarning, stacklevel=2)
    if sock.fileno() >= 0:
        sock.close()
    # Else the collector has found both, and the socket's finalizer has closed it: what is left of
    # it may not have what `close` looks at.
    if server is not None:
        # It is gone from what the server has, which only has to look.
        _private.detach(server, sock)

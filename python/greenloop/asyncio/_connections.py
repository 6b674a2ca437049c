"""What makes the transports of connections."""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextvars import Context, copy_context
from typing import Any

from greenloop.asyncio import _private
from greenloop.asyncio._streams import adopt
from greenloop.asyncio._tls import SSLProtocol
from greenloop.asyncio._transports import make_datagram_transport, make_stream_transport

__all__ = ["Connections"]


@contextlib.contextmanager
def _held(sock: Any) -> Iterator[None]:
    """Have a socket stay open in the block if it is closed meanwhile, as `makefile` does.

    Otherwise nobody would ever wake who waits for it. Closing one of ours does.
    """
    # By its type: tests of asyncio have objects that say they are sockets.
    is_standard = issubclass(type(sock), _socket.socket) and hasattr(sock, "_io_refs")
    if not is_standard or hasattr(sock, "_state"):
        yield
        return
    sock._io_refs += 1
    try:
        yield
    finally:
        sock._io_refs = max(sock._io_refs - 1, 0)
        if sock._closed:
            sock.close()


class Connections(_private.StandardLoop):  # type: ignore[misc]
    """A standard loop, but for its transports of sockets.

    `create_connection`, `create_server`, `create_datagram_endpoint` and their like come to these
    methods once they have a socket that is ready for use. `context` is given from CPython 3.15 on.
    """

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket, which stays open until that is over."""
        with _held(sock):
            await super().sock_connect(sock, address)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; the socket stays open until there is one."""
        with _held(sock):
            accepted: tuple[socket.socket, Any] = await super().sock_accept(sock)
        return accepted

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return make_stream_transport(self, sock, protocol, waiter, extra, server, context)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return make_datagram_transport(self, sock, protocol, address, waiter, extra)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | bool | None,
        waiter: asyncio.Future[Any] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        adopt(protocol, self)
        tls = SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        tls._context = copy_context() if context is None else context
        make_stream_transport(self, rawsock, tls, None, extra, server, tls._context)
        return tls._app_transport

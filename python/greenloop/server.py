"""Servers of connections, plain and TLS, and of datagrams. (As gevent.server.)

::

    from greenloop.server import StreamServer

    def echo(sock, address):
        while data := sock.recv(65536):
            sock.sendall(data)

    StreamServer(("127.0.0.1", 6000), echo).serve_forever()
"""

from __future__ import annotations

import _socket
import errno
import os
import socket as __socket__
import stat
from collections.abc import Callable
from contextlib import closing
from typing import Any

from greenloop import _core
from greenloop.baseserver import BaseServer
from greenloop.lock import Semaphore
from greenloop.socket import _connection, socket

__all__ = ["DatagramServer", "StreamServer"]


class _SocketServer(BaseServer):
    """A server that makes its socket when it is started, unless it is given one."""

    #: Whether the address may be one that sockets had which are not quite gone (SO_REUSEADDR); for
    #: a Unix-domain socket, whether a path that nobody listens on is replaced.
    reuse_addr: int | None = 1
    #: Whether several servers may listen on the same address, processes that each get a share
    #: (SO_REUSEPORT).
    reuse_port = False

    _type: int
    #: Device and inode of the path that the server has made for a Unix-domain socket, and the
    #: process that it did it in.
    _path: tuple[tuple[int, int] | None, int] | None = None

    @classmethod
    def _bound(cls, address: Any, family: int | None) -> socket:
        """A new socket that is bound to an address. If the family is None, it goes by the
        address."""
        if family is None:
            family = _family_of(address)
        try:
            sock = socket(family, cls._type)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT or not _is_any(address, family):
                raise
            # All addresses are those of IPv4 where there is no IPv6.
            family = __socket__.AF_INET
            sock = socket(family, cls._type)
        try:
            if family == __socket__.AF_UNIX:
                if cls.reuse_addr:
                    _remove_unused(address)
            elif cls.reuse_addr is not None:
                sock.setsockopt(__socket__.SOL_SOCKET, __socket__.SO_REUSEADDR, cls.reuse_addr)
            if cls.reuse_port:
                sock.setsockopt(__socket__.SOL_SOCKET, __socket__.SO_REUSEPORT, 1)
            if _is_any(address, family):
                sock.setsockopt(__socket__.IPPROTO_IPV6, __socket__.IPV6_V6ONLY, 0)
            try:
                # The C class' own method: starting a server lets nobody else run, not even to look
                # up a name such as "localhost".
                _socket.socket.bind(sock, address)
            except OSError as error:
                if error.strerror is not None:
                    error.strerror = f"{error.strerror}: {address!r}"
                raise
        except BaseException:
            sock.close()
            raise
        return sock

    def _made(self, sock: socket) -> None:
        """Take a socket that has been made for the server's address."""
        self.socket = sock
        self.address = sock.getsockname()
        if self.family == __socket__.AF_UNIX:
            self._path = _file_at(self.address), os.getpid()

    def close(self) -> None:
        """Accept nothing any more, and close the socket. Handlers go on.

        A path that the server has made for a Unix-domain socket is removed.
        """
        super().close()
        made, self._path = self._path, None
        if made is None or made[0] is None:
            return
        if made == (_file_at(self.address), os.getpid()):
            os.unlink(self.address)


def _family_of(address: Any) -> int:
    if isinstance(address, tuple):
        return __socket__.AF_INET6 if not address[0] or ":" in address[0] else __socket__.AF_INET
    return __socket__.AF_UNIX


def _is_any(address: Any, family: int) -> bool:
    """Whether an address means all of the machine, of IPv6 and of IPv4."""
    return family == __socket__.AF_INET6 and not address[0]


def _file_at(path: Any) -> tuple[int, int] | None:
    """Device and inode of the socket at a path; None if there is none."""
    if not path or path[0] in ("\0", 0):
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _remove_unused(path: Any) -> None:
    """Remove a path that is a Unix-domain socket on which nobody listens."""
    if _file_at(path) is None:
        return
    for kind in (__socket__.SOCK_STREAM, __socket__.SOCK_DGRAM):
        with closing(_socket.socket(__socket__.AF_UNIX, kind)) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except OSError:
                continue  # It is of the other kind, or too busy to answer.


class StreamServer(_SocketServer):
    """A server of connections: TCP, or streams of Unix-domain sockets.

    listener: the address to listen on, see `baseserver.parse_address`; or a socket that is bound to
        one.
    handle: called for each connection with its socket and the address of the peer, in a greenlet of
        its own. The socket is closed when it returns. A derived class may have a method `handle`
        instead.
    backlog: how many connections may wait to be accepted; None for the class' `backlog`. Not for a
        socket that is given.
    spawn: how handlers are started, see `BaseServer`.
    ssl_args: make it a TLS server. `ssl_context`: the context. Or `certfile`, and `keyfile`,
        `cert_reqs`, `ca_certs`, `ciphers`, `ssl_version`, to make one of. Others are arguments of
        `SSLContext.wrap_socket`: `do_handshake_on_connect`, `suppress_ragged_eofs`. The handshake
        is part of handling: whoever is slow at it holds up nobody.

    Raises TypeError and ValueError for arguments that do not fit; what making a context raises.
    """

    #: How many connections may wait to be accepted.
    backlog = 128

    _type = __socket__.SOCK_STREAM

    #: For `wrap_socket`; None without TLS.
    ssl_args: dict[str, Any] | None = None
    #: Makes a TLS socket of a socket; takes `ssl_args` as well.
    wrap_socket: Callable[..., Any]

    def __init__(
        self,
        listener: Any,
        handle: Callable[..., Any] | None = None,
        backlog: int | None = None,
        spawn: Any = "default",
        **ssl_args: Any,
    ) -> None:
        if ssl_args:
            from greenloop import _server_tls

            self.wrap_socket, self.ssl_args = _server_tls.wrapper(ssl_args)
        super().__init__(listener, handle, spawn)
        if backlog is not None:
            if not self.closed:
                raise TypeError("backlog must be None when a socket instance is passed")
            self.backlog = backlog

    @property
    def ssl_enabled(self) -> bool:
        """Whether it is a TLS server."""
        return self.ssl_args is not None

    @classmethod
    def get_listener(
        cls, address: Any, backlog: int | None = None, family: int | None = None
    ) -> socket:
        """Return a new socket that listens.

        address: a tuple of host and port, or the path of a Unix-domain socket.
        backlog: how many connections may wait to be accepted; None for the class' `backlog`.
        family: the address' family; None to go by the address.

        Raises OSError.
        """
        sock = cls._bound(address, family)
        try:
            sock.listen(cls.backlog if backlog is None else backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def init_socket(self) -> None:
        """Make the socket that is listened on, or have the one that was given listen."""
        if self.closed:
            self._made(self.get_listener(self.address, self.backlog, self.family))
            return
        sock = self.socket
        if not sock.getsockopt(__socket__.SOL_SOCKET, __socket__.SO_ACCEPTCONN):
            sock.listen(self.backlog)
        if not isinstance(sock, socket):
            sock.setblocking(False)

    def do_read(self) -> tuple[Any, ...] | None:
        """Accept a connection: return its socket and the address of the peer, or None."""
        listener = self.socket
        pair = _core._accept_pending(listener.fileno(), self.family)
        if pair is None:
            return None
        fd, address = pair
        connection = _connection(listener, fd)
        return connection, connection.getpeername() if address is None else address

    def _has_more(self) -> bool:
        return _core._is_readable(self.socket.fileno())

    def do_close(self, *args: Any) -> None:
        """Close the connection."""
        args[0].close()

    def _handler(self) -> Callable[..., Any]:
        return self.handle if self.ssl_args is None else self.wrap_socket_and_handle

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        """Make a TLS socket of a connection's, call the handler, and close it."""
        with closing(self.wrap_socket(client_socket, **(self.ssl_args or {}))) as sock:
            result = self.handle(sock, address)
            self._end_tls(sock)
            return result

    def _end_tls(self, sock: Any) -> None:
        """Tell the peer that nothing follows. Where a handler fails, it is left to think that it
        was cut off."""
        from greenloop import _server_tls

        _server_tls.say_goodbye(sock)


class DatagramServer(_SocketServer):
    """A server of datagrams: UDP, or datagrams of Unix-domain sockets.

    listener: the address to receive at, see `baseserver.parse_address`; or a socket that is bound
        to one.
    handle: called for each datagram with its bytes and the address of the sender. A derived class
        may have a method `handle` instead.
    spawn: how handlers are started, see `BaseServer`.

    Raises TypeError and ValueError for arguments that do not fit.
    """

    #: Bytes that are received of a datagram at most: what is beyond is lost. There are no larger
    #: ones on UDP.
    max_size = 65535

    _type = __socket__.SOCK_DGRAM

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writelock = Semaphore()

    @classmethod
    def get_listener(cls, address: Any, family: int | None = None) -> socket:
        """Return a new socket that is bound to an address.

        address: a tuple of host and port, or the path of a Unix-domain socket.
        family: the address' family; None to go by the address.

        Raises OSError.
        """
        return cls._bound(address, family)

    def init_socket(self) -> None:
        """Make the socket that is received at, unless one was given."""
        if self.closed:
            self._made(self.get_listener(self.address, self.family))
        elif not isinstance(self.socket, socket):
            self.socket.setblocking(False)

    def do_read(self) -> tuple[Any, ...] | None:
        """Receive a datagram: return its bytes and the address of the sender, or None."""
        try:
            # The C class' own method, which never waits: descriptors are non-blocking.
            data, address = _socket.socket.recvfrom(self.socket, self.max_size)
        except BlockingIOError:
            return None
        return data, address

    def sendto(self, *args: Any) -> int:
        """Send a datagram from the server's address; arguments and result as those of
        `socket.sendto`. Greenlets that do it at the same time take turns."""
        with self._writelock:
            count: int = self.socket.sendto(*args)
        return count

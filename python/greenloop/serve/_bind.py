"""Addresses that are listened on, and the sockets for them."""

from __future__ import annotations

import array
import os
import select
import socket
import stat
import struct
from collections.abc import Iterable
from typing import Literal, NamedTuple

__all__ = ["Binding", "Listener", "ListenerError", "listen", "parse_bind"]


class Binding(NamedTuple):
    """What can be listened on."""

    kind: Literal["tcp", "unix", "fd"]
    #: The host, or the path of a Unix-domain socket.
    host: str
    #: The port, or the number of a descriptor.
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.host}"
        if self.kind == "fd":
            return f"fd://{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


class ListenerError(Exception):
    """An address cannot be listened on; the message is for the user."""


def parse_bind(text: str) -> Binding:
    """What a text stands for: HOST:PORT, [IPv6]:PORT, *:PORT or :PORT for all addresses of the
    machine, unix:PATH, fd://N. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):
            path = path.removeprefix("//")
        if not path or "\0" in path:
            raise ValueError(f"expected a path after unix:, in {text!r}")
        if len(os.fsencode(path)) > 107:
            raise ValueError(f"the path of a Unix-domain socket has 107 bytes at most: {path!r}")
        return Binding("unix", path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"expected the number of a descriptor after fd://, in {text!r}")
        return Binding("fd", "", int(number))
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets: [{host}]:{port}")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"expected HOST:PORT, [IPv6]:PORT, unix:PATH or fd://N, not {text!r}")
    return Binding("tcp", "" if host == "*" else host, int(port))


class Listener:
    """A socket that is listened on, which all workers share.

    They inherit the one of the supervisor: connections wait in one queue, which goes on when a
    worker ends, however it does. With a socket for each worker (SO_REUSEPORT) those that wait for
    a worker that dies are lost.
    """

    def __init__(self, binding: Binding, sock: socket.socket) -> None:
        self.binding = binding
        self.socket = sock
        self._path: tuple[int, int] | None = None
        if binding.kind == "unix":
            status = os.stat(binding.host)
            self._path = status.st_dev, status.st_ino

    def __str__(self) -> str:
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{self.socket.getsockname()}"
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def refuse_new(self) -> None:
        """Let no connection come any more, but keep those that wait to be accepted.

        Closing would reset them. So for TCP the packets are dropped from now on that would begin a
        connection; after the end they are answered: refused. A socket that somebody else has given
        stays as it is, as he may still use it.
        """
        if self.binding.kind == "unix":
            self.remove_path()
        elif self.binding.kind == "tcp":
            # One instruction, "return 0": BPF_RET | BPF_K.
            program = array.array("B", struct.pack("=HBBI", 0x06, 0, 0, 0))
            address, _ = program.buffer_info()
            self.socket.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, address)
            )

    def remove_path(self) -> None:
        """Remove the path of a Unix-domain socket, if it is still this one's."""
        if self._path is None:
            return
        try:
            status = os.stat(self.binding.host)
            if (status.st_dev, status.st_ino) == self._path:
                os.unlink(self.binding.host)
        except FileNotFoundError:
            pass
        self._path = None


_SO_ATTACH_FILTER = 26


def are_waiting(listeners: Iterable[Listener]) -> bool:
    """Whether connections wait to be accepted, on sockets that nobody else will accept from."""
    poll = select.poll()
    for listener in listeners:
        if listener.binding.kind != "fd":
            poll.register(listener.socket, select.POLLIN)
    return bool(poll.poll(0))


def listen(binding: Binding, backlog: int, reuse_port: bool) -> Listener:
    """Listen on an address.

    backlog: how many connections may wait. reuse_port: whether other servers may listen on the same
    port.

    Raises ListenerError.
    """
    try:
        if binding.kind == "fd":
            return Listener(binding, _inherited(binding.port, backlog))
        if binding.kind == "unix":
            return Listener(binding, _unix(binding.host, backlog))
        return Listener(binding, _tcp(binding, backlog, reuse_port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenerError(f"cannot listen on {binding}: {reason}") from None


def _tcp(binding: Binding, backlog: int, reuse_port: bool) -> socket.socket:
    found = socket.getaddrinfo(
        binding.host or None, binding.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    if not binding.host:
        # All addresses: those of IPv4 too, where there is IPv6.
        found.sort(key=lambda info: info[0] != socket.AF_INET6)
    family, _, _, _, address = found[0]
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if len(found) == 1:
            raise
        family, _, _, _, address = found[-1]
        sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(binding.host)))
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
        except FileNotFoundError:
            is_socket = False
        if is_socket and _nobody_listens(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _inherited(number: int, backlog: int) -> socket.socket:
    sock = socket.socket(fileno=number)
    try:
        if sock.type != socket.SOCK_STREAM:
            raise OSError("it is not a socket of streams")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(backlog)
    except BaseException:
        sock.detach()
        raise
    return sock

"""Measurements for a StatsD."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["Statsd", "resolve"]

#: What goes into one datagram, in bytes: it fits into a packet of Ethernet.
_MAX_DATAGRAM = 1432


class Statsd:
    """Collects measurements, and sends several in a datagram.

    address: host and port. prefix: what names begin with.

    The host is looked up with the first datagram, and again as long as that fails: what is measured
    must not keep a server from serving.
    """

    def __init__(self, address: tuple[str, int], prefix: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._prefix = prefix
        self._lines: list[str] = []
        self._size = 0

    def count(self, status: int, seconds: float) -> None:
        """Tell of a request."""
        self._add(f"{self._prefix}.requests:1|c")
        self._add(f"{self._prefix}.request.status.{status}:1|c")
        self._add(f"{self._prefix}.request.duration:{seconds * 1000:.3f}|ms")

    def gauge(self, name: str, value: int) -> None:
        """Tell of a number that goes up and down."""
        self._add(f"{self._prefix}.{name}:{value}|g")

    def _add(self, line: str) -> None:
        if self._size + len(line) + 1 > _MAX_DATAGRAM:
            self.flush()
        self._lines.append(line)
        self._size += len(line) + 1

    def flush(self) -> None:
        """Send what has been collected. What cannot be sent is lost, as is StatsD's way."""
        if not self._lines:
            return
        data = "\n".join(self._lines).encode()
        self._lines.clear()
        self._size = 0
        try:
            if self._socket is None:
                self._socket = self._connected()
            self._socket.send(data, socket.MSG_DONTWAIT)
        except OSError:
            pass

    def _connected(self) -> socket.socket:
        family, _, _, _, target = resolve(self._address)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.connect(target)
        except BaseException:
            sock.close()
            raise
        return sock


def resolve(address: tuple[str, int]) -> tuple[Any, ...]:
    """Look up where to send datagrams. Raises OSError."""
    return socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]

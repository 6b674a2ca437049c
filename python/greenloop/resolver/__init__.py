"""How host names are looked up: one class a module, chosen with `config.resolver`.

(As gevent.resolver.)
"""

from __future__ import annotations

import _socket
from typing import Any

__all__ = ["AbstractResolver"]


class AbstractResolver:
    """A resolver: the look-ups of the standard socket module, with its arguments, results (plain
    ints in place of enum members) and errors, blocking the calling greenlet only.

    A class of a program's own need not derive from this one. If it does, `getaddrinfo` is enough to
    look up names; without the other two, `gethostbyaddr` and `getnameinfo` raise
    NotImplementedError. It is called with the keyword argument `hub`.
    """

    def __init__(self, hub: Any = None) -> None:
        self.hub = hub

    def close(self) -> None:
        """Give up what the resolver holds: called when its hub is destroyed. Does nothing here."""

    def gethostbyname(self, hostname: str) -> str:
        """The IPv4 address of a host: the first that `gethostbyname_ex` finds."""
        return self.gethostbyname_ex(hostname)[2][0]

    def gethostbyname_ex(self, hostname: str) -> tuple[str, list[str], list[str]]:
        """`(name, aliases, addresses)` of a host, without aliases: what `getaddrinfo` finds."""
        found = self.getaddrinfo(
            hostname, None, _socket.AF_INET, _socket.SOCK_STREAM, 0, _socket.AI_CANONNAME
        )
        return found[0][3] or hostname, [], [sockaddr[0] for *_, sockaddr in found]

    def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[int, int, int, str, Any]]:
        """The addresses of a host and service: `(family, type, proto, canonname, sockaddr)`."""
        raise NotImplementedError(f"{type(self).__qualname__} has no getaddrinfo()")

    def gethostbyaddr(self, ip_address: str) -> tuple[str, list[str], list[str]]:
        """`(name, aliases, addresses)` of the host with an address."""
        raise NotImplementedError(f"{type(self).__qualname__} has no gethostbyaddr()")

    def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """`(host, port)` of a socket address."""
        raise NotImplementedError(f"{type(self).__qualname__} has no getnameinfo()")

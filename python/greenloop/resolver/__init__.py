"""How host names are looked up: one class a module, chosen with `hub.resolver_class`.

(As gevent.resolver.)
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["AbstractResolver"]


class AbstractResolver(Protocol):
    """What a resolver does: the lookups of the standard socket module, with its arguments, results
    (plain ints in place of enum members) and errors, blocking the calling greenlet only."""

    def close(self) -> None:
        """Give up what the resolver holds."""

    def gethostbyname(self, hostname: str) -> str:
        """The IPv4 address of a host."""

    def gethostbyname_ex(self, hostname: str) -> tuple[str, list[str], list[str]]:
        """`(name, aliases, addresses)` of a host."""

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

    def gethostbyaddr(self, ip_address: str) -> tuple[str, list[str], list[str]]:
        """`(name, aliases, addresses)` of the host with an address."""

    def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """`(host, port)` of a socket address."""

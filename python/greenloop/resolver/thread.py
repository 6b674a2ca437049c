"""Lookups by the system's own resolver, in native threads. (As gevent.resolver.thread.)"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

from greenloop.resolver._numeric import name_to_look_up, without_lookup

if TYPE_CHECKING:
    from greenloop.hub import Hub

__all__ = ["Resolver"]

_T = TypeVar("_T")

# Bound here, before anything is patched.
_getaddrinfo = _socket.getaddrinfo
_gethostbyname = _socket.gethostbyname
_gethostbyname_ex = _socket.gethostbyname_ex
_gethostbyaddr = _socket.gethostbyaddr
_getnameinfo = _socket.getnameinfo


class Resolver:
    """Runs the lookups of the C library in the hub's thread pool.

    Lookups that ask nobody, because the host is given in digits, are made in place.
    """

    def __init__(self, hub: Hub | None = None) -> None:
        if hub is None:
            from greenloop.hub import get_hub

            hub = get_hub()
        self.pool = hub.threadpool

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} pool={self.pool!r}>"

    def _apply(self, function: Callable[..., _T], *args: Any) -> _T:
        result: _T = self.pool.apply(function, args)
        return result

    def close(self) -> None:
        """Does nothing: the pool is the hub's."""

    def gethostbyname(self, hostname: str) -> str:
        """The IPv4 address of a host."""
        if name_to_look_up(hostname, _socket.AF_INET) is None:
            return _gethostbyname(hostname)
        return self._apply(_gethostbyname, hostname)

    def gethostbyname_ex(self, hostname: str) -> tuple[str, list[str], list[str]]:
        """`(name, aliases, addresses)` of a host."""
        # What is special to one function need not be to another: "" is an address, but not a name.
        if hostname and name_to_look_up(hostname, _socket.AF_INET) is None:
            return _gethostbyname_ex(hostname)
        return self._apply(_gethostbyname_ex, hostname)

    def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[int, int, int, str, Any]]:
        """The addresses of a host and service."""
        flags = index(flags)
        known = without_lookup(host, port, family, socktype, proto, flags)
        if known is not None:
            return known
        return self._apply(_getaddrinfo, host, port, family, socktype, proto, flags)

    def gethostbyaddr(self, ip_address: str) -> tuple[str, list[str], list[str]]:
        """`(name, aliases, addresses)` of the host with an address."""
        return self._apply(_gethostbyaddr, ip_address)

    def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """`(host, port)` of a socket address."""
        flags = index(flags)
        if flags & _socket.NI_NUMERICHOST:
            return _getnameinfo(sockaddr, flags)
        # Raises what is wrong with the arguments.
        _getnameinfo(sockaddr, (flags | _socket.NI_NUMERICHOST) & ~_socket.NI_NAMEREQD)
        return self._apply(_getnameinfo, sockaddr, flags)

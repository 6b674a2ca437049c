"""Lookups that block the whole thread: for comparison, and for programs that must not have
threads. (As gevent.resolver.blocking.)"""

from __future__ import annotations

import _socket

__all__ = ["Resolver"]


class Resolver:
    """The functions of the C library, called in place."""

    def __init__(self, hub: object = None) -> None:
        pass

    def close(self) -> None:
        """Does nothing."""

    # Bound here, before anything is patched.
    gethostbyname = staticmethod(_socket.gethostbyname)
    gethostbyname_ex = staticmethod(_socket.gethostbyname_ex)
    getaddrinfo = staticmethod(_socket.getaddrinfo)
    gethostbyaddr = staticmethod(_socket.gethostbyaddr)
    getnameinfo = staticmethod(_socket.getnameinfo)


_getaddrinfo = _socket.getaddrinfo


def is_numeric(host: object, family: int = 0) -> bool:
    """Whether a host (of a family, any by default) is an address in digits, which is not looked
    up but converted."""
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    # IPv4 begins with a digit in all its spellings, IPv6 has colons.
    if not isinstance(host, str) or not (host[:1].isdigit() or ":" in host):
        return False
    try:
        _getaddrinfo(host, None, family, 0, 0, _socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True

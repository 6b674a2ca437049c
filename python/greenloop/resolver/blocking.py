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

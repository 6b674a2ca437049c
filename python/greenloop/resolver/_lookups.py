"""The functions of the standard socket module on top of `_core.NameResolver`.

That finds hosts. What is here makes its findings what the C library and the socket module make of
them. Whatever needs no host to be found is left to these: they are asked with flags with which they
look nothing up, so errors, services and addresses in digits are theirs.
"""

from __future__ import annotations

import _socket
from operator import index
from typing import Any

from greenloop import _core
from greenloop.resolver import AbstractResolver
from greenloop.resolver._numeric import getaddrinfo, name_to_look_up, without_lookup

__all__ = ["LookupResolver"]

# Bound here, before anything is patched.
_gethostbyname = _socket.gethostbyname
_gethostbyname_ex = _socket.gethostbyname_ex
_gethostbyaddr = _socket.gethostbyaddr
_getnameinfo = _socket.getnameinfo
_gethostname = _socket.gethostname

_AF_INET = _socket.AF_INET
_AF_INET6 = _socket.AF_INET6

# Why a host is not found: the numbers that gethostbyname has for it.
_HOST_NOT_FOUND = 1
_TRY_AGAIN = 2
_NO_RECOVERY = 3
_NO_DATA = 4

#: The same as numbers of getaddrinfo.
_GAI_ERRORS = {
    _HOST_NOT_FOUND: _socket.EAI_NONAME,
    _TRY_AGAIN: _socket.EAI_AGAIN,
    # What the C library makes of it.
    _NO_RECOVERY: _socket.EAI_NONAME,
    _NO_DATA: getattr(_socket, "EAI_NODATA", _socket.EAI_NONAME),
}

# Flags of glibc that the socket module has no names for.
_AI_IDN = 0x40
_AI_CANONIDN = 0x80
_NI_IDN = 0x20

_Host = tuple[str, list[str], list[str]]


class LookupResolver(AbstractResolver):
    """A resolver that finds hosts itself. Subclasses say how, by `names`."""

    #: What finds hosts.
    names: _core.NameResolver

    def close(self) -> None:
        """Forget what has been asked."""
        self.names.clear()

    # How failures are told. gevent has a class that tells them otherwise.

    def _gai_failure(self, why: int) -> Exception:
        """The error for a host that getaddrinfo does not find; `why` is a number of h_errno."""
        number = _GAI_ERRORS[why]
        return _socket.gaierror(number, _core.gai_strerror(number))

    def _name_failure(self, why: int) -> Exception:
        """The error for a host that gethostbyname does not find."""
        return self._gai_failure(why)

    def gethostbyname(self, hostname: str) -> str:
        """The IPv4 address of a host."""
        name = name_to_look_up(hostname, _AF_INET)
        if name is None:
            return _gethostbyname(hostname)
        found = self.names.addresses(name, _AF_INET)
        if isinstance(found, int):
            raise self._name_failure(found)
        return found[2][0]

    def gethostbyname_ex(self, hostname: str) -> _Host:
        """`(name, aliases, addresses)` of a host."""
        name = name_to_look_up(hostname, _AF_INET)
        if name is None:
            return _gethostbyname_ex(hostname)
        found = self.names.host(name, _AF_INET)
        if isinstance(found, int):
            raise self._name_failure(found)
        return found

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
        assert host is not None
        name = host.encode("idna") if isinstance(host, str) else bytes(host)
        # The C library reads so far.
        name = name.partition(b"\0")[0]
        if flags & _AI_IDN and not name.isascii():
            name = name.decode().encode("idna")
        found = self.names.addresses(name, family, flags) if name else _HOST_NOT_FOUND
        if isinstance(found, int):
            raise self._gai_failure(found)
        canonical, _, addresses = found
        if not flags & _socket.AI_CANONNAME:
            canonical = ""
        elif flags & _AI_CANONIDN:
            canonical = canonical.encode().decode("idna")
        # Which types, protocols and ports there are depends on the family only.
        flags &= _socket.AI_NUMERICSERV
        entries: list[tuple[int, int, int, str, Any]] = []
        services: dict[int, list[tuple[int, int, Any]]] = {}
        for address in addresses:
            af = _AF_INET6 if ":" in address else _AF_INET
            if af not in services:
                any_host = "::" if af == _AF_INET6 else "0.0.0.0"
                services[af] = [
                    (kind, protocol, sockaddr[1])
                    for _, kind, protocol, _, sockaddr in getaddrinfo(
                        any_host, port, af, socktype, proto, flags | _socket.AI_NUMERICHOST
                    )
                ]
            for kind, protocol, number in services[af]:
                sockaddr: Any = (address, number)
                if af == _AF_INET6:
                    sockaddr += (0, 0)
                entries.append((af, kind, protocol, canonical, sockaddr))
                # It is told once.
                canonical = ""
        return entries

    def gethostbyaddr(self, ip_address: str) -> _Host:
        """`(name, aliases, addresses)` of the host with an address."""
        address = self._address(ip_address)
        if address is None:
            return _gethostbyaddr(ip_address)
        found = self.names.reverse(address.partition("%")[0])
        if isinstance(found, int):
            raise _socket.herror(found, _core.hstrerror(found))
        return found

    def _address(self, host: Any) -> str | None:
        """The address of a host that is given in digits or by its name; None for what the standard
        function is to refuse."""
        if host in ("<broadcast>", b"<broadcast>"):
            return "255.255.255.255"
        name = name_to_look_up(host)
        if name is not None:
            found = self.names.addresses(name, 0)
            if isinstance(found, int):
                raise self._gai_failure(found)
            return found[2][0]
        if not host or not isinstance(host, (str, bytes, bytearray)):
            return None
        digits = host if isinstance(host, str) else bytes(host)
        try:
            known: Any = getaddrinfo(digits, None, 0, 0, 0, _socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            return None
        address: str = known[0][4][0]
        return address

    def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """`(host, port)` of a socket address."""
        flags = index(flags)
        if flags & _socket.NI_NUMERICHOST:
            return _getnameinfo(sockaddr, flags)
        numeric = (flags | _socket.NI_NUMERICHOST) & ~_socket.NI_NAMEREQD
        host, service = _getnameinfo(sockaddr, numeric)
        found = self.names.reverse(host.partition("%")[0])
        if not isinstance(found, int):
            host = found[0]
            if flags & _socket.NI_NOFQDN:
                host = self._without_domain(host)
            if flags & _NI_IDN:
                host = host.encode().decode("idna")
        elif found == _TRY_AGAIN:
            raise self._gai_failure(found)
        elif flags & _socket.NI_NAMEREQD:
            raise self._gai_failure(_HOST_NOT_FOUND)
        return host, service

    def _without_domain(self, name: str) -> str:
        """A host's name without the domain of this host, if it is in that."""
        domain = self._own_domain()
        if domain and name.endswith(f".{domain}"):
            return name[: -len(domain) - 1]
        return name

    def _own_domain(self) -> str:
        """The domain of this host: where the C library finds it, in the same order."""
        found = self.names.host(b"localhost", _AF_INET)
        if not isinstance(found, int) and "." in found[0]:
            return found[0].partition(".")[2]
        own = _gethostname()
        if "." in own:
            return own.partition(".")[2]
        for found in (self.names.host(own.encode(), _AF_INET), self.names.reverse("127.0.0.1")):
            if not isinstance(found, int) and "." in found[0]:
                return found[0].partition(".")[2]
        return ""

"""What the C library says of host names without looking them up: addresses in digits are converted,
and arguments that cannot be are refused."""

from __future__ import annotations

import _socket
from typing import Any

__all__ = ["getaddrinfo", "is_numeric", "name_to_look_up", "without_lookup"]

# Bound here, before anything is patched.
getaddrinfo = _socket.getaddrinfo
_inet_pton = _socket.inet_pton

#: A host, service or flags that only one of the standard functions understands: it is asked, which
#: does not take long, as it finds that there is nothing to look up.
Answer = list[tuple[int, int, int, str, Any]]


def is_numeric(host: object, family: int = 0) -> bool:
    """Whether a host (of a family, any by default) is an address in digits, which is not looked
    up but converted."""
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    # IPv4 begins with a digit in all its spellings, IPv6 has colons.
    if not isinstance(host, str) or not (host[:1].isdigit() or ":" in host):
        return False
    if family != _socket.AF_INET6 and _is_dotted_quad(host):
        return True
    try:
        getaddrinfo(host, None, family, 0, 0, _socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def _is_dotted_quad(host: str) -> bool:
    """Whether a host is an IPv4 address as it is mostly written: a tenth of the time that asking
    getaddrinfo takes, which encodes names first."""
    try:
        _inet_pton(_socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def without_lookup(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int,
    type: int,
    proto: int,
    flags: int,
) -> Answer | None:
    """The result of getaddrinfo if there is no name to look up, else None.

    Raises what getaddrinfo does for what is wrong with the arguments, the service included. (The
    names of services are in a file.)
    """
    try:
        return getaddrinfo(host, port, family, type, proto, flags | _socket.AI_NUMERICHOST)
    except _socket.gaierror as error:
        is_name = error.errno == _socket.EAI_NONAME and host is not None
        if not is_name or flags & _socket.AI_NUMERICHOST:
            raise
    if flags & _socket.AI_NUMERICSERV:
        # The same error is that of a service that is not in digits.
        flags = _socket.AI_NUMERICHOST | _socket.AI_NUMERICSERV
        getaddrinfo(None, port, 0, type, proto, flags)
    return None


def name_to_look_up(host: object, family: int = 0) -> bytes | None:
    """The name of a host as it is looked up, for the functions other than getaddrinfo.

    None for what the standard function deals with without looking it up: addresses (of a family),
    the special names that are "" and "<broadcast>", and what it refuses.
    """
    if isinstance(host, str):
        try:
            name = host.encode("idna")
        except UnicodeError:
            return None
    elif isinstance(host, (bytes, bytearray)):
        name = bytes(host)
    else:
        return None
    if not name or name == b"<broadcast>" or b"\0" in name:
        return None
    try:
        getaddrinfo(name, None, family, 0, 0, _socket.AI_NUMERICHOST)
    except _socket.gaierror as error:
        if error.errno == _socket.EAI_NONAME:
            return name
    return None

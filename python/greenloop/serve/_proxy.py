"""What proxies tell of the client, and which peers are believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Peers", "apply_forwarded"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What a header Host can be: a name or an address, and a port.
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Peers:
    """The peers that are believed.

    networks: theirs. local: whether those of Unix-domain sockets are. everyone: whether all are.
    """

    def __init__(self, networks: tuple[_Network, ...], local: bool, everyone: bool) -> None:
        self._networks = networks
        self._local = local
        self._everyone = everyone
        # Peers are few, as proxies are; an address is looked at once. Not without bound.
        self._known: dict[str, bool] = {}

    @classmethod
    def parse(cls, text: str) -> Peers:
        """Those of a list: addresses, networks, "unix", "*", separated by commas. Raises
        ValueError."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        networks = []
        for word in words:
            if word in ("*", "unix"):
                continue
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError as error:
                raise ValueError(f"{error}; expected addresses, networks, unix or *") from None
        return cls(tuple(networks), "unix" in words, "*" in words)

    def trusts(self, host: str) -> bool:
        """Whether a peer is believed. host: its address, empty for a Unix-domain socket's."""
        known = self._known.get(host)
        if known is None:
            known = self._look_up(host)
            if len(self._known) < 4096:
                self._known[host] = known
        return known

    def _look_up(self, host: str) -> bool:
        if self._everyone:
            return True
        if not host:
            return self._local
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> _Address | None:
    try:
        # Without the zone of "fe80::1%eth0".
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # IPv4 on a socket of IPv6.
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _without_port(text: str) -> str:
    """The address of an item of X-Forwarded-For, where some proxies add the port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        return text.partition(":")[0]
    return text


def _last(text: str) -> str:
    """What the nearest proxy says, of a list that each adds to."""
    return text.rpartition(",")[2].strip()


@dataclass(frozen=True)
class Forwarded:
    """What proxies that are believed tell of a request; None where nothing is told."""

    client: str | None
    scheme: str | None
    host: str | None

    @classmethod
    def read(cls, peer: str, header: Callable[[str], str], peers: Peers) -> Forwarded:
        """What is told of a request.

        peer: the address of who has sent it, empty for a Unix-domain socket's. header: returns the
        value of a header, empty if it is not there.

        The client is the last of X-Forwarded-For that is not believed itself: what stands before it
        may be made up. Of X-Forwarded-Proto and -Host the last item counts. What is not an
        address, a scheme of HTTP, or a host, is passed over.
        """
        if not peers.trusts(peer):
            return cls(None, None, None)
        client = None
        forwarded = header("x-forwarded-for")
        for item in reversed(forwarded.split(",") if forwarded else []):
            address = _without_port(item.strip())
            if _address(address) is None:
                break
            client = address
            if not peers.trusts(address):
                break
        scheme = _last(header("x-forwarded-proto")).lower()
        host = _last(header("x-forwarded-host"))
        return cls(
            client,
            scheme if scheme in ("http", "https") else None,
            host if host and _HOST.fullmatch(host) else None,
        )


def _name_and_port(host: str, is_secure: bool) -> tuple[str, str]:
    """The two parts of a header Host."""
    name, _, port = host.rpartition(":") if not host.endswith("]") else ("", "", "")
    return (name, port) if name else (host, "443" if is_secure else "80")


def apply_forwarded(environ: dict[str, Any], peers: Peers) -> None:
    """Have an environment tell of the client, if the peer is a proxy that is believed."""

    def header(name: str) -> str:
        value: str = environ.get("HTTP_" + name.upper().replace("-", "_"), "")
        return value

    told = Forwarded.read(environ.get("REMOTE_ADDR", ""), header, peers)
    if told.client is not None:
        environ["REMOTE_ADDR"] = told.client
        # The port of the proxy's connection says nothing of the client.
        environ.pop("REMOTE_PORT", None)
    if told.scheme is not None:
        environ["wsgi.url_scheme"] = told.scheme
    if told.host is not None:
        environ["HTTP_HOST"] = told.host
        is_secure = environ.get("wsgi.url_scheme") == "https"
        environ["SERVER_NAME"], environ["SERVER_PORT"] = _name_and_port(told.host, is_secure)


def with_forwarded(application: Callable[..., Any], peers: Peers) -> Callable[..., Any]:
    """An application that is told of the client instead of the proxy."""

    def behind_proxy(environ: dict[str, Any], start_response: Any) -> Any:
        apply_forwarded(environ, peers)
        return application(environ, start_response)

    return behind_proxy


def apply_forwarded_to_scope(scope: dict[str, Any], peers: Peers) -> None:
    """As `apply_forwarded`, for the scope of an ASGI application."""

    def header(name: str) -> str:
        values = [value for key, value in scope["headers"] if key == name.encode()]
        return b",".join(values).decode("latin-1")

    client = scope["client"]
    told = Forwarded.read("" if client is None else client[0], header, peers)
    if told.client is not None:
        scope["client"] = (told.client, 0)
    if told.scheme is not None:
        is_socket = scope["type"] == "websocket"
        scope["scheme"] = told.scheme.replace("http", "ws") if is_socket else told.scheme
    if told.host is not None:
        others = [pair for pair in scope["headers"] if pair[0] != b"host"]
        scope["headers"] = [(b"host", told.host.encode("latin-1")), *others]
        name, port = _name_and_port(told.host, scope["scheme"] in ("https", "wss"))
        scope["server"] = (name, int(port))


def with_forwarded_scope(application: Callable[..., Any], peers: Peers) -> Callable[..., Any]:
    """An ASGI application that is told of the client instead of the proxy."""

    def behind_proxy(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        apply_forwarded_to_scope(scope, peers)
        return application(scope, receive, send)

    return behind_proxy

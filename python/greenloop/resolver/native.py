"""Look-ups that make their own queries: no threads, and what is known is not asked again.

They read what the C library reads (`/etc/resolv.conf`, `hosts`, `nsswitch.conf`, `host.conf`,
`gai.conf`) and do what it does, but keep answers for as long as these hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from greenloop import _core
from greenloop._config import config
from greenloop.resolver._lookups import LookupResolver

if TYPE_CHECKING:
    from greenloop.hub import Hub

__all__ = ["Resolver"]


class Resolver(LookupResolver):
    """Asks name servers through the hub.

    hub: taken for the sake of `Hub.resolver_class`; look-ups wait in the hub of the thread that
    makes them. What follows is as `/etc/resolv.conf` says where it is None.

    servers: the addresses of the name servers to ask ("10.0.0.1", "10.0.0.1:5353", "::1",
    "[::1]:5353"): a list, or one text with commas. By default config.resolver_nameservers.
    timeout: for how many seconds to wait for the first server's answer. By default
    config.resolver_timeout.
    tries: how many times to ask each server.
    ndots: names with so many dots are tried as they are before the domains of the search list.
    search: the domains of the search list.
    rotate: whether to begin with another server each time.
    edns: whether to take answers of more than 512 bytes over UDP.
    tcp: whether to ask over TCP in any case.
    recurse: whether servers are to ask others, as those do that programs usually ask.
    first_only: whether to ask no server but the first.
    retry_over_tcp: whether to ask again over TCP if an answer is longer than a datagram; if not,
    such answers count as none.
    udp_port, tcp_port: the port of servers that are given without one; 53 by default.
    cache_size: how many answers to keep; 0 for none.
    directory: where `resolv.conf`, `hosts`, `nsswitch.conf`, `host.conf` and `gai.conf` are.

    Raises ValueError for what is no address, or not positive.
    """

    def __init__(
        self,
        hub: Hub | None = None,
        *,
        servers: str | Iterable[str] | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        ndots: int | None = None,
        search: Iterable[str] | None = None,
        rotate: bool | None = None,
        edns: bool | None = None,
        tcp: bool | None = None,
        recurse: bool = True,
        first_only: bool = False,
        retry_over_tcp: bool = True,
        udp_port: int | None = None,
        tcp_port: int | None = None,
        cache_size: int = 1000,
        directory: str = "/etc",
    ) -> None:
        super().__init__(hub)
        if servers is None:
            servers = config.resolver_nameservers or None
        if isinstance(servers, str):
            servers = servers.split(",")
        if timeout is None:
            timeout = config.resolver_timeout
        options = {
            "servers": None if servers is None else list(servers),
            "timeout": timeout,
            "tries": tries,
            "ndots": ndots,
            "search": None if search is None else list(search),
            "rotate": rotate,
            "edns": edns,
            "tcp": tcp,
            "recurse": recurse,
            "first_only": first_only,
            "retry_over_tcp": retry_over_tcp,
            "udp_port": udp_port,
            "tcp_port": tcp_port,
        }
        self.names = _core.NameResolver(options, directory, cache_size)

    def __repr__(self) -> str:
        try:
            servers = ", ".join(address for address, _, _ in self.names.servers)
        except AttributeError:
            servers = "not ready"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x} {servers}>"

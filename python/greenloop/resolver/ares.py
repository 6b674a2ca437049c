"""The native resolver under gevent's name for its own, with that one's arguments. (As
gevent.resolver.ares.)

c-ares is not used. What its settings mean, they mean here as well.
"""

from __future__ import annotations

import _socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from greenloop._config import config
from greenloop.resolver.native import Resolver as _Native

if TYPE_CHECKING:
    from greenloop.hub import Hub

__all__ = ["Resolver"]

# Flags of c-ares that say something to a resolver: ask over TCP, only the first server, do not ask
# again over TCP, do not have servers ask others, do not search, EDNS. The others are about how
# c-ares goes about it.
_USE_TCP = 1 << 0
_FIRST_ONLY = 1 << 1
_IGNORE_TRUNCATION = 1 << 2
_NO_RECURSION = 1 << 3
_NO_SEARCH = 1 << 5
_EDNS = 1 << 8

#: What c-ares calls it if no server answers.
_TIMED_OUT = (12, "ARES_ETIMEOUT: no name server has answered")
_TRY_AGAIN = 2


class Resolver(_Native):
    """Asks name servers through the hub, as `greenloop.resolver.native.Resolver` does.

    hub: as there.
    use_environ: whether the settings of config that begin with ares_ count where an argument is not
    given. (They can come from the environment.)
    flags: flags of c-ares.
    servers, timeout, tries, ndots, udp_port, tcp_port: as there; no servers are those of
    `/etc/resolv.conf`.

    If no server answers gethostbyname raises herror, the others gaierror, both with c-ares' number,
    as with gevent. Raises TypeError for other arguments.
    """

    def __init__(
        self,
        hub: Hub | None = None,
        use_environ: bool = True,
        *,
        flags: int | None = None,
        servers: str | Iterable[str] | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        ndots: int | None = None,
        udp_port: int | None = None,
        tcp_port: int | None = None,
    ) -> None:
        def setting(name: str, given: Any) -> Any:
            return getattr(config, name) if given is None and use_environ else given

        def number(name: str, given: int | None) -> int | None:
            value = setting(name, given)
            return None if value in (None, "") else int(value)

        timeout = setting("ares_timeout", timeout)
        bits = number("ares_flags", flags) or 0
        super().__init__(
            hub,
            servers=setting("ares_servers", servers) or None,
            timeout=float(timeout) if timeout else None,
            tries=number("ares_tries", tries),
            ndots=number("ares_ndots", ndots),
            udp_port=number("ares_udp_port", udp_port),
            tcp_port=number("ares_tcp_port", tcp_port),
            tcp=True if bits & _USE_TCP else None,
            first_only=bool(bits & _FIRST_ONLY),
            retry_over_tcp=not bits & _IGNORE_TRUNCATION,
            recurse=not bits & _NO_RECURSION,
            search=() if bits & _NO_SEARCH else None,
            edns=True if bits & _EDNS else None,
        )

    def _gai_failure(self, why: int) -> Exception:
        return _socket.gaierror(*_TIMED_OUT) if why == _TRY_AGAIN else super()._gai_failure(why)

    def _name_failure(self, why: int) -> Exception:
        return _socket.herror(*_TIMED_OUT) if why == _TRY_AGAIN else super()._name_failure(why)

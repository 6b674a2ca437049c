"""Look-ups whose queries dnspython makes (https://www.dnspython.org), version 2 or later. (As
gevent.resolver.dnspython.)

Its asynchronous resolver is told how to open sockets and to wait by an object: ours does so
cooperatively and never suspends the coroutine. So nothing has to be patched, and programs that use
dnspython themselves are not affected.
"""

from __future__ import annotations

import _socket
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.inet
import dns.rdatatype
import dns.resolver

from greenloop import _core
from greenloop._config import config
from greenloop.greenlet import Greenlet, killall
from greenloop.resolver._lookups import LookupResolver

if TYPE_CHECKING:
    from greenloop.hub import Hub
    from greenloop.socket import socket

__all__ = ["Resolver"]

_T = TypeVar("_T")

# As in netdb.h.
_HOST_NOT_FOUND = 1
_TRY_AGAIN = 2
_NO_RECOVERY = 3
_NO_DATA = 4


class Resolver(LookupResolver):
    """Asks name servers through dnspython.

    Where to look, which names to ask for, and what is made of the answers is as with the native
    resolver; whom to ask and how is dnspython's business, which reads `/etc/resolv.conf` once.

    hub: taken for the sake of `Hub.resolver_class`.

    `resolver` is the dns.asyncresolver.Resolver, which may be changed. config.resolver_nameservers
    and config.resolver_timeout are put into it.
    """

    def __init__(self, hub: Hub | None = None) -> None:
        super().__init__(hub)
        self.resolver = dns.asyncresolver.Resolver()
        self.resolver.cache = dns.resolver.LRUCache()
        if config.resolver_nameservers:
            self.resolver.nameservers = list(config.resolver_nameservers)
        if config.resolver_timeout:
            self.resolver.lifetime = config.resolver_timeout
        own = weakref.ref(self)

        # Weakly: the garbage collector does not see what the core refers to.
        def ask(name: str, kinds: list[str]) -> list[Any]:
            resolver = own()
            assert resolver is not None, "its look-up is under way"
            return resolver._ask(name, kinds)

        self.names = _core.NameResolver({"servers": None}, ask=ask)

    def close(self) -> None:
        """Forget what has been asked."""
        super().close()
        self.resolver.cache = dns.resolver.LRUCache()

    def _ask(self, name: str, kinds: list[str]) -> list[Any]:
        """What the function `ask` of NameResolver is to return."""
        others = [Greenlet.spawn(self._ask_one, name, kind) for kind in kinds[1:]]
        try:
            first = [self._ask_one(name, kind) for kind in kinds[:1]]
            return first + [other.get() for other in others]
        finally:
            killall(others, block=False)

    def _ask_one(self, name: str, kind: str) -> tuple[list[str], list[str]] | int | None:
        try:
            answer = _run(
                self.resolver.resolve(
                    f"{name}.", kind, raise_on_no_answer=False, search=False, backend=_BACKEND
                )
            )
        except dns.resolver.NXDOMAIN:
            return _HOST_NOT_FOUND
        except dns.exception.Timeout:
            return None
        except (dns.resolver.NoNameservers, OSError):
            return _TRY_AGAIN
        except dns.exception.DNSException:
            return _NO_RECOVERY
        if answer.rrset is None:
            # The C library says so if all there is are other names.
            return _HOST_NOT_FOUND if answer.response.answer else _NO_DATA
        stands_for = [_text(alias[0].target) for alias in answer.chaining_result.cnames]
        if kind == "PTR":
            return stands_for, [_text(item.target) for item in answer.rrset]
        return stands_for, [item.address for item in answer.rrset]


def _text(name: Any) -> str:
    text: str = name.to_text(omit_final_dot=True)
    return text


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never suspends itself, as it waits in other ways."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        coroutine.close()
    raise RuntimeError("dnspython waits for something other than its backend")


class _Socket:
    """A cooperative socket as dnspython's backends have them."""

    def __init__(self, sock: socket) -> None:
        self.family = sock.family
        self.type = sock.type
        self._socket = sock

    def _limit(self, timeout: float | None) -> socket:
        self._socket.settimeout(None if timeout is None else max(timeout, 0.0))
        return self._socket

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        with _times(timeout):
            sock = self._limit(timeout)
            return sock.send(what) if destination is None else sock.sendto(what, destination)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        with _times(timeout):
            return self._limit(timeout).recvfrom(size)

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        with _times(timeout):
            self._limit(timeout).sendall(what)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        with _times(timeout):
            return self._limit(timeout).recv(size)

    async def close(self) -> None:
        self._socket.close()

    async def getpeername(self) -> Any:
        return self._socket.getpeername()

    async def getsockname(self) -> Any:
        return self._socket.getsockname()


# dnspython's types do not say that these classes may be used.
class _DatagramSocket(_Socket, dns.asyncbackend.DatagramSocket):  # type: ignore[name-defined,misc]
    pass


class _StreamSocket(_Socket, dns.asyncbackend.StreamSocket):  # type: ignore[name-defined,misc]
    pass


class _times:  # noqa: N801 -- reads as a statement
    """Makes the errors of sockets whose time is over those of dnspython."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: object) -> None:
        # Without any time left a socket says that it would have to wait.
        if isinstance(error, (TimeoutError, BlockingIOError)):
            raise dns.exception.Timeout(  # type: ignore[no-untyped-call]
                timeout=self.timeout
            ) from None


class _Backend(dns.asyncbackend.Backend):  # type: ignore[name-defined,misc]
    """How dnspython opens sockets and waits."""

    def name(self) -> str:
        return "greenloop"

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> Any:
        from greenloop.socket import socket

        if ssl_context is not None:
            # dnspython does not hand its backend on to queries over TLS, so none come here.
            raise NotImplementedError("this backend makes no connections with TLS")
        sock: Any = socket(af, socktype, proto)
        try:
            if source:
                sock.bind(dns.inet.low_level_address_tuple(source, af))
            if socktype == _socket.SOCK_DGRAM:
                if destination is not None:
                    sock.connect(dns.inet.low_level_address_tuple(destination, af))
                return _DatagramSocket(sock)
            sock.settimeout(timeout)
            with _times(timeout):
                sock.connect(dns.inet.low_level_address_tuple(destination, af))
            return _StreamSocket(sock)
        except BaseException:
            sock.close()
            raise

    async def sleep(self, interval: float) -> None:
        _core.sleep(interval)

    async def wait_for(self, awaitable: Coroutine[Any, Any, _T], timeout: float | None) -> _T:
        from greenloop.timeout import Timeout

        limit = Timeout.start_new(timeout)
        try:
            return await awaitable
        except Timeout as late:
            if late is not limit:
                raise
            raise dns.exception.Timeout(  # type: ignore[no-untyped-call]
                timeout=timeout
            ) from None
        finally:
            limit.close()


_BACKEND = _Backend()

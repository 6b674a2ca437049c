"""Cooperative TLS sockets: the standard :mod:`ssl` module, blocking one greenlet only.

Everything the standard module has is here under the same name. `SSLSocket` derives from both the
standard class and `greenloop.socket.socket`; `SSLContext` is the standard class but for the
sockets it makes. (As gevent.ssl.)
"""

from __future__ import annotations

import ssl as __ssl__
from collections.abc import Callable
from ssl import SSLWantReadError, SSLWantWriteError
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from greenloop.socket import create_connection, socket

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


#: Names that replace those of the standard module when it is patched. Its classes stay: contexts
#: that exist already, and classes derived from them, make cooperative sockets once
#: `patch_contexts` has been called.
__implements__ = ["get_server_certificate"]

#: Names taken over from the standard module as they are.
__imports__ = [
    name
    for name in dir(__ssl__)
    if not name.startswith("__") and name not in (*__implements__, "SSLContext", "SSLSocket")
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__ssl__, _name))
del _name

_T = TypeVar("_T")

_READ = 1
_WRITE = 2


def _with_globals(original: Any, names: dict[str, Any]) -> Any:
    """A function of the standard module that finds its global names in `names`."""
    function = FunctionType(
        original.__code__, names, original.__name__, original.__defaults__, original.__closure__
    )
    function.__kwdefaults__ = original.__kwdefaults__
    function.__doc__ = original.__doc__
    function.__annotations__ = original.__annotations__
    function.__qualname__ = original.__qualname__
    return function


class SSLSocket(__ssl__.SSLSocket, socket):
    """A TLS socket whose calls block the calling greenlet only. Made by
    `SSLContext.wrap_socket`."""

    # The standard method names its class by a global name, and must mean its own class even if
    # somebody has put another one under that name.
    _standard_create: Any = classmethod(
        _with_globals(
            __ssl__.SSLSocket._create.__func__,  # type: ignore[attr-defined]
            {**vars(__ssl__), "SSLSocket": __ssl__.SSLSocket},
        )
    )

    @classmethod
    def _create(cls, sock: Any, *args: Any, **options: Any) -> Any:
        # Makes the new socket on the descriptor of `sock`, which is detached while both exist.
        if not isinstance(sock, socket):
            return cls._standard_create(sock, *args, **options)
        state = sock._state
        state.passes_on = True
        try:
            return cls._standard_create(sock, *args, **options)
        finally:
            state.passes_on = False

    def _until_done(self, operation: str, call: Callable[..., _T], *args: Any) -> _T:
        """Call a method of the TLS layer until it does not have to wait for the other side."""
        state = self._state
        deadline = state.deadline()
        while True:
            try:
                return call(*args)
            except SSLWantReadError:
                if state.timeout == 0.0:
                    raise
                direction = _READ
            except SSLWantWriteError:
                if state.timeout == 0.0:
                    raise
                direction = _WRITE
            try:
                state.wait(self, direction, deadline)
            except TimeoutError as error:
                if error.errno is not None:
                    raise
                raise TimeoutError(f"The {operation} operation timed out") from None

    # Positional names as in the standard class.

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """Read up to `len` bytes and return them, or how many were put into `buffer`."""
        return self._until_done("read", super().read, len, buffer)

    def write(self, data: Any) -> int:
        """Send bytes; return how many were sent."""
        return self._until_done("write", super().write, data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send bytes; return how many were sent. No `flags` are allowed."""
        return self._until_done("write", super().send, data, flags)

    def do_handshake(self, block: bool = False) -> None:
        """Perform the TLS handshake. With `block` it waits even if the timeout is 0."""
        self._check_connected()  # type: ignore[attr-defined]
        timeout = self.gettimeout()
        try:
            if timeout == 0.0 and block:
                self.settimeout(None)
            self._until_done("handshake", self._sslobj.do_handshake)  # type: ignore[attr-defined]
        finally:
            self.settimeout(timeout)

    def unwrap(self) -> Any:
        """Perform the TLS closing handshake; return the socket, which is plain then."""
        return self._until_done("shutdown", super().unwrap)

    def accept(self) -> tuple[SSLSocket, Any]:
        """Wait for a connection; return a TLS socket for it, and the address of the peer."""
        plain, address = socket.accept(self)
        options: dict[str, Any] = {
            "server_side": True,
            "do_handshake_on_connect": self.do_handshake_on_connect,  # type: ignore[attr-defined]
            "suppress_ragged_eofs": self.suppress_ragged_eofs,  # type: ignore[attr-defined]
        }
        context = self.context
        if issubclass(context.sslsocket_class or SSLSocket, SSLSocket):
            return context.wrap_socket(plain, **options), address  # type: ignore[return-value]
        return SSLSocket._create(sock=plain, context=context, **options), address


class SSLContext(__ssl__.SSLContext):
    """The standard context; its sockets are cooperative whether or not anything is patched."""

    sslsocket_class = SSLSocket


for _name in (
    "create_default_context",
    "_create_unverified_context",
    "_create_default_https_context",
    "_create_stdlib_context",
    "get_server_certificate",
    "wrap_socket",
):
    if hasattr(__ssl__, _name):
        # Made with the names of this module: our context, our connections.
        globals()[_name] = _with_globals(getattr(__ssl__, _name), globals())
# Both are other names of functions made above.
globals()["_create_default_https_context"] = globals()["create_default_context"]
globals()["_create_stdlib_context"] = globals()["_create_unverified_context"]
del _name

__all__ = [  # noqa: PLE0604
    *(name for name in __imports__ if not name.startswith("_")),
    "SSLContext",
    "SSLSocket",
    *__implements__,
]


def patch_contexts() -> None:
    """Have every context of the standard module make cooperative sockets: those that exist
    already, and those of derived classes, too."""
    __ssl__.SSLContext.sslsocket_class = SSLSocket


_ = create_connection  # A global name of get_server_certificate.

"""Cooperative TLS sockets: the standard :mod:`ssl` module, blocking one greenlet only.

Everything the standard module has is here under the same name. `SSLSocket` derives from both the
standard class and `greenloop.socket.socket`; `SSLContext` is the standard class but for the
sockets it makes. (As gevent.ssl.)
"""

from __future__ import annotations

import errno
import functools
import os
import ssl as __ssl__
import warnings
from types import FunctionType, new_class
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from greenloop import _core
from greenloop.socket import create_connection, socket

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


#: Names that replace those of the standard module when it is patched. Its classes stay, so that
#: contexts that exist already, and classes derived from them, make cooperative sockets too: by
#: `_class_patches`.
__implements__ = ["get_server_certificate"]

# Functions of the standard module that are made anew below, on the names of this one.
_REMADE = [
    name
    for name in (
        "create_default_context",
        "_create_unverified_context",
        "_create_default_https_context",
        "_create_stdlib_context",
        "get_server_certificate",
        "wrap_socket",
    )
    if hasattr(__ssl__, name)
]

# What this module has of its own under names of the standard one.
_OWN = ("SSLContext", "SSLSocket", "create_connection", "socket")

#: Names taken over from the standard module as they are.
__imports__ = [
    name for name in dir(__ssl__) if not name.startswith("__") and name not in (*_REMADE, *_OWN)
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__ssl__, _name))
del _name


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


def _standard_class(name: str) -> Any:
    """A class of the standard module, even if somebody has put a wrapper, or one derived from it,
    in its place (as truststore does)."""
    for kind in reversed(getattr(__ssl__, name).__mro__):
        if kind.__module__ == "ssl":
            return kind
    raise ImportError(f"ssl.{name} is none of the standard module's classes")


if TYPE_CHECKING:
    from ssl import SSLContext as _StandardContext
    from ssl import SSLSocket as _StandardSocket
else:
    _StandardContext = _standard_class("SSLContext")
    _StandardSocket = _standard_class("SSLSocket")


def _unpatched(function: Any) -> Any:
    return getattr(function, "__wrapped__", function)


class SSLSocket(_StandardSocket, socket):
    """A TLS socket whose calls block the calling greenlet only. Made by
    `SSLContext.wrap_socket`.

    One greenlet may read while another writes. Of two that read, or two that write, the second one
    that has to wait gets ConcurrentObjectUseError, and so does whoever writes while another
    greenlet waits in the middle of a write.
    """

    # The standard method names its class by a global name, and must mean its own class even if
    # somebody has put another one under that name.
    _standard_create: Any = classmethod(
        _with_globals(
            _unpatched(vars(_StandardSocket)["_create"].__func__),
            {**vars(__ssl__), "SSLSocket": _StandardSocket},
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

    # read, recv, recv_into, write, send and sendall are put on the class by the core, below, and so
    # is _until_done.

    def do_handshake(self, block: bool = False) -> None:
        """Perform the TLS handshake. With `block` it waits even if the timeout is 0.

        Raises SSLError if it fails, TimeoutError after the timeout.
        """
        self._check_connected()  # type: ignore[attr-defined]
        layer = self._sslobj  # type: ignore[attr-defined]
        if layer is None and self.fileno() < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._until_done(layer.do_handshake, "handshake", block)  # type: ignore[attr-defined]

    def unwrap(self) -> Any:
        """Perform the TLS closing handshake; return the socket, which is plain then.

        Raises ValueError if it is plain already, SSLError, TimeoutError.
        """
        if self._sslobj is None:  # type: ignore[attr-defined]
            return super().unwrap()
        return self._until_done(super().unwrap)  # type: ignore[attr-defined]

    def accept(self) -> tuple[SSLSocket, Any]:
        """Wait for a connection; return a TLS socket for it, and the address of the peer."""
        plain, address = socket.accept(self)
        options: dict[str, Any] = {
            "server_side": True,
            "do_handshake_on_connect": self.do_handshake_on_connect,  # type: ignore[attr-defined]
            "suppress_ragged_eofs": self.suppress_ragged_eofs,  # type: ignore[attr-defined]
        }
        return _wrap_cooperatively(self.context, plain, options), address


_core._attach_tls_methods(SSLSocket)


#: Classes made by `_cooperative_class`.
_made: WeakSet[type] = WeakSet()


def _cooperative_class(kind: Any) -> Any:
    """The class whose sockets are made where a context asks for those of `kind`: cooperative ones.

    For a class that the program has derived from the standard one it derives from both that and
    ours. If that cannot be, `kind` itself is returned, with a RuntimeWarning.
    """
    if issubclass(kind, SSLSocket):
        return kind
    if kind is _StandardSocket:
        return SSLSocket
    for derived in kind.__subclasses__():
        if derived in _made:
            return derived
    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__slots__": (),
    }
    try:
        made = new_class(kind.__name__, (kind, SSLSocket), {}, lambda body: body.update(names))
    except TypeError as error:
        warnings.warn(
            f"Sockets of {kind!r} block all greenlets, because no class can be derived from it and"
            f" from {SSLSocket!r}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return kind
    _made.add(made)
    return made


def _wrap_cooperatively(context: Any, sock: Any, options: dict[str, Any]) -> Any:
    """As `context.wrap_socket`, but of a context of the standard class, too, the socket that is
    made is a cooperative one, patched or not."""
    kind: Any = context.sslsocket_class or SSLSocket
    if issubclass(kind, SSLSocket) or _makes_cooperative(_StandardSocket):
        return context.wrap_socket(sock, **options)
    return _cooperative_class(kind)._create(sock=sock, context=context, **options)


@functools.wraps(_unpatched(vars(_StandardSocket)["_create"].__func__))
def _create(cls: type, sock: Any, *args: Any, **options: Any) -> Any:
    kind = _cooperative_class(cls)
    if issubclass(kind, SSLSocket):
        # Not `kind._create`: a class that overrides it may have come here by super().
        return vars(SSLSocket)["_create"].__func__(kind, sock, *args, **options)
    return SSLSocket._standard_create.__func__(kind, sock, *args, **options)


_create_cooperative: Any = classmethod(_create)

#: What patching replaces in the standard classes: class, attribute, replacement.
_class_patches: list[tuple[type, str, Any]] = [
    (_StandardContext, "sslsocket_class", SSLSocket),
    # By this every context makes its sockets, of whatever class it was told to.
    (_StandardSocket, "_create", _create_cooperative),
]


def _makes_cooperative(kind: type) -> bool:
    """Whether sockets of a class become cooperative ones, as it is ours or patched."""
    return issubclass(kind, SSLSocket) or (
        vars(_StandardSocket)["_create"] is _create_cooperative
        and issubclass(kind, _StandardSocket)
    )


class _ContextType(type):
    """Lets a context count as one of ours if it makes such sockets: all do once ssl is patched."""

    def __instancecheck__(cls, instance: object) -> bool:
        return cls.__subclasscheck__(type(instance))

    def __subclasscheck__(cls, subclass: type) -> bool:
        if super().__subclasscheck__(subclass):
            return True
        return (
            cls is SSLContext
            and issubclass(subclass, _StandardContext)
            and _makes_cooperative(subclass.sslsocket_class or _StandardSocket)
        )


class SSLContext(_StandardContext, metaclass=_ContextType):
    """The standard context; its sockets are cooperative whether or not anything is patched."""

    sslsocket_class = SSLSocket


for _name in _REMADE:
    # Made with the names of this module: our context, our connections.
    globals()[_name] = _with_globals(getattr(__ssl__, _name), globals())
# Both are other names of functions made above.
globals()["_create_default_https_context"] = globals()["create_default_context"]
globals()["_create_stdlib_context"] = globals()["_create_unverified_context"]
del _name

__all__ = [  # noqa: PLE0604
    *(name for name in (*__imports__, *_REMADE) if not name.startswith("_")),
    "SSLContext",
    "SSLSocket",
]


_ = create_connection  # A global name of get_server_certificate.

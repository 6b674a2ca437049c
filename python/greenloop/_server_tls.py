"""How servers make TLS sockets: `ssl` is imported for those only that do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from greenloop import ssl as green_ssl
from greenloop.socket import wait_write


def wrapper(options: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes TLS sockets, and the arguments it is to be called with besides the socket.

    options: the arguments of a server, see `StreamServer`.

    Raises TypeError and ValueError for arguments that do not fit, and what making a context does.
    """
    options = {"server_side": True, **options}
    context = options.pop("ssl_context", None)
    if context is None:
        context = _context(options)
    known = inspect.signature(green_ssl.SSLContext.wrap_socket).parameters
    unknown = sorted(options.keys() - (known.keys() - {"self", "sock"}))
    if unknown:
        raise TypeError(f"unknown arguments: {', '.join(unknown)}")

    def wrap_socket(sock: Any, **options: Any) -> Any:
        return green_ssl._wrap_cooperatively(context, sock, options)

    return wrap_socket, options


def say_goodbye(sock: Any) -> None:
    """Tell the peer of a TLS socket that nothing follows (the alert close_notify), without waiting
    for it to say the same. Nothing happens if it has gone, or if the socket is none of TLS.
    """
    sslobj = getattr(sock, "_sslobj", None)
    while sslobj is not None:
        try:
            sslobj.shutdown()
            return
        except green_ssl.SSLWantWriteError:
            try:
                wait_write(sock.fileno(), _GOODBYE_TIMEOUT, TimeoutError())
            except OSError:
                return
        except (OSError, ValueError):
            # SSLWantReadError above all: that it was sent, and the peer has not answered.
            return


def _context(options: dict[str, Any]) -> Any:
    """Make a context of the options that are about it, and take them out."""
    certfile = options.pop("certfile", None)
    if not certfile:
        raise ValueError("certfile or ssl_context must be given for a TLS server")
    context = green_ssl.SSLContext(options.pop("ssl_version", None) or _DEFAULT_PROTOCOL)
    context.load_cert_chain(certfile, options.pop("keyfile", None))
    if (requirement := options.pop("cert_reqs", None)) is not None:
        context.verify_mode = requirement
    if authorities := options.pop("ca_certs", None):
        context.load_verify_locations(authorities)
    if ciphers := options.pop("ciphers", None):
        context.set_ciphers(ciphers)
    return context


#: Seconds to wait for a peer that receives nothing before a connection is closed.
_GOODBYE_TIMEOUT = 1.0

_DEFAULT_PROTOCOL = green_ssl.PROTOCOL_TLS_SERVER

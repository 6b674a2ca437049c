"""A server for ASGI applications, which may have WSGI applications beside them.

Coroutines run on greenloop's event loop, on the same hub as greenlets: see `ASGIServer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greenloop._asgi_lifespan import LifespanError
from greenloop._asgi_server import AsgiHost, HostedServer

__all__ = ["ASGIServer", "LifespanError"]


class ASGIServer(HostedServer):
    """A server for an ASGI application, or for several applications of ASGI and WSGI.

    listener: the address to listen on, or a socket, as of `pywsgi.WSGIServer`.
    application: the application: of ASGI 3, ASGI 2 or WSGI. None for nothing but `mounts`: other
        paths are not found then.
    mounts: applications of any kind by the path that each is mounted at, such as `"/api"`. They
        get what is below it, of several the one with the longest path. An ASGI application finds
        it in `scope["root_path"]`, a WSGI application in `environ["SCRIPT_NAME"]`.
    interface: "asgi" or "wsgi" if it cannot be seen of `application` which it has; "auto" looks.
    root_path: the path in front of all that the server is asked for, as clients see it: of a proxy
        that takes it away, such as `"/shop"`. Applications find it, with the path that they are
        mounted at, in `scope["root_path"]` and in front of `scope["path"]`, and in
        `environ["SCRIPT_NAME"]`. It is the same as SCRIPT_NAME in the argument `environ`.
    lifespan: "on" if applications of ASGI have to have a lifespan, "off" to call for none; with
        "auto" those that raise an exception when they are called for one do without.
    options: those of `pywsgi.WSGIServer`, without `handler_class`.

    `start` waits until the applications have started, and `stop` until they have stopped, after
    the last request.

    Raises TypeError and ValueError for arguments that do not fit; `start` raises LifespanError.
    """

    def __init__(
        self,
        listener: Any,
        application: Callable[..., Any] | None = None,
        *,
        mounts: Mapping[str, Callable[..., Any]] | None = None,
        interface: str = "auto",
        root_path: str = "",
        lifespan: str = "auto",
        **options: Any,
    ) -> None:
        if interface not in ("auto", "asgi", "wsgi"):
            raise ValueError(f"interface is 'auto', 'asgi' or 'wsgi', not {interface!r}")
        if lifespan not in ("auto", "on", "off"):
            raise ValueError(f"lifespan is 'auto', 'on' or 'off', not {lifespan!r}")
        if application is None:
            application = self.application
        if application is None and not mounts:
            raise TypeError("there is no application, and none is mounted")
        host = AsgiHost(application, (mounts or {}).items(), interface, lifespan)
        super().__init__(listener, host, root_path=root_path, **options)

    def start(self) -> None:
        """Listen, have the applications start, and accept connections."""
        if self.started:
            return
        self.init_socket()
        try:
            self._host.start()
        except BaseException:
            self.close()
            raise
        try:
            super().start()
        except BaseException:
            self._host.stop()
            raise

    def stop(self, timeout: float | None = None) -> None:
        """Stop as a `WSGIServer`, and then have the applications stop.

        Raises LifespanError if one of them fails in that.
        """
        super().stop(timeout)
        for failure in self._host.stop():
            raise failure

"""A server for WSGI applications. (As gevent.pywsgi.)

Each connection has a greenlet, in which the application is called: it is ordinary code that blocks.
The server speaks HTTP/1.1, strictly, with limits in size and time; see `WSGIServer`.
"""

from __future__ import annotations

import inspect
import logging
import socket as __socket__
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

from greenloop import version_info
from greenloop._core import FileWrapper, HttpConnection, HttpCore, getcurrent
from greenloop._core import Input as Input
from greenloop._wsgi_environ import Environ, SecureEnviron, WSGISecureEnviron
from greenloop._wsgi_handler import Headers, WSGIHandler
from greenloop._wsgi_log import LoggingLogAdapter, NoLog, access_line, make_log
from greenloop.event import Event
from greenloop.exceptions import InvalidClientInput, InvalidClientRequest
from greenloop.hub import get_hub
from greenloop.server import StreamServer

__all__ = [
    "Environ",
    "LoggingLogAdapter",
    "SecureEnviron",
    "WSGIHandler",
    "WSGISecureEnviron",
    "WSGIServer",
]

#: The longest request line by default, in bytes.
MAX_REQUEST_LINE = 8192

# Names that programs have from gevent.pywsgi.
_InvalidClientInput = InvalidClientInput
_InvalidClientRequest = InvalidClientRequest
_NoopLog = NoLog
OldMessage = Headers
headers_factory = Headers


def format_date_time(timestamp: float) -> str:
    """A time, in seconds since 1970, as HTTP has it: "Sun, 06 Nov 1994 08:49:37 GMT"."""
    from email.utils import formatdate

    return formatdate(timestamp, usegmt=True)


#: What a class has that no program can mean to override.
_UNIMPORTANT = frozenset(
    {"__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__"}
    | {"__static_attributes__", "__weakref__", "__annotate__", "__annotate_func__"}
    | {"__annotations_cache__"}
)

#: What handlers are made of. Programs replace methods in the class itself, too.
_HANDLER = {name: value for name, value in vars(WSGIHandler).items() if name not in _UNIMPORTANT}

#: What can be said of limits and times: attributes, and keyword arguments.
_SETTINGS = frozenset(
    {
        "header_timeout",
        "keep_alive_timeout",
        "body_timeout",
        "write_timeout",
        "request_timeout",
        "max_requests",
        "max_request_line",
        "max_header",
        "max_head",
        "max_headers",
        "max_body",
        "max_message",
        "websocket_compression",
        "websocket_ping",
        "server_header",
    }
)


class WSGIServer(StreamServer):
    """A server for a WSGI application.

    listener: the address to listen on, see `baseserver.parse_address`; or a socket that is bound to
        one.
    application: the application (PEP 3333).
    backlog: how many connections may wait to be accepted; None for the class' `backlog`. Not for a
        socket that is given.
    spawn: how connections are handled, see `BaseServer`. A number, or a pool, limits how many are
        open at a time.
    log: where to write a line for each request: a file, or a logger, which is told at level INFO.
        "default" is standard error, None is nowhere.
    error_log: where to write what is wrong with requests, also `wsgi.errors` of applications: as
        `log`, at level ERROR.
    handler_class: a class derived from `WSGIHandler`. One that overrides something is slower than
        none.
    environ: what environments have besides the usual.
    options: the attributes below by their names, and what makes it a server of HTTPS, see
        `StreamServer`.

    What is set while the server runs holds when it is started the next time; only another
    `application` does at once.

    Raises TypeError and ValueError for arguments that do not fit; what making a context raises.
    """

    #: Seconds for the head of a request, from its first byte, and for the first of a connection
    #: from its beginning. Here and below None is for no limit.
    header_timeout: float | None = 30
    #: Seconds that a connection may be open between requests.
    keep_alive_timeout: float | None = 60
    #: Seconds in which nothing of a body comes in while the application reads it.
    body_timeout: float | None = 60
    #: Seconds in which a client takes nothing of a response.
    write_timeout: float | None = 60
    #: Seconds that the application may take for a request, and the response. Then a `Timeout` is
    #: raised in it, and the client told 503 if nothing was sent.
    request_timeout: float | None = None
    #: How many requests a connection may bring, 0 for any number.
    max_requests = 0
    #: The longest request line, in bytes.
    max_request_line = MAX_REQUEST_LINE
    #: The longest header, in bytes.
    max_header = 8192
    #: Request line and headers together, in bytes.
    max_head = 65536
    #: How many headers there may be.
    max_headers = 100
    #: The largest body, in bytes; None for no limit.
    max_body: int | None = None
    #: The longest message of a WebSocket, in bytes, after decompression. A longer one ends it.
    max_message = 16 << 20
    #: Whether messages are compressed, where the client can.
    websocket_compression = True
    #: Seconds after which a WebSocket is sent a ping while its messages are waited for and nothing
    #: comes; after as many more it is taken for gone.
    websocket_ping: float | None = 20
    #: The value of a header Server in responses; empty for none.
    server_header = ""

    #: The class that handles connections.
    handler_class: type[WSGIHandler] = WSGIHandler
    #: Where lines go for requests, and for what is wrong with them.
    log: Any = None
    error_log: Any = None
    #: The class of environments; `dict` as PEP 3333 asks for.
    environ_class: type[dict[str, Any]] = dict
    #: The class that errors are reported with.
    secure_environ_class: type[SecureEnviron] = WSGISecureEnviron
    #: What all environments have. `environ` of a server has more.
    base_env: ClassVar[dict[str, Any]] = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        # Packages look for gevent here to know how to get at the socket.
        "SERVER_SOFTWARE": "gevent/{}.{} Python/{}.{}".format(
            *version_info[:2], *sys.version_info[:2]
        ),
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }

    #: What is in every environment of this server.
    environ: dict[str, Any]

    #: The application. A derived class may have it as an attribute, or a method.
    application: Any = None

    _core: HttpCore | None = None
    _serve_and_close: Callable[[Any, Any], None]

    def __init__(
        self,
        listener: Any,
        application: Callable[..., Any] | None = None,
        backlog: int | None = None,
        spawn: Any = "default",
        log: Any = "default",
        error_log: Any = "default",
        handler_class: type[WSGIHandler] | None = None,
        environ: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        for name in _SETTINGS & options.keys():
            setattr(self, name, options.pop(name))
        if handler_class is not None:
            self.handler_class = handler_class
        if application is not None:
            self.application = application
        super().__init__(listener, backlog=backlog, spawn=spawn, **options)
        self.log = make_log(log, logging.INFO)
        self.error_log = make_log(error_log, logging.ERROR)
        self.set_environ(environ)
        self.set_max_accept()
        # What is wrong with the settings is told now.
        self._make_core()

    # --- what the application is given

    def set_environ(self, environ: dict[str, Any] | None = None) -> None:
        """Set what environments have besides `base_env`."""
        contents = {**self.base_env, "wsgi.url_scheme": "https" if self.ssl_enabled else "http"}
        contents.update(environ or {})
        contents.setdefault("wsgi.errors", self.error_log)
        if "environ" in self.__dict__:
            # The dict that connections copy.
            self.environ.clear()
            self.environ.update(contents)
            if self.started:
                self.update_environ()
        else:
            self.environ = contents

    def update_environ(self) -> None:
        """Set what environments tell of the server's address. Called by `start`."""
        address = self.address
        name, port = "", ""
        if isinstance(address, tuple):
            name, port = _name(address[0]), str(address[1])
        self.environ.setdefault("SERVER_NAME", name)
        self.environ.setdefault("SERVER_PORT", port)

    def get_environ(self) -> dict[str, Any]:
        """Return a new environment with what all requests have in common."""
        return self.environ_class(self.environ)

    def set_max_accept(self) -> None:
        """Share connections with the other processes that accept them, if there are any."""
        if self.environ.get("wsgi.multiprocess"):
            self.max_accept = 1

    def init_socket(self) -> None:
        """Make the socket that is listened on, or have the one that was given listen."""
        super().init_socket()
        self.update_environ()
        self._core = None

    # --- connections

    def do_handle(self, *args: Any) -> None:
        """Have a connection handled, and closed after that."""
        self._current_core()
        if self._spawn is None or not self._is_plain or not self._has_plain_methods():
            super().do_handle(*args)
            return
        # The same in a single call.
        try:
            self._spawn(self._serve_and_close, *args)
        except BaseException:
            self.do_close(*args)
            raise

    def _has_plain_methods(self) -> bool:
        """Whether `handle` and `do_close` are this class' own, without TLS."""
        handle = getattr(self._handle, "__func__", None)
        close = getattr(self.do_close, "__func__", None)
        return handle is WSGIServer.handle and close is StreamServer.do_close

    def handle(self, sock: Any, address: Any) -> None:
        """Handle the requests of a connection."""
        core = self._current_core()
        if self._is_plain:
            core.serve(sock, address)
            return
        handler = self.handler_class(sock, address, self)
        try:
            handler.handle()
        finally:
            finish = getattr(handler, "_finish", None)
            if finish is not None:
                finish()

    def _end_tls(self, sock: Any) -> None:
        """Nothing: connections know whether what was sent was all."""

    def _current_core(self) -> HttpCore:
        core = self._core
        if core is None:
            core = self._core = self._make_core()
            # One for all connections: a new one would be kept for as long as its connection.
            self._serve_and_close = core.serve_and_close
            self._is_plain = _overrides_nothing(self.handler_class)
        application = self._served()
        if core.application is not application:
            core.application = application
        return core

    def _served(self) -> Any:
        """What the core is to call."""
        return self.application

    def _mounted(self) -> list[tuple[str, Any]]:
        """Paths, and what the core is to call for what is below them."""
        return []

    def _make_core(self) -> HttpCore:
        has_own_environ = (
            self.environ_class is not dict
            or getattr(self.get_environ, "__func__", None) is not WSGIServer.get_environ
        )
        return HttpCore(
            self._served(),
            self.get_environ if has_own_environ else self.environ,
            on_error=self._report_error,
            on_mistake=self._log_mistake,
            on_refusal=self._log_refusal,
            log=None if isinstance(self.log, NoLog) else self._log_access,
            server=self.server_header,
            header_timeout=self.header_timeout,
            keep_alive_timeout=self.keep_alive_timeout,
            body_timeout=self.body_timeout,
            write_timeout=self.write_timeout,
            request_timeout=self.request_timeout,
            max_requests=self.max_requests,
            max_request_line=self.max_request_line,
            max_header=self.max_header,
            max_head=self.max_head,
            max_headers=self.max_headers,
            max_body=self.max_body,
            max_message=self.max_message,
            websocket_compression=self.websocket_compression,
            websocket_ping=self.websocket_ping,
            mounts=self._mounted(),
        )

    _is_plain = False

    def _open_connection(self, sock: Any, address: Any, rfile: Any) -> HttpConnection:
        return self._current_core().open(sock, address, rfile)

    def _error_response(self, status: int, text: str) -> bytes:
        return self._current_core().error_response(status, text)

    # --- logs

    def _report_error(self, environ: Any, error: BaseException) -> None:
        self._report(environ, type(error), error, error.__traceback__)

    def _report(self, environ: Any, t: Any, v: Any, tb: TracebackType | None) -> None:
        """Report an error that an application has made, without showing what is secret."""
        context = environ
        if not isinstance(environ, self.secure_environ_class):
            context = self.secure_environ_class(environ or {})
        get_hub().handle_error(context, t, v, tb)

    def _log_refusal(self, address: Any, text: str) -> None:
        self.error_log.write(f"Invalid request from {address}: {text}\n")

    def _log_mistake(self, environ: Any, text: str) -> None:
        method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")
        self.error_log.write(f"The application answers {method} {path!r} wrongly: {text}\n")

    def _log_access(
        self, address: Any, line: str | None, status: int, length: int, seconds: float
    ) -> None:
        self.log.write(access_line(address, line, status, length, time.time(), seconds) + "\n")

    # --- stopping

    def stop(self, timeout: float | None = None) -> None:
        """Close; let the requests that are being handled come to their end. Connections without any
        are closed, the others after it.

        timeout: how many seconds to wait for that; None for `stop_timeout`. Those that are left
            then are killed if they are in a pool, and go on otherwise. A handler that calls this
            does not wait for itself.
        """
        self.close()
        if timeout is None:
            timeout = self.stop_timeout
        end = time.monotonic() + timeout
        core = self._core
        if core is not None:
            self._drain(core, end)
        super().stop(max(0.0, end - time.monotonic()))

    def _drain(self, core: HttpCore, end: float) -> None:
        left = Event()
        core.drain(left.set)
        if getcurrent() is get_hub():
            # A callback of the loop cannot wait.
            return
        own = int(core.is_serving())
        while core.connection_count > own:
            left.clear()
            if not left.wait(max(0.0, end - time.monotonic())):
                return


def _name(host: str) -> str:
    """What environments call a server that listens at an address. No name service is asked: that
    may take long, and the header Host tells better."""
    if host in ("", "0.0.0.0", "::"):
        return __socket__.gethostname()
    return "localhost" if host in ("127.0.0.1", "::1") else host


def _overrides_nothing(handler_class: type) -> bool:
    """Whether a class handles connections as `WSGIHandler` does."""
    return all(
        inspect.getattr_static(handler_class, name, None) is value
        for name, value in _HANDLER.items()
    )

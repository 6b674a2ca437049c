"""The handler of a connection: what a WSGI server does for a request, in methods that programs
override.

A server whose handler overrides nothing does not come here: the core does the same without Python
(`greenloop._core.HttpCore.serve`). What a handler does consists of parts of that: requests are
parsed, bodies delimited and responses written in one place only.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import sys
import time
import traceback
from email.utils import formatdate
from types import TracebackType
from typing import TYPE_CHECKING, Any

from greenloop._core import FileWrapper, GreenletExit
from greenloop._wsgi_log import access_line
from greenloop.exceptions import InvalidClientRequest
from greenloop.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenloop._core import HttpConnection, RequestHead, StartResponse

__all__ = ["Headers", "WSGIHandler"]

#: Statuses whose responses have no body.
_BODILESS = (204, 304)


class Headers(http.client.HTTPMessage):
    """The headers of a request: a mapping without regard to case."""

    def getheader(self, name: str, default: Any = None) -> Any:
        """As `get`."""
        return self.get(name, default)


class WSGIHandler:
    """Handles the requests of a connection. Programs derive classes of their own from it, and give
    them to a server as `handler_class`.

    sock: the connection's socket. address: the peer's. server: the `WSGIServer`. rfile: a file to
    read requests from in place of the socket.
    """

    #: The version that is answered with.
    protocol_version = "HTTP/1.1"
    #: The class of `headers`.
    MessageClass: type[http.client.HTTPMessage] = Headers
    #: What an application's mistakes in answering are raised as, in itself.
    ApplicationError: type[Exception] = AssertionError
    #: The numbers of errors that say that the client has gone.
    ignored_socket_errors: tuple[int, ...] = (errno.EPIPE, errno.ECONNRESET)

    # --- the request

    #: The request line, without its end.
    requestline: str | None = None
    #: Its method, target and version.
    command: str | None = None
    path: str | None = None
    request_version: str | None = None
    #: The length of the body; None if there is none, or it comes in chunks.
    content_length: int | None = 0
    #: What the application is given.
    environ: dict[str, Any] | None = None
    wsgi_input: Any = None
    application: Callable[..., Any] | None = None
    #: Whether the connection ends after this request.
    close_connection = False
    #: Whether the client wants to change to another protocol.
    connection_upgraded = False

    # --- the response

    #: The status, b"200 OK", and its number. None before `start_response`.
    status: bytes | None = None
    code: int | None = None
    #: Pairs of name and value, which are bytes.
    response_headers: list[tuple[bytes, bytes]] | None = None
    #: The values of these headers, if the application gives them. If there is a date none is added.
    provided_date: Any = None
    provided_content_length: Any = None
    #: Whether the body comes in chunks. Decided by `finalize_headers`.
    response_use_chunked = False
    #: Whether status and headers have been sent.
    headers_sent = False
    #: How many bytes of the body were sent.
    response_length = 0
    #: What the application has returned.
    result: Any = None
    #: When the request began to be handled, and when that was over, in seconds since 1970.
    time_start: float = 0
    time_finish: float = 0

    _orig_status: str | None = None
    _request: RequestHead | None = None
    _response: StartResponse | None = None
    _headers: Any = None
    #: The length of the body, if it is known while the headers are finalized.
    _body_length: int | None = None
    _must_linger = False
    _is_over = False

    def __init__(self, sock: Any, address: Any, server: Any, rfile: Any = None) -> None:
        self.socket = sock
        self.client_address = address
        self.server = server
        self._connection: HttpConnection = server._open_connection(sock, address, rfile)
        #: What the connection receives, as a file. Between requests the server's timeouts hold.
        self.rfile: Any = self._connection.reader if rfile is None else rfile

    # --- a connection

    def handle(self) -> None:
        """Handle requests until the connection is over. The socket is closed by the server."""
        try:
            while not self._is_over:
                self.time_start = time.time()
                self.time_finish = 0
                result = self.handle_one_request()
                if result is None:
                    break
                if result is True:
                    continue
                self._answer_instead(result)
                break
        finally:
            self._finish()

    def _answer_instead(self, result: Any) -> None:
        """Send a response that was not made by the application."""
        self.status, response = result
        self.response_headers = []
        self.response_length = 0
        self._must_linger = True
        try:
            self._sendall(response)
        except OSError:
            self._must_linger = False
        self.time_finish = self.time_finish or time.time()
        self.log_request()

    def _finish(self) -> None:
        """End the connection, for the server."""
        if not self._is_over:
            self._is_over = True
            self._connection.close(linger=self._must_linger)

    def handle_one_request(self) -> Any:
        """Read a request and answer it.

        Returns True if another one may follow, None if the connection is over. Or a pair of a
        status, b"400 Bad Request", and the bytes of a whole response: these are sent, and the
        connection is over.
        """
        self.requestline = self.command = self.path = self.request_version = None
        self.environ = self._request = self._headers = self.wsgi_input = None
        try:
            line = self.read_requestline()
            if not line:
                return None
            if isinstance(line, bytes):
                line = line.decode("latin-1")
            self.requestline = line.rstrip("\r\n")
            if not self.read_request(line):
                return None
        except (InvalidClientRequest, OSError) as error:
            return self._handle_client_error(error)
        except Exception:
            # Of a method that is overridden; what it says is not for the client.
            self._print_unexpected_exc()
            wrong = InvalidClientRequest(400, "the request could not be read")
            return self._handle_client_error(wrong)
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        if self._connection.end_request() and not self.close_connection:
            return True
        self._must_linger = not self._connection.is_upgraded
        return None

    def read_requestline(self) -> Any:
        """Wait for a request, and return its first line as str or bytes; None if there is none any
        more, or none is wanted.

        Raises InvalidClientRequest for what is malformed, or does not all come in time.
        """
        line = self._connection.read_request_line()
        return None if line is None else line.decode("latin-1")

    def read_request(self, raw_requestline: Any) -> bool:
        """Read the rest of a request's head, and set the attributes that tell of it.

        raw_requestline: its first line, which was read.

        Returns False if the client has gone. Raises InvalidClientRequest.
        """
        if isinstance(raw_requestline, str):
            raw_requestline = raw_requestline.encode("latin-1")
        request = self._connection.read_request(raw_requestline)
        if request is None:
            return False
        self._request = request
        self._response = request.response
        self.requestline = raw_requestline.decode("latin-1").rstrip("\r\n")
        self.command = request.method
        self.path = request.target
        self.request_version = request.version
        self.content_length = request.content_length
        self.close_connection = not request.keep_alive
        self.connection_upgraded = request.wants_upgrade
        return True

    @property
    def headers(self) -> Any:
        """The headers of the request, an instance of `MessageClass`."""
        if self._headers is None:
            headers = self.MessageClass()
            for name, value in self._request.headers if self._request is not None else ():
                headers[name] = value
            self._headers = headers
        return self._headers

    @headers.setter
    def headers(self, headers: Any) -> None:
        self._headers = headers

    def _connection_upgrade_requested(self) -> bool:
        return self.connection_upgraded

    _print_unexpected_exc = staticmethod(traceback.print_exc)

    def _handle_client_error(self, error: Exception) -> Any:
        """What to answer to a request that could not be read: as `handle_one_request` returns."""
        if isinstance(error, OSError):
            return None
        status = getattr(error, "status", 400)
        self.log_error("Invalid request from %s: %s", self.client_address, error)
        reason = http.client.responses.get(status, "Bad Request")
        response = self.server._error_response(status, str(error))
        return f"{status} {reason}".encode("latin-1"), response

    # --- a request

    def get_environ(self) -> dict[str, Any]:
        """Return the environment of the request, that of the server included."""
        environ: dict[str, Any] = self.server.get_environ()
        if self._request is not None:
            environ.update(self._request.environ)
        self.wsgi_input = environ["wsgi.input"]
        return environ

    def handle_one_response(self) -> None:
        """Call the application, send what it returns, and log the request."""
        self.time_start = time.time()
        self.time_finish = 0
        self.status = self._orig_status = self.code = None
        self.headers_sent = False
        self.result = self.response_headers = self._body_length = None
        self.response_use_chunked = False
        self.response_length = 0
        self.provided_date = self.provided_content_length = None
        deadline = None
        if self.server.request_timeout is not None:
            deadline = Timeout.start_new(self.server.request_timeout)
            if self._response is not None:
                self._response.set_deadline(deadline)
        try:
            try:
                self.run_application()
            finally:
                if deadline is not None:
                    deadline.close()
        except Timeout as error:
            if error is deadline:
                self._report(*sys.exc_info())
                self._send_error_response_if_possible(503, "the request took too long")
            else:
                self.handle_error(*sys.exc_info())
        except OSError as error:
            self._handle_os_error(error)
        except GreenletExit:
            self._send_error_response_if_possible(503, "the server is about to stop")
            raise
        except Exception:
            self.handle_error(*sys.exc_info())
        except BaseException:
            self._send_error_response_if_possible(500)
            raise
        finally:
            self.time_finish = time.time()
            self.log_request()

    def _handle_os_error(self, error: OSError) -> None:
        wrong = self._connection.body_error
        if wrong is not None:
            self._send_error_response_if_possible(*wrong)
        elif self._connection.is_broken or error.errno in self.ignored_socket_errors:
            # The client has gone: nothing is wrong with the application.
            self.close_connection = True
        else:
            self.handle_error(*sys.exc_info())

    def run_application(self) -> None:
        """Call the application, and send its result."""
        assert self.application is not None
        self.result = self.application(self.environ, self.start_response)
        try:
            self.process_result()
        finally:
            # Also after an error: it may hold a transaction open.
            close = getattr(self.result, "close", None)
            if close is not None:
                close()

    def process_result(self) -> None:
        """Send what the application has returned."""
        assert self._response is not None
        result = self.result
        is_sent = isinstance(result, FileWrapper) and self._send_file(result)
        length = len(result) if hasattr(result, "__len__") else None
        if isinstance(result, (list, tuple)) and not self.headers_sent:
            self._body_length = sum(map(len, result))
        for data in () if is_sent else result:
            if not data:
                continue
            if length == 1 and not self.headers_sent:
                self._body_length = len(data)
            self.write(data)
            if self.command == "HEAD":
                # Nothing of a body is sent.
                break
        if self.status and not self.headers_sent:
            if length is not None or self.request_version == "HTTP/1.0":
                self._body_length = 0
            self.write(b"")
        self._end_response(length is not None)

    def _end_response(self, is_known: bool) -> None:
        assert self._response is not None
        goes_on, mistake = self._response.end(is_known)
        if mistake is not None:
            self.server._log_mistake(self.environ, mistake)
            if not self.status:
                self._note_error(500)
        if not goes_on:
            self.close_connection = True

    def _send_file(self, file: FileWrapper) -> bool:
        """Have the system send a file. Returns whether it can."""
        if self.headers_sent or not self.status or self._has_own_write():
            return False
        self._body_length = file.length
        if self._body_length is None:
            return False
        self._prepare()
        assert self._response is not None
        is_sent: bool = self._response.send_file(file)
        self.response_length = self._response.sent
        return is_sent

    def _has_own_write(self) -> bool:
        return type(self).write is not WSGIHandler.write

    # --- answering

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Any:
        """What the application is given. Returns the function `write`.

        An informational status, "103 Early Hints", is sent at once; the real one follows.

        Raises TypeError and ValueError for what cannot be sent, `ApplicationError` if it is called
        again without `exc_info`, and the error of `exc_info` if the response has begun already.
        """
        assert self._response is not None
        if exc_info:
            try:
                if self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                # The traceback leads to this frame.
                exc_info = None
        elif self.status is not None:
            raise self.ApplicationError("start_response() was called again, without exc_info")
        if isinstance(status, str) and status.startswith("1") and not status.startswith("101"):
            self._response.inform(status, headers)
            return self.write
        # Tells what is wrong with them.
        self._response.prepare(status, headers)
        self._orig_status = status
        self.status = status.encode("latin-1")
        self.code = int(status[:3])
        self.provided_date = self.provided_content_length = None
        self.response_headers = []
        for name, value in headers:
            self.response_headers.append((name.encode("latin-1"), value.encode("latin-1")))
            if name.lower() == "date":
                self.provided_date = value
            elif name.lower() == "content-length":
                self.provided_content_length = value
        return self.write

    def finalize_headers(self) -> None:
        """Complete `response_headers`, and decide on `response_use_chunked`. Called once, before
        they are sent."""
        assert self.response_headers is not None
        if self.provided_date is None:
            date = formatdate(usegmt=True).encode("ascii")
            self.response_headers.append((b"Date", date))
        if self.code in _BODILESS or self.code == 101 or self.provided_content_length is not None:
            return
        if self._body_length is not None:
            self.response_headers.append((b"Content-Length", b"%d" % self._body_length))
        elif self.request_version != "HTTP/1.0":
            self.response_use_chunked = True
            self.response_headers.append((b"Transfer-Encoding", b"chunked"))

    def _prepare(self) -> None:
        """Settle on status and headers: they are sent with what is written next."""
        self.headers_sent = True
        self.finalize_headers()
        assert self._response is not None
        self._response.prepare(
            _text(self.status),
            [(_text(name), _text(value)) for name, value in self.response_headers or ()],
            close=self.close_connection,
            chunked=self.response_use_chunked,
            date=False,
        )

    def write(self, data: Any) -> None:
        """Send some of the body; status and headers first, if they have not been sent.

        data: bytes. None of them have the headers sent.

        Raises `ApplicationError` if the response has no body, or `start_response` was not called.
        """
        if self.code in _BODILESS and data and self.command != "HEAD":
            raise self.ApplicationError(f"The {self.code} response must have no body")
        if self.headers_sent:
            self._write(data)
        elif not self.status:
            raise self.ApplicationError("The application has not called start_response()")
        else:
            self._write_with_headers(data)

    def _write_with_headers(self, data: Any) -> None:
        # An empty str means the same to packages that were written for Python 2.
        data = data or b""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"a body consists of bytes, not {type(data).__name__}")
        self._prepare()
        self._write(data)

    def _write(self, data: Any) -> None:
        assert self._response is not None
        self._response.write(data)
        self.response_length = self._response.sent

    def _sendall(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.send(data)

    # --- errors and logs

    def handle_error(self, t: Any, v: Any, tb: TracebackType | None) -> None:
        """An application has failed: report it, and answer if nothing was sent.

        t, v, tb: as in sys.exc_info().
        """
        self._report(t, v, tb)
        self._send_error_response_if_possible(500)

    def _report(self, t: Any, v: Any, tb: TracebackType | None) -> None:
        self.server._report(self.environ, t, v, tb)

    def _send_error_response_if_possible(self, error_code: int, text: str | None = None) -> None:
        self.close_connection = True
        response = self._response
        if response is None or self._connection.is_broken:
            return
        if response.has_begun:
            # Sends nothing, but a WebSocket is closed with another code then.
            response.fail(error_code, "")
            return
        with contextlib.suppress(OSError):
            response.fail(error_code, text or http.client.responses[error_code])
        self._note_error(error_code)

    def _note_error(self, code: int) -> None:
        """Take note of a response that was sent in place of the application's."""
        self._orig_status = f"{code} {http.client.responses[code]}"
        self.status = self._orig_status.encode("latin-1")
        self.code = code
        self.headers_sent = True
        if self._response is not None:
            self.response_length = self._response.sent

    def log_error(self, msg: str, *args: Any) -> None:
        """Write to the server's log of errors. args: for the `%`s of the message."""
        try:
            text = msg % args if args else msg
        except Exception:
            text = f"{msg!r} {args!r}"
        self.server.error_log.write(f"{text}\n")

    def log_request(self) -> None:
        """Write to the server's log of requests."""
        self.server.log.write(self.format_request() + "\n")

    def format_request(self) -> str:
        """The line for the log of requests."""
        status = self._orig_status or _text(self.status or b"000")
        return access_line(
            self.client_address,
            self.requestline,
            status.split(" ", 1)[0],
            self.response_length,
            self.time_finish or time.time(),
            self.time_finish - self.time_start if self.time_finish else 0,
        )


def _text(value: Any) -> Any:
    """A str of the bytes that headers are kept as; handlers may add either."""
    return value.decode("latin-1") if isinstance(value, bytes) else value

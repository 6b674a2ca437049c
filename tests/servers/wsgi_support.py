"""What the tests of the WSGI server share: servers, both ways of handling, and a client of raw
bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

import gevent
import pytest
from gevent import pywsgi, socket

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0


Serve = Callable[..., Any]


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# Heads that more has to follow.
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"


class OwnHandler(pywsgi.WSGIHandler):
    """Overrides something, so that requests are handled by methods in Python."""

    def log_request(self) -> None:
        super().log_request()


class Log:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines.append(text)

    def flush(self) -> None:
        pass


class Response(NamedTuple):
    """A response, taken apart."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


def read_response(stream: Any, *, is_head: bool = False) -> Response:
    """Read a response from a file: its body as far as the head says."""
    line = stream.readline()
    assert line.endswith(b"\r\n"), line
    version, status, reason = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
    assert version == "HTTP/1.1"
    headers: dict[str, str] = {}
    while (line := stream.readline()) != b"\r\n":
        assert line.endswith(b"\r\n"), line
        name, value = line.decode("latin-1").rstrip("\r\n").split(": ", 1)
        assert name.lower() not in headers
        headers[name.lower()] = value
    code = int(status)
    if is_head or code < 200 or code in (204, 304):
        body = b""
    elif "content-length" in headers:
        body = stream.read(int(headers["content-length"]))
        assert len(body) == int(headers["content-length"])
    elif headers.get("transfer-encoding") == "chunked":
        chunks = []
        while size := int(stream.readline(), 16):
            chunk = stream.read(size)
            assert len(chunk) == size
            chunks.append(chunk)
            assert stream.read(2) == b"\r\n"
        assert stream.read(2) == b"\r\n"
        body = b"".join(chunks)
    else:
        body = stream.read()
    return Response(code, reason, headers, body)


class Client:
    """A connection to a server."""

    def __init__(self, server: Any) -> None:
        self.sock = socket.create_connection(server.address, GUARD)
        self.stream = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str = "/", *headers: str, method: str = "GET") -> Response:
        """Make a request without a body on the connection."""
        lines = [f"{method} {path} HTTP/1.1", "Host: a", *headers, "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))
        return self.response(is_head=method == "HEAD")

    def response(self, *, is_head: bool = False) -> Response:
        return read_response(self.stream, is_head=is_head)

    def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        rest: bytes = self.stream.read()
        return rest

    def reset(self) -> None:
        """Close the connection the hard way."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def close(self) -> None:
        self.stream.close()
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exchange(server: Any, data: bytes) -> bytes:
    """Send bytes on a new connection, and return what comes until the server closes it."""
    with Client(server) as client:
        client.send(data)
        return client.rest()


def parse(data: bytes) -> Response:
    """The only response in some bytes."""
    stream = BytesIO(data)
    response = read_response(stream)
    assert stream.read() == b""
    return response


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def echo(environ: Any, start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [body]


def wait_until(condition: Callable[[], Any]) -> None:
    """Let others run until something is so."""
    with gevent.Timeout(GUARD):
        while not condition():
            gevent.sleep(0.001)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The errors that are reported, of the main thread's hub."""
    reported: list[Any] = []

    def handle_error(context: Any, kind: Any, value: Any, traceback: Any) -> None:
        reported.append(value)

    monkeypatch.setattr(gevent.get_hub(), "handle_error", handle_error, raising=False)
    return reported


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Starts a server of an application; the keywords are those of WSGIServer."""
    servers: list[Any] = []

    def start(application: Any, **options: Any) -> Any:
        options = {"log": None, "error_log": None, **options}
        listener = options.pop("listener", ("127.0.0.1", 0))
        server = pywsgi.WSGIServer(listener, application, **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(timeout=GUARD)


#: The ways of handling connections.
WAYS = ["core", "handler"]


def serve_in(start: Serve, way: str) -> Serve:
    handler_class = None if way == "core" else OwnHandler

    def serve(application: Any, **options: Any) -> Any:
        server = start(application, handler_class=handler_class, **options)
        # Makes sure that the ways are what they are meant to be.
        server._current_core()
        assert server._is_plain is (handler_class is None)
        return server

    return serve


@pytest.fixture(params=WAYS)
def serve(request: pytest.FixtureRequest, start: Serve) -> Serve:
    """As `start`, once for each way of handling connections."""
    return serve_in(start, request.param)

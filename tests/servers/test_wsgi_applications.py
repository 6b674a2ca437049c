"""gevent.pywsgi: what applications see and give, whether or not a handler overrides something."""

from __future__ import annotations

import gzip
import io
import tempfile
import wsgiref.validate
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from wsgi_support import Client, Log, Serve, exchange, parse, wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def answer(*pieces: bytes, status: str = "200 OK", headers: Any = ()) -> Any:
    """An application that returns these pieces as a list."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, list(headers))
        return list(pieces)

    return application


def test_a_list_leaves_with_its_length(serve: Serve) -> None:
    server = serve(answer(b"hello ", b"", b"world", headers=[("X-A", "b")]))
    with Client(server) as client:
        response = client.get()
        assert response.body == b"hello world"
        assert response.headers["content-length"] == "11"
        assert response.headers["x-a"] == "b"
        assert "date" in response.headers
        assert "connection" not in response.headers
        assert client.get().body == b"hello world"


@pytest.mark.parametrize("size", [1, 4095, 4097, 3_000_000])
def test_bodies_of_any_size(serve: Serve, size: int) -> None:
    body = b"x" * size
    with Client(serve(answer(body, body))) as client:
        assert client.get().body == body + body


def test_a_small_response_is_one_packet(serve: Serve) -> None:
    with Client(serve(answer(b"hello"))) as client:
        client.send(GET)
        assert client.sock.recv(4096).endswith(b"\r\n\r\nhello")


def test_iterators_come_in_chunks(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        yield b"a"
        yield b"bc"

    server = serve(application)
    response = exchange(server, GET)
    assert response.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in response
    old = parse(exchange(server, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
    assert old.body == b"abc"
    assert "transfer-encoding" not in old.headers
    assert old.headers["connection"] == "close"


def test_pieces_are_sent_as_they_come(serve: Serve) -> None:
    goes_on = gevent.event.Event()

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        goes_on.wait()
        yield b"second"

    with Client(serve(application)) as client:
        client.send(GET)
        assert b"first" in client.sock.recv(4096)
        goes_on.set()
        assert b"second" in client.rest()


def test_an_object_of_one_piece_tells_the_length(serve: Serve) -> None:
    class One:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"hello"])

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return One()

    with Client(serve(application)) as client:
        assert client.get().headers["content-length"] == "5"


def test_empty_bodies(serve: Serve) -> None:
    def iterator(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""

    with Client(serve(answer())) as client:
        assert client.get().headers["content-length"] == "0"
    with Client(serve(iterator)) as client:
        assert client.get().body == b""
        assert client.get().body == b""


def test_write(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"")
        write(b"a")
        write(bytearray(b"b"))
        write(memoryview(b"c"))
        return [b"d", b"e"]

    response = exchange(serve(application), GET)
    assert response.endswith(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n")


def test_write_after_the_request_is_refused(serve: Serve) -> None:
    writes: list[Any] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        writes.append(start_response("200 OK", [("Content-Length", "1")]))
        return [b"a"]

    with Client(serve(application)) as client:
        client.get()
        client.get()
        with pytest.raises(ValueError, match="the request is over"):
            writes[0](b"x")
        assert client.get().body == b"a"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_body(serve: Serve, status: str, errors: list[Any]) -> None:
    with Client(serve(answer(status=status))) as client:
        response = client.get()
        assert "content-length" not in response.headers
        assert "transfer-encoding" not in response.headers
        assert client.get().status == int(status[:3])
    assert not errors
    wrong = parse(exchange(serve(answer(b"body", status=status)), GET))
    assert wrong.status == 500
    assert str(errors[0]) == f"The {status[:3]} response must have no body"


def test_head_has_the_headers_of_get(serve: Serve) -> None:
    with Client(serve(answer(b"hello"))) as client:
        response = client.get(method="HEAD")
        assert response.headers["content-length"] == "5"
        assert client.get().body == b"hello"


def test_head_takes_no_more_than_it_needs(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        while True:
            yield b"endless"

    with Client(serve(application)) as client:
        for _ in range(2):
            assert client.get(method="HEAD").status == 200


def test_close_is_called_once_and_before_the_next_request(serve: Serve) -> None:
    calls: list[str] = []

    class Result:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            yield b"b"

        def close(self) -> None:
            calls.append("close")

    def application(environ: Any, start_response: Any) -> Any:
        calls.append("call")
        start_response("200 OK", [])
        return Result()

    with Client(serve(application)) as client:
        client.get()
        client.get(method="HEAD")
    assert calls == ["call", "close"] * 2


def test_close_is_called_when_iterating_fails(serve: Serve, errors: list[Any]) -> None:
    closed: list[int] = []

    class Result:
        def __iter__(self) -> Iterator[bytes]:
            raise KeyError("mine")

        def close(self) -> None:
            closed.append(1)

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Result()

    assert parse(exchange(serve(application), GET)).status == 500
    assert closed == [1]
    assert repr(errors) == "[KeyError('mine')]"


def test_close_is_called_when_the_client_goes(serve: Serve, errors: list[Any]) -> None:
    closed = gevent.event.Event()

    class Result:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * 65536

        def close(self) -> None:
            closed.set()

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Result()

    with Client(serve(application)) as client:
        client.send(GET)
        client.sock.recv(1)
    assert closed.wait(30)
    gevent.idle()
    assert not errors


def test_an_error_before_the_response(serve: Serve, errors: list[Any]) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-Secret", "x")])
        raise KeyError("mine")

    response = parse(exchange(serve(application), GET))
    assert response.status == 500
    assert "x-secret" not in response.headers
    assert b"mine" not in response.body
    assert repr(errors) == "[KeyError('mine')]"


def test_an_error_in_the_response_cuts_it_off(serve: Serve, errors: list[Any]) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        raise KeyError("mine")

    assert exchange(serve(application), GET).endswith(b"\r\n\r\n1\r\na\r\n")
    assert repr(errors) == "[KeyError('mine')]"


def test_exc_info_replaces_headers_that_were_not_sent(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-A", "1")])
        try:
            raise KeyError("mine")
        except KeyError as error:
            info = (type(error), error, error.__traceback__)
            start_response("500 Sorry", [("X-B", "2")], info)
        return [b"sorry"]

    response = parse(exchange(serve(application), GET))
    assert (response.status, response.reason, response.body) == (500, "Sorry", b"sorry")
    assert "x-a" not in response.headers


def test_exc_info_is_raised_once_headers_were_sent(serve: Serve, errors: list[Any]) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        try:
            raise KeyError("mine")
        except KeyError as error:
            start_response("500 Sorry", [], (type(error), error, error.__traceback__))
        return []

    assert exchange(serve(application), GET).endswith(b"\r\n\r\n1\r\na\r\n")
    assert repr(errors) == "[KeyError('mine')]"


def test_start_response_twice_is_a_mistake(serve: Serve, errors: list[Any]) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    assert parse(exchange(serve(application), GET)).status == 500
    assert isinstance(errors[0], AssertionError)


def test_start_response_not_called(serve: Serve, errors: list[Any]) -> None:
    log = Log()
    server = serve(lambda environ, start_response: [], error_log=log)
    assert parse(exchange(server, GET)).status == 500
    assert "start_response() was not called" in log.lines[0]
    server = serve(lambda environ, start_response: [b"body"])
    assert parse(exchange(server, GET)).status == 500
    assert isinstance(errors[0], AssertionError)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "message"),
    [
        ("200 OK\r\nX: y", [], ValueError, "carriage return or newline in status"),
        ("200 OK", [("A", "b\r\nX: y")], ValueError, "newline in header value"),
        ("200 OK", [("A", "b\nX: y")], ValueError, "newline in header value"),
        ("200 OK", [("A\r\n", "b")], ValueError, "newline in header name"),
        ("200 OK", [("A b", "c")], ValueError, "not a token"),
        ("200 OK", [("", "c")], ValueError, "not a token"),
        ("200 OK", [("A", "\0")], ValueError, "control characters"),
        ("200 OK", [("A", "\u20ac")], UnicodeEncodeError, ""),
        ("OK", [], ValueError, "three digits"),
        ("20 OK", [], ValueError, "three digits"),
        ("200 OK", [("Content-Length", "-1")], ValueError, "Content-Length"),
        ("200 OK", [("Content-Length", "1"), ("content-length", "1")], ValueError, "twice"),
        (b"200 OK", [], TypeError, "str"),
        ("200 OK", [(b"A", "b")], TypeError, "str"),
        ("200 OK", [("A", 1)], TypeError, "str"),
        ("200 OK", [("A", "b", "c")], TypeError, "tuple"),
        ("200 OK", {"A": "b"}, TypeError, "list"),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_is_given(
    serve: Serve, status: Any, headers: Any, kind: type, message: str
) -> None:
    raised: list[Exception] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        try:
            start_response(status, headers)
        except Exception as error:
            raised.append(error)
        start_response("200 OK", [])
        return [b"fine"]

    assert parse(exchange(serve(application), GET)).body == b"fine"
    assert isinstance(raised[0], kind)
    assert message in str(raised[0])


@pytest.mark.parametrize("pieces", [(b"abc",), (b"a", b"bc"), (b"abcdef",), (b"ab", b"cdef")])
def test_the_length_that_was_announced_is_kept(serve: Serve, pieces: tuple[bytes, ...]) -> None:
    log = Log()
    application = answer(*pieces, headers=[("Content-Length", "3")])
    with Client(serve(application, error_log=log)) as client:
        response = client.get()
        assert response.body == b"abc"
        if len(b"".join(pieces)) == 3:
            assert client.get().body == b"abc"
        else:
            assert client.rest() == b""
            assert "longer than its Content-Length" in log.lines[0]


def test_a_body_that_is_too_short_ends_with_the_connection(serve: Serve) -> None:
    log = Log()
    application = answer(b"ab", headers=[("Content-Length", "3")])
    response = exchange(serve(application, error_log=log), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.endswith(b"\r\n\r\nab")
    assert "shorter than its Content-Length" in log.lines[0]


def test_an_application_may_close_the_connection(serve: Serve) -> None:
    application = answer(b"a", headers=[("Connection", "close")])
    response = parse(exchange(serve(application), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert response.headers["connection"] == "close"


def test_early_hints(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("103 Early Hints", [("Link", "</a.css>")])
        start_response("200 OK", [])
        return [b"a"]

    with Client(serve(application)) as client:
        hints = client.get()
        assert (hints.status, hints.headers) == (103, {"link": "</a.css>"})
        assert client.response().body == b"a"
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().status == 200


def test_hints_are_no_response(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("103 Early Hints", [])
        return []

    with Client(serve(application)) as client:
        assert client.get().status == 103
        assert client.response().status == 500


def test_the_environment(serve: Serve) -> None:
    environs: list[dict[str, Any]] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("200 OK", [])
        return []

    server = serve(application, environ={"my.own": 1, "HTTP_X_B": "overruled"})
    with Client(server) as client:
        port = client.sock.getsockname()[1]
        client.get(
            "/a%20b%2Fc/%c3%a9%zz?x=%20&y",
            "X-A: 1",
            "x-a: 2",
            "X-B: new",
            "X_C: dropped",
            "Cookie: a=1",
            "Cookie: b=2",
            "Content-Type: text/x",
            "Content-Length: 0",
        )
    (environ,) = environs
    assert type(environ) is dict
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/c/\xc3\xa9%zz",
        "QUERY_STRING": "x=%20&y",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": str(server.server_port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "GATEWAY_INTERFACE": "CGI/1.1",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "0",
        "HTTP_HOST": "a",
        "HTTP_X_A": "1,2",
        "HTTP_X_B": "new",
        "HTTP_COOKIE": "a=1; b=2",
        "my.own": 1,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": server.error_log,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert environ["SERVER_SOFTWARE"].startswith("gevent/")
    assert not environ.keys() & {"HTTP_X_C", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"}


def test_a_target_with_a_host_overrules_the_header(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["HTTP_HOST"].encode() + environ["PATH_INFO"].encode()]

    with Client(serve(application)) as client:
        assert client.get("http://b:80/c").body == b"b:80/c"


def test_environments_are_not_shared(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        count = environ["count"] = environ.get("count", 0) + 1
        start_response("200 OK", [])
        return [str(count).encode()]

    with Client(serve(application)) as client:
        assert [client.get().body for _ in range(3)] == [b"1"] * 3


def test_validated(serve: Serve, errors: list[Any]) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        stream = environ["wsgi.input"]
        body = stream.read(2) + stream.readline() + b"".join(stream.readlines(5)) + b"".join(stream)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield body

    server = serve(wsgiref.validate.validator(application))
    body = b"line 1\nline 2\nline 3\nline 4"
    for method in (b"POST", b"PUT"):
        head = method + b" /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % len(body)
        response = parse(exchange(server, head + b"Connection: close\r\n\r\n" + body))
        assert response.body == body
    assert not errors


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * 20_000)
        return path

    def serve_file(self, serve: Serve, open_file: Any, headers: Any = ()) -> tuple[Any, list[Any]]:
        files: list[Any] = []

        def application(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", list(headers))
            files.append(open_file())
            return environ["wsgi.file_wrapper"](files[-1], 1000)

        return serve(application), files

    def test_whole(self, serve: Serve, path: Path) -> None:
        server, files = self.serve_file(serve, lambda: path.open("rb"))
        with Client(server) as client:
            response = client.get()
            assert response.body == path.read_bytes()
            assert "content-length" in response.headers
            length = client.get(method="HEAD").headers["content-length"]
            assert length == response.headers["content-length"]
            assert client.get().body == path.read_bytes()
        # The client may have the last of it before the server is at the end.
        wait_until(lambda: all(file.closed for file in files))

    def test_from_where_it_stands(self, serve: Serve, path: Path) -> None:
        def open_file() -> Any:
            file = path.open("rb")
            assert file.read(1000) == path.read_bytes()[:1000]
            return file

        server, _ = self.serve_file(serve, open_file)
        assert parse(exchange(server, GET)).body == path.read_bytes()[1000:]

    def test_part(self, serve: Serve, path: Path) -> None:
        headers = [("Content-Length", "1000")]
        server, _ = self.serve_file(serve, lambda: path.open("rb"), headers)
        with Client(server) as client:
            assert client.get().body == path.read_bytes()[:1000]
            assert client.get().body == path.read_bytes()[:1000]

    def test_that_was_written_to(self, serve: Serve) -> None:
        def open_file() -> Any:
            file = tempfile.NamedTemporaryFile()  # noqa: SIM115 -- the server closes it
            file.write(b"hello")
            file.flush()
            file.seek(0)
            file.write(b"J")
            file.seek(0)
            return file

        server, _ = self.serve_file(serve, open_file)
        assert parse(exchange(server, GET)).body == b"Jello"

    def test_compressed(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "file.gz"
        path.write_bytes(gzip.compress(b"hello"))
        server, _ = self.serve_file(serve, lambda: gzip.open(path))  # noqa: SIM115
        assert parse(exchange(server, GET)).body == b"hello"

    def test_not_of_the_system(self, serve: Serve) -> None:
        server, files = self.serve_file(serve, lambda: io.BytesIO(b"a" * 2500))
        response = exchange(server, GET)
        assert response.count(b"3e8\r\n") == 2
        wait_until(lambda: files[0].closed)

    def test_empty(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "empty"
        path.touch()
        server, _ = self.serve_file(serve, lambda: path.open("rb"))
        assert parse(exchange(server, GET)).body == b""

"""ASGI applications: responses, and the extensions for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, hello, respond, sending
from gevent import event
from wsgi_support import GET, Client, exchange, parse, wait_until


class TestSend:
    def test_a_body_in_one_piece_has_a_length(self, serve_asgi: ServeAsgi) -> None:
        with Client(serve_asgi(hello)) as client:
            response = client.get()
        assert response.headers["content-length"] == "5"
        assert "date" in response.headers

    def test_head_and_body_leave_in_one_packet(self, serve_asgi: ServeAsgi) -> None:
        with Client(serve_asgi(hello)) as client:
            client.send(GET)
            data = client.sock.recv(1000)
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"\r\n\r\nhello")

    def test_pieces_are_sent_in_chunks(self, serve_asgi: ServeAsgi) -> None:
        go = event.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "more_body": True})
            go.wait()
            for piece in (b"ab", bytearray(b"c"), memoryview(b"d"), b"", b"x" * 10000):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"end"})

        with Client(serve_asgi(application)) as client:
            client.send(GET)
            # The head comes before there is anything of the body.
            assert client.stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while client.stream.readline() != b"\r\n":
                pass
            go.set()
            assert client.stream.read(11) == b"2\r\nab\r\n1\r\nc"
            client.stream.readline()
            assert client.stream.readline() == b"1\r\n"
            client.stream.readline()
            assert client.stream.readline() == b"2710\r\n"
            assert client.stream.read(10002) == b"x" * 10000 + b"\r\n"
            assert client.stream.read(13) == b"3\r\nend\r\n0\r\n\r\n"
            assert client.get().status == 200

    def test_old_clients_get_no_chunks(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await send({"type": "http.response.body", "body": b"b"})

        response = parse(exchange(serve_asgi(application), b"GET / HTTP/1.0\r\n\r\n"))
        assert response.body == b"ab"
        assert "transfer-encoding" not in response.headers

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("status", [200, 204, 304])
    def test_responses_without_a_body(
        self, serve_asgi: ServeAsgi, method: str, status: int
    ) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"" if status != 200 else b"hello", status, content_length="5")

        with Client(serve_asgi(application)) as client:
            for _ in range(2):
                response = client.get(method=method)
                assert response.status == status
                assert response.body == (b"hello" if (method, status) == ("GET", 200) else b"")

    def test_statuses(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"", int(scope["path"][1:]))

        with Client(serve_asgi(application)) as client:
            assert client.get("/404").reason == "Not Found"
            assert client.get("/418").reason == "I'm a Teapot"
            assert client.get("/799").reason == ""

    def test_headers_of_any_iterable(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            headers = ([name, b"1"] for name in (b"x-a", b"X-B"))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body"})

        with Client(serve_asgi(application)) as client:
            response = client.get()
        assert (response.headers["x-a"], response.headers["x-b"]) == ("1", "1")

    @pytest.mark.parametrize(
        ("messages", "error", "text"),
        [
            ([{"type": "http.response.body"}], RuntimeError, "before 'http.response.start'"),
            ([{"type": "http.response.start", "status": 200}] * 2, RuntimeError, "a second time"),
            ([{"type": "websocket.accept"}], RuntimeError, "no message of a response"),
            ([{}], RuntimeError, "has to have a 'type'"),
            ([{"type": 1}], TypeError, "must be str, not int"),
            ([{"type": "http.response.start"}], ValueError, "has to have a 'status'"),
            (
                [{"type": "http.response.start", "status": "200"}],
                TypeError,
                "must be int, not str",
            ),
            (
                [{"type": "http.response.start", "status": 101}],
                ValueError,
                "between 200 and 999, not 101",
            ),
            (
                [{"type": "http.response.start", "status": 200, "headers": [("a", "b")]}],
                TypeError,
                "pair of bytes",
            ),
            (
                [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]}],
                ValueError,
                "carriage return or newline in header value",
            ),
            (
                [{"type": "http.response.start", "status": 200, "headers": [(b"a b", b"")]}],
                ValueError,
                "not a token",
            ),
            (
                [
                    {"type": "http.response.start", "status": 200},
                    {"type": "http.response.body", "body": "text"},
                ],
                TypeError,
                "must be bytes, not str",
            ),
            (
                [
                    {"type": "http.response.start", "status": 204},
                    {"type": "http.response.body", "body": b"a"},
                ],
                RuntimeError,
                "204 response must have no body",
            ),
        ],
    )
    def test_what_cannot_be_sent(
        self,
        serve_asgi: ServeAsgi,
        errors: list[Any],
        messages: list[dict[str, Any]],
        error: type[Exception],
        text: str,
    ) -> None:
        with Client(serve_asgi(sending(messages))) as client:
            assert client.get().status == 500
            assert client.rest() == b""
        assert [type(reported) for reported in errors] == [error]
        assert text in str(errors[0])

    def test_nothing_follows_the_end(self, serve_asgi: ServeAsgi) -> None:
        raised: list[Exception] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello")
            for kind in ("http.response.body", "http.response.start"):
                try:
                    await send({"type": kind, "status": 200})
                except RuntimeError as error:
                    raised.append(error)

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"hello"
            assert client.get().body == b"hello"
        assert len(raised) == 4
        assert "after the response was complete" in str(raised[0])

    @pytest.mark.parametrize(("length", "word"), [("3", "longer"), ("9", "shorter")])
    def test_bodies_that_are_not_as_announced(
        self, serve_asgi: ServeAsgi, errors: list[Any], length: str, word: str
    ) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello", content_length=length)

        server = serve_asgi(application)
        answer = exchange(server, GET)
        assert answer.endswith(b"hello"[: int(length)])
        # The client may have its answer before the task is done.
        wait_until(lambda: errors)
        assert isinstance(errors[0], RuntimeError)
        assert word in str(errors[0])

    def test_a_slow_client_holds_up_its_sender_alone(self, serve_asgi: ServeAsgi) -> None:
        sent: list[int] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/":
                await respond(send, b"hello")
                return
            await send({"type": "http.response.start", "status": 200})
            for number in range(1024):
                piece = bytes(1 << 16)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent.append(number)
            await send({"type": "http.response.body"})

        server = serve_asgi(application)
        with Client(server) as slow, Client(server) as other:
            slow.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: sent)
            for _ in range(20):
                assert other.get().body == b"hello"
            # The buffers of the system hold some MiB at most.
            assert len(sent) < 640
            assert len(slow.response().body) == 64 << 20

    def test_clients_that_go_while_they_are_sent_something(
        self, serve_asgi: ServeAsgi, errors: list[Any]
    ) -> None:
        raised: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            try:
                while True:
                    message = {"type": "http.response.body", "body": bytes(1 << 20)}
                    await send({**message, "more_body": True})
            except OSError as error:
                raised.append(error)
                raised.append(await receive())
                raise

        server = serve_asgi(application)
        with Client(server) as client:
            client.send(GET)
            client.stream.read(10)
        wait_until(lambda: len(raised) == 2)
        wait_until(lambda: server.connection_count == 0)
        assert not errors

    def test_clients_that_take_nothing(self, serve_asgi: ServeAsgi) -> None:
        raised: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await respond(send, bytes(64 << 20))
            except OSError as error:
                raised.append(error)

        server = serve_asgi(application, write_timeout=0.05)
        with Client(server) as client:
            client.send(GET)
            wait_until(lambda: raised)

    def test_sending_from_several_tasks(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})

            async def piece(number: int) -> None:
                body = bytes([number]) * 300_000
                await send({"type": "http.response.body", "body": body, "more_body": True})

            await asyncio.gather(*(piece(number) for number in range(20)))
            await send({"type": "http.response.body"})

        with Client(serve_asgi(application)) as client:
            body = client.get().body
        assert body == b"".join(bytes([number]) * 300_000 for number in range(20))


class TestExtensions:
    @pytest.mark.parametrize("size", [0, 100, 3 << 20])
    def test_files(self, serve_asgi: ServeAsgi, tmp_path: Path, size: int) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.pathsend", "path": str(path)})

        with Client(serve_asgi(application)) as client:
            for method in ("GET", "HEAD", "GET"):
                response = client.get(method=method)
                if size or method == "GET":
                    assert response.headers["content-length"] == str(size)
                assert response.body == (path.read_bytes() if method == "GET" else b"")

    def test_files_that_are_not_there(self, serve_asgi: ServeAsgi, tmp_path: Path) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            with pytest.raises(FileNotFoundError):
                await send({"type": "http.response.pathsend", "path": str(tmp_path / "none")})
            await send({"type": "http.response.body", "body": b"none"})

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"none"

    def test_trailers(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            start = {"type": "http.response.start", "status": 200, "trailers": True}
            await send({**start, "headers": [(b"trailer", b"x-sum")]})
            await send({"type": "http.response.body", "body": b"abc"})
            with pytest.raises(ValueError, match="may not come after the body"):
                bad = {"type": "http.response.trailers", "headers": [(b"content-length", b"1")]}
                await send(bad)
            trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"6")]}
            await send({**trailers, "more_trailers": True})
            await send({"type": "http.response.trailers", "headers": [(b"x-more", b"7")]})

        with Client(serve_asgi(application)) as client:
            client.send(GET)
            while client.stream.readline() != b"\r\n":
                pass
            expected = b"3\r\nabc\r\n0\r\nx-sum: 6\r\nx-more: 7\r\n\r\n"
            assert client.stream.read(len(expected)) == expected

    def test_early_hints(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
            await respond(send, b"a")

        with Client(serve_asgi(application)) as client:
            response = client.get()
            assert (response.status, response.headers) == (103, {"link": "</a>; rel=preload"})
            assert client.response().body == b"a"

"""Edges of ASGI: what applications, clients and frameworks do that is not the usual."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, respond
from gevent import event
from serve_support import run_to_end
from websocket_support import CLOSE, FIN, Peer, closing
from wsgi_support import GUARD, Client, Log, exchange, parse

from greenloop.asgi import ASGIServer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
START = {"type": "http.response.start", "status": 200}
ACCEPT = {"type": "websocket.accept"}
CLOSE_IT = {"type": "websocket.close"}


def wait_until(condition: Any) -> None:
    """Let others run until something is so."""
    with gevent.Timeout(GUARD):
        while not condition():
            gevent.sleep(0.001)


class TestHttp:
    @pytest.mark.parametrize(
        ("framing", "status"),
        [
            (b"Transfer-Encoding: chunked\r\n\r\n1\r\nax", 400),
            (b"Content-Length: 5\r\n\r\nab", 408),
        ],
    )
    @pytest.mark.parametrize("begins", [False, True])
    def test_nothing_is_said_of_a_body_that_is_not_whole(
        self, serve_asgi: ServeAsgi, framing: bytes, status: int, begins: bool
    ) -> None:
        """The application returns when it is told, and the client is told why."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if begins:
                await send(START)
            while (await receive())["type"] != "http.disconnect":
                pass

        log = Log()
        server = serve_asgi(application, body_timeout=0.05, error_log=log)
        assert parse(exchange(server, POST + framing)).status == status
        assert not log.lines

    def test_looking_for_the_client_leaves_nothing_behind(self, serve_asgi: ServeAsgi) -> None:
        futures: list[int] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            for number in range(3000):
                task = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                task.cancel()
                if number in (999, 2999):
                    await asyncio.sleep(0)
                    gc.collect()
                    futures.append(sum(isinstance(one, asyncio.Future) for one in gc.get_objects()))
            await respond(send, b"still there")

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"still there"
        first, last = futures
        assert last < first + 100

    def test_a_file_is_named_by_text(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            # A number would be that of somebody's descriptor, which would be closed after that.
            with pytest.raises(TypeError, match="'path' of a message must be str, not int"):
                await send({"type": "http.response.pathsend", "path": 0})
            await send({"type": "http.response.body", "body": b"fine"})

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"fine"

    @pytest.mark.parametrize("size", [0, 5])
    def test_trailers_after_a_file(self, serve_asgi: ServeAsgi, tmp_path: Path, size: int) -> None:
        """There is no place for them; an application that has announced them need not know."""
        path = tmp_path / "file"
        path.write_bytes(bytes(size))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "trailers": True})
            await send({"type": "http.response.pathsend", "path": str(path)})
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

        with Client(serve_asgi(application)) as client:
            for _ in range(2):
                assert client.get().body == bytes(size)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_trailers_where_there_is_no_place_for_them(
        self, serve_asgi: ServeAsgi, method: str, version: str
    ) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "trailers": True})
            await send({"type": "http.response.body", "body": b"hello"})
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

        request = f"{method} / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        answer = exchange(serve_asgi(application), request)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (b"x-sum" in answer) is (method == "GET" and version == "1.1")
        if method == "HEAD":
            assert body == b""
        elif version == "1.0":
            assert body == b"hello"
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")

    def test_delimiting_the_body_is_for_the_server(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"transfer-encoding", b"chunked"), (b"content-length", b"2")]
            await send({**START, "headers": headers})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await send({"type": "http.response.body", "body": b"b"})

        with Client(serve_asgi(application)) as client:
            response = client.get()
            assert "transfer-encoding" not in response.headers
            assert response.body == b"ab"

    @pytest.mark.parametrize("values", [[b"5", b"5"], [b"x"], [b"-1"]])
    def test_lengths_that_are_none(
        self, serve_asgi: ServeAsgi, errors: list[Any], values: list[bytes]
    ) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "headers": [(b"content-length", value) for value in values]})

        assert parse(exchange(serve_asgi(application), GET)).status == 500
        assert isinstance(errors[0], ValueError)

    def test_an_application_closes_the_connection(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"bye", connection="close")

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"bye"
            assert client.rest() == b""

    @pytest.mark.parametrize("status", [204, 304])
    def test_pieces_of_a_body_where_there_is_none(
        self, serve_asgi: ServeAsgi, errors: list[Any], status: int
    ) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "status": status})
            await send({"type": "http.response.body", "more_body": True})
            with pytest.raises(RuntimeError, match="must have no body"):
                await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await send({"type": "http.response.body"})

        with Client(serve_asgi(application)) as client:
            for _ in range(2):
                assert client.get().status == status
        assert not errors

    def test_tasks_that_are_cancelled_by_others(
        self, serve_asgi: ServeAsgi, errors: list[Any]
    ) -> None:
        tasks: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(GUARD)

        server = serve_asgi(application)
        with Client(server) as client:
            client.send(GET)
            wait_until(lambda: tasks)
            tasks[0].cancel()
            assert client.response().status == 500
            assert client.rest() == b""
        assert [type(error) for error in errors] == [asyncio.CancelledError]

    def test_early_hints_and_an_error(self, serve_asgi: ServeAsgi, errors: list[Any]) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            with pytest.raises(TypeError, match="must be an iterable of bytes"):
                await send({"type": "http.response.early_hint", "links": ["</a>"]})
            with pytest.raises(ValueError, match="newline"):
                await send({"type": "http.response.early_hint", "links": [b"a\r\nb"]})
            raise LookupError("no")

        with Client(serve_asgi(application)) as client:
            assert client.get().status == 103
            assert client.response().status == 500
        assert isinstance(errors[0], LookupError)


class TestWebSockets:
    def test_the_connection_ends_though_the_application_goes_on(
        self, serve_asgi: ServeAsgi
    ) -> None:
        go = asyncio.Event()
        received: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPT)
            await send({**CLOSE_IT, "code": 4001, "reason": "enough"})
            await go.wait()
            received.append(await receive())
            with pytest.raises(RuntimeError, match="after the WebSocket was closed"):
                await send({"type": "websocket.send", "text": "late"})
            received.append(None)

        server = serve_asgi(application)
        with Peer(server) as peer:
            first, payload = peer.frame()
            assert (first, payload[2:]) == (FIN | CLOSE, b"enough")
            peer.send(closing(4001))
            assert peer.rest() == b""
        wait_until(lambda: server.connection_count == 0)
        go.set()
        wait_until(lambda: len(received) == 2)
        assert received[0] == {"type": "websocket.disconnect", "code": 4001, "reason": "enough"}

    def test_the_client_closes_and_the_application_is_busy(
        self, serve_asgi: ServeAsgi, errors: list[Any]
    ) -> None:
        go = asyncio.Event()
        received: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPT)
            await go.wait()
            received.append(await receive())
            # As frameworks do in the end, whatever has happened.
            await send(CLOSE_IT)
            received.append(await receive())
            await send({"type": "websocket.send", "text": "late"})

        server = serve_asgi(application)
        with Peer(server) as peer:
            peer.send(closing(1000, "bye"))
            # It answers, and ends the connection: clients wait for that.
            assert peer.closed() == 1000
        go.set()
        wait_until(lambda: len(received) == 2)
        disconnect = {"type": "websocket.disconnect", "code": 1000, "reason": "bye"}
        assert received == [disconnect, disconnect]

    def test_sending_to_a_client_that_has_closed_is_no_failure(
        self, serve_asgi: ServeAsgi, errors: list[Any]
    ) -> None:
        ended = event.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPT)
            try:
                while True:
                    await send({"type": "websocket.send", "text": "again"})
                    await asyncio.sleep(0.001)
            finally:
                ended.set()

        server = serve_asgi(application)
        with Peer(server) as peer:
            peer.frame()
            peer.send(closing(1000))
            assert ended.wait(GUARD)
        wait_until(lambda: server.connection_count == 0)
        assert not errors

    def test_what_was_sent_before_is_received_after_the_end(self, serve_asgi: ServeAsgi) -> None:
        go = asyncio.Event()
        received: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPT)
            await go.wait()
            received.extend([await receive() for _ in range(3)])

        server = serve_asgi(application)
        with Peer(server) as peer:
            peer.send(b"\x81\x81\0\0\0\0a" + b"\x81\x81\0\0\0\0b" + closing(1001))
            assert peer.closed() == 1001
        go.set()
        wait_until(lambda: len(received) == 3)
        assert [message.get("text") for message in received] == ["a", "b", None]

    @pytest.mark.parametrize("by_response", [False, True])
    def test_one_that_is_denied_holds_up_nobody(
        self, serve_asgi: ServeAsgi, by_response: bool
    ) -> None:
        go = asyncio.Event()
        received: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await respond(send, b"hello")
                return
            await receive()
            if by_response:
                await send({**START, "type": "websocket.http.response.start", "status": 401})
                body = {"type": "websocket.http.response.body"}
                await send({**body, "body": b"n", "more_body": True})
                await send({**body, "body": b"o"})
            else:
                await send(CLOSE_IT)
            await go.wait()
            received.append((await receive())["type"])

        server = serve_asgi(application)
        with Peer(server) as peer:
            if by_response:
                assert (peer.answer.status, peer.answer.body) == (401, b"no")
                assert peer.get().body == b"hello"
            else:
                assert peer.answer.status == 403
                assert peer.rest() == b""
        go.set()
        wait_until(lambda: received)
        assert received == ["websocket.disconnect"]

    @pytest.mark.parametrize("name", [b"sec-websocket-protocol", b"Upgrade", b"connection"])
    def test_headers_of_the_handshake_are_for_the_server(
        self, serve_asgi: ServeAsgi, errors: list[Any], name: bytes
    ) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            with pytest.raises(ValueError, match="for the server to set"):
                await send({**ACCEPT, "subprotocol": "a", "headers": [(name, b"a")]})
            await send(ACCEPT)

        with Peer(serve_asgi(application), "Sec-WebSocket-Protocol: a") as peer:
            assert peer.answer.status == 101
            assert peer.closed() == 1000
        assert not errors

    def test_headers_of_the_handshake_of_wsgi(self, start: Any) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            socket = environ["wsgi.websocket"]
            with pytest.raises(ValueError, match="for the server to set"):
                socket.accept(headers=[("Upgrade", "x")])
            socket.accept(headers=[("X-A", "a")])
            return []

        with Peer(start(application)) as peer:
            assert peer.answer.headers["x-a"] == "a"
            assert peer.closed() == 1000


class TestLifespan:
    def test_failures_are_told_when_they_happen(self, errors: list[Any]) -> None:
        fail = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await respond(send, b"hello")
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await fail.wait()
            raise LookupError("in the background")

        server = ASGIServer(("127.0.0.1", 0), application, log=None, error_log=None)
        server.start()
        fail.set()
        wait_until(lambda: errors)
        assert str(errors[0]) == "in the background"
        with Client(server) as client:
            assert client.get().body == b"hello"
        with pytest.raises(Exception, match="LookupError: in the background"):
            server.stop(GUARD)
        assert len(errors) == 1

    def test_a_start_that_is_given_up(self) -> None:
        ended: list[str] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            try:
                await asyncio.sleep(GUARD)
            finally:
                ended.append("cancelled")

        server = ASGIServer(("127.0.0.1", 0), application, log=None, error_log=None)
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            server.start()
        wait_until(lambda: ended)
        assert server.closed

    def test_a_traceback_as_the_message_of_a_failure(self, tmp_path: Path) -> None:
        """As Starlette's: it is shown, and the line that says why ends with the error alone."""
        source = """\
import traceback


async def app(scope, receive, send):
    await receive()
    try:
        raise LookupError("no database")
    except LookupError:
        message = traceback.format_exc()
        await send({"type": "lifespan.startup.failed", "message": message})
        raise
"""
        (tmp_path / "app.py").write_text(source)
        ended = run_to_end(tmp_path, "app", "--bind", "127.0.0.1:0")
        assert ended.returncode == 1
        lines = ended.stderr.splitlines()
        assert any(
            line.endswith("the application cannot start: LookupError: no database")
            for line in lines
        )
        assert lines.count("Traceback (most recent call last):") == 1
        assert any('app.py", line 7' in line for line in lines)

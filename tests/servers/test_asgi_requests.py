"""ASGI applications: what they are told of a request, and its body."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, hello, read_body, respond
from gevent import event, socket
from wsgi_support import CHUNKED, GET, GUARD, POST, Client, exchange, parse, wait_until


class TestScope:
    def scope(self, serve_asgi: ServeAsgi, request: bytes, **options: Any) -> Scope:
        seen: list[Scope] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await respond(send)

        server = serve_asgi(application, **options)
        self.server = server
        with Client(server) as client:
            client.send(request)
            client.response()
            self.own = client.sock.getsockname()
        return seen[0]

    def test_what_it_says(self, serve_asgi: ServeAsgi) -> None:
        scope = self.scope(
            serve_asgi,
            b"GET /a%20b/%C3%A4?x=%20&y HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nAccept: */*\r\n"
            b"x-two: \xff\r\n\r\n",
        )
        assert scope == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "server": ("127.0.0.1", self.server.server_port),
            "client": self.own,
            "scheme": "http",
            "method": "GET",
            "root_path": "",
            "path": "/a b/\xe4",
            "raw_path": b"/a%20b/%C3%A4",
            "query_string": b"x=%20&y",
            "headers": [
                (b"host", b"a"),
                (b"x-two", b"1"),
                (b"accept", b"*/*"),
                (b"x-two", b"\xff"),
            ],
            "extensions": {
                "http.response.pathsend": {},
                "http.response.trailers": {},
                "http.response.early_hint": {},
            },
        }

    def test_other_methods_and_versions(self, serve_asgi: ServeAsgi) -> None:
        scope = self.scope(serve_asgi, b"PROPFIND / HTTP/1.0\r\n\r\n")
        assert (scope["method"], scope["http_version"]) == ("PROPFIND", "1.0")
        assert scope["headers"] == []
        assert scope["query_string"] == b""

    def test_a_target_with_a_host_overrules_the_header(self, serve_asgi: ServeAsgi) -> None:
        scope = self.scope(serve_asgi, b"GET http://b:1/c HTTP/1.1\r\nHost: a\r\n\r\n")
        assert scope["headers"] == [(b"host", b"b:1")]
        assert scope["path"] == "/c"

    def test_paths_that_are_not_utf8(self, serve_asgi: ServeAsgi) -> None:
        scope = self.scope(serve_asgi, b"GET /%ff%zz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert scope["path"] == "/\ufffd%zz"

    def test_unix_domain_sockets(self, serve_asgi: ServeAsgi, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        seen: list[Scope] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await respond(send)

        serve_asgi(application, listener=path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert (seen[0]["client"], seen[0]["server"]) == (None, (path, None))

    def test_requests_share_nothing(self, serve_asgi: ServeAsgi) -> None:
        seen: list[Scope] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            assert "mine" not in scope
            assert "mine" not in scope["asgi"]
            assert "mine" not in scope["extensions"]
            scope["mine"] = scope["asgi"]["mine"] = scope["extensions"]["mine"] = 1
            scope["headers"].append((b"mine", b"1"))
            seen.append(scope)
            await respond(send)

        with Client(serve_asgi(application)) as client:
            assert [client.get().status for _ in range(2)] == [200, 200]
        assert len(seen) == 2


class TestReceive:
    def test_a_request_without_a_body(self, serve_asgi: ServeAsgi) -> None:
        seen = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(await receive())
            await respond(send)
            seen.append(await receive())

        with Client(serve_asgi(application)) as client:
            assert client.get().status == 200
            assert client.get().status == 200
        first = {"type": "http.request", "body": b"", "more_body": False}
        assert seen == [first, {"type": "http.disconnect"}] * 2

    def test_bodies_of_any_framing(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, await read_body(receive))

        with Client(serve_asgi(application)) as client:
            client.send(POST + b"Content-Length: 5\r\n\r\nabcde")
            assert client.response().body == b"abcde"
            client.send(CHUNKED + b"\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            assert client.response().body == b"abcde"
            big = bytes(range(256)) * 4000
            client.send(POST + b"Content-Length: %d\r\n\r\n" % len(big) + big)
            assert client.response().body == big

    def test_pieces_are_given_as_they_come(self, serve_asgi: ServeAsgi) -> None:
        pieces: list[dict[str, Any]] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                pieces.append(await receive())
                if not pieces[-1]["more_body"]:
                    break
            await respond(send)

        with Client(serve_asgi(application)) as client:
            client.send(POST + b"Content-Length: 6\r\n\r\nab")
            wait_until(lambda: len(pieces) == 1)
            client.send(b"cd")
            wait_until(lambda: len(pieces) == 2)
            client.send(b"ef")
            assert client.response().status == 200
        assert [piece["body"] for piece in pieces] == [b"ab", b"cd", b"ef"]

    def test_what_is_not_asked_for_is_not_received(self, serve_asgi: ServeAsgi) -> None:
        go = event.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            first = await receive()
            assert first["more_body"]
            await asyncio.to_thread(lambda: None)
            # A blocking call: it parks this task alone.
            go.wait()
            await respond(send, str(len(first["body"]) + len(await read_body(receive))).encode())

        big = 8 << 20
        with Client(serve_asgi(application)) as client:
            client.send(POST + b"Content-Length: %d\r\n\r\na" % big)
            sender = gevent.spawn(client.send, bytes(big - 1))
            gevent.sleep(0.1)
            # The buffers of the system do not hold so much.
            assert not sender.ready()
            go.set()
            assert client.response().body == str(big).encode()

    def test_clients_that_wait_to_be_told_to_go_on(self, serve_asgi: ServeAsgi) -> None:
        go = event.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/read":
                go.wait()
                await respond(send, await read_body(receive))
            else:
                await respond(send, b"unread")

        server = serve_asgi(application)
        head = b"POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        with Client(server) as client:
            client.send(head % b"/read")
            with pytest.raises(TimeoutError):
                client.sock.settimeout(0.05)
                client.sock.recv(1)
            client.sock.settimeout(GUARD)
            go.set()
            # As a file that a timeout has gone through is of no use any more.
            assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"abc")
            assert client.sock.recv(1000).endswith(b"\r\n\r\nabc")
        assert parse(exchange(server, head % b"/")).headers["connection"] == "close"

    def test_disconnection_ends_the_wait(self, serve_asgi: ServeAsgi) -> None:
        seen: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            seen.append("waits")
            seen.append(await receive())
            seen.append(await receive())

        server = serve_asgi(application)
        with Client(server) as client:
            client.send(GET)
            wait_until(lambda: seen)
        wait_until(lambda: len(seen) == 3)
        assert seen[1:] == [{"type": "http.disconnect"}] * 2

    def test_the_end_of_the_response_ends_the_wait(self, serve_asgi: ServeAsgi) -> None:
        seen: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()

            async def listen() -> None:
                seen.append(await receive())

            task = asyncio.create_task(listen())
            await asyncio.sleep(0)
            await respond(send, b"done")
            await task

        with Client(serve_asgi(application)) as client:
            for number in range(1, 4):
                assert client.get().body == b"done"
                wait_until(lambda number=number: len(seen) == number)
        assert seen == [{"type": "http.disconnect"}] * 3

    def test_requests_that_come_meanwhile_are_kept(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            listening = asyncio.ensure_future(receive())
            await asyncio.sleep(0.01)
            await respond(send, scope["path"].encode())
            await listening

        with Client(serve_asgi(application)) as client:
            client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
            bodies = [client.response().body for _ in range(5)]
        assert bodies == [b"/%d" % number for number in range(5)]

    def test_nothing_is_lost_by_cancelling(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            body = b""
            while True:
                try:
                    message = await asyncio.wait_for(receive(), 0.001)
                except TimeoutError:
                    continue
                body += message["body"]
                if not message["more_body"]:
                    break
            await respond(send, body)

        with Client(serve_asgi(application)) as client:
            client.send(POST + b"Content-Length: 50\r\n\r\n")
            for number in range(50):
                gevent.sleep(0.001)
                client.send(b"%d" % (number % 10))
            assert client.response().body == b"0123456789" * 5

    def test_a_task_can_be_made_of_it(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            first = await asyncio.create_task(receive())
            start: dict[str, Any] = {"type": "http.response.start", "status": 200}
            await asyncio.create_task(send(start))
            await asyncio.gather(send({"type": "http.response.body", "body": first["body"]}))

        with Client(serve_asgi(application)) as client:
            client.send(POST + b"Content-Length: 2\r\n\r\nab")
            assert client.response().body == b"ab"

    @pytest.mark.parametrize(
        ("rest", "status"),
        [(b"x\r\n", 400), (b"ffffffffffffffffff\r\n", 400)],
    )
    def test_malformed_bodies(self, serve_asgi: ServeAsgi, rest: bytes, status: int) -> None:
        seen = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while (message := await receive())["type"] != "http.disconnect":
                seen.append(message)
            raise ConnectionResetError("the body is not complete")

        server = serve_asgi(application)
        assert parse(exchange(server, CHUNKED + b"\r\n1\r\na\r\n" + rest)).status == status
        assert b"".join(message["body"] for message in seen) == b"a"

    def test_bodies_that_do_not_come_in_time(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            raise ConnectionResetError("the body is not complete")

        server = serve_asgi(application, body_timeout=0.05)
        response = parse(exchange(server, POST + b"Content-Length: 3\r\n\r\na"))
        assert response.status == 408

    def test_bodies_that_nobody_reads_are_skipped(self, serve_asgi: ServeAsgi) -> None:
        with Client(serve_asgi(hello)) as client:
            for _ in range(2):
                client.send(POST + b"Content-Length: 30000\r\n\r\n" + bytes(30000))
                assert client.response().body == b"hello"

"""WebSockets of ASGI applications."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, sending
from gevent import event, queue
from websocket_support import (
    ACCEPT,
    BINARY,
    CLOSE,
    FIN,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Peer,
    closing,
    frame,
)
from wsgi_support import GUARD, Client, Log

from greenloop.websocket import WebSocketError

Run = Callable[[Scope, Receive, Send], Awaitable[Any]]


class Results:
    """An application that does something, and the results of that."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.results: queue.Queue[Any] = queue.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.results.put((True, await self.run(scope, receive, send)))
        except BaseException as error:
            self.results.put((False, error))
            raise

    def get(self) -> Any:
        worked, value = self.results.get(timeout=GUARD)
        if worked:
            return value
        raise value


def test_the_scope(serve_asgi: ServeAsgi) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send({**ACCEPT, "subprotocol": "v2", "headers": [(b"x-a", b"a")]})
        return scope

    app = Results(run)
    server = serve_asgi(app)
    with Peer(server, "Sec-WebSocket-Protocol: v1, v2") as peer:
        assert peer.answer.status == 101
        assert peer.answer.headers["sec-websocket-protocol"] == "v2"
        assert peer.answer.headers["x-a"] == "a"
        # The one that RFC 6455 shows.
        assert peer.answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert peer.closed() == 1000
        scope = app.get()
        headers = scope.pop("headers")
        assert (b"upgrade", b"websocket") in headers
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "server": ("127.0.0.1", server.server_port),
            "client": peer.sock.getsockname(),
            "scheme": "ws",
            "root_path": "",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "subprotocols": ["v1", "v2"],
            "extensions": {"websocket.http.response": {}},
        }


def test_what_is_received(serve_asgi: ServeAsgi) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        return [await receive() for _ in range(4)]

    app = Results(run)
    with Peer(serve_asgi(app)) as peer:
        peer.send(frame(FIN | TEXT, b"a") + frame(FIN | BINARY, b"b") + closing(4000, "why"))
        disconnect = {"type": "websocket.disconnect", "code": 4000, "reason": "why"}
        assert app.get() == [
            {"type": "websocket.receive", "text": "a"},
            {"type": "websocket.receive", "bytes": b"b"},
            disconnect,
            disconnect,
        ]


def test_pings_are_answered_while_the_application_is_busy(serve_asgi: ServeAsgi) -> None:
    go = event.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        go.wait()

    with Peer(serve_asgi(application)) as peer:
        peer.send(frame(TEXT, b"a") + frame(FIN | PING, b"?") + frame(FIN, b"b"))
        assert peer.frame() == (FIN | PONG, b"?")
        go.set()
        assert peer.closed() == 1000


def test_a_client_that_takes_no_answers(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()

    with Peer(serve_asgi(application)) as peer:
        pings = frame(FIN | PING, bytes(125)) * 1000
        sender = gevent.spawn(lambda: [peer.send(pings) for _ in range(400)])
        gevent.sleep(0.2)
        # The buffers of the system do not hold so much, and nobody else does.
        assert not sender.ready()
        sender.kill()


def test_a_client_sends_more_than_is_taken(serve_asgi: ServeAsgi) -> None:
    go = asyncio.Event()

    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        await go.wait()
        return [int((await receive())["text"].rstrip()) for _ in range(5000)]

    app = Results(run)
    with Peer(serve_asgi(app, websocket_ping=None)) as peer:
        pad = b" " * 8000
        sender = gevent.spawn(
            lambda: [peer.send(frame(FIN | TEXT, b"%d" % number + pad)) for number in range(5000)]
        )
        gevent.sleep(0.2)
        # The buffers of the system do not hold so much.
        assert not sender.ready()
        go.set()
        assert app.get() == list(range(5000))


@pytest.mark.parametrize("reset", [False, True])
def test_sending_to_a_client_that_has_gone_away(serve_asgi: ServeAsgi, reset: bool) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        message = await receive()
        with pytest.raises(OSError):
            for _ in range(1000):
                await send({"type": "websocket.send", "text": "late"})
                await asyncio.sleep(0.001)
        return message

    app = Results(run)
    peer = Peer(serve_asgi(app))
    if reset:
        peer.reset()
    else:
        peer.close()
    assert app.get() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


def test_a_client_that_goes_before_it_is_accepted(serve_asgi: ServeAsgi) -> None:
    offered = event.Event()

    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        offered.set()
        message = await receive()
        with pytest.raises(OSError, match="closed the connection"):
            await send(ACCEPT)
        return message

    app = Results(run)
    with Client(serve_asgi(app)) as client:
        client.send(HANDSHAKE)
        assert offered.wait(GUARD)
    assert app.get() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


def test_the_application_closes(serve_asgi: ServeAsgi) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await send(ACCEPT)
        for code in (1005, 70_000, "a"):
            with pytest.raises(ValueError, match="code"):
                await send({"type": "websocket.close", "code": code})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        with pytest.raises(RuntimeError, match="after the WebSocket was closed"):
            await send({"type": "websocket.send", "text": "late"})
        return await receive()

    app = Results(run)
    with Peer(serve_asgi(app)) as peer:
        # On their way before the client knows.
        peer.send(frame(FIN | PING))
        first, payload = peer.frame()
        if first == FIN | PONG:
            first, payload = peer.frame()
        assert (first, payload) == (FIN | CLOSE, struct.pack("!H", 4000) + b"enough")
        peer.send(closing(4000))
        assert peer.rest() == b""
        expected = {"type": "websocket.disconnect", "code": 4000, "reason": "enough"}
        assert app.get() == expected


def test_it_is_closed_when_the_application_fails(serve_asgi: ServeAsgi, errors: list[Any]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.sleep(0)
        raise LookupError("no")

    with Peer(serve_asgi(application)) as peer:
        assert peer.closed() == 1011
    assert [str(error) for error in errors] == ["no"]


def test_denying(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})

    with Peer(serve_asgi(application)) as peer:
        assert (peer.answer.status, peer.answer.reason) == (403, "Forbidden")


def test_denying_by_a_response(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        start = {"type": "websocket.http.response.start", "status": 401}
        await send({**start, "headers": [(b"www-authenticate", b"Basic")]})
        await send({"type": "websocket.http.response.body", "body": b"a", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"b"})
        assert (await receive())["type"] == "websocket.disconnect"

    with Peer(serve_asgi(application)) as peer:
        assert (peer.answer.status, peer.answer.body) == (401, b"ab")
        assert peer.answer.headers["www-authenticate"] == "Basic"


def test_applications_that_do_not_answer(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None: ...

    log = Log()
    with Peer(serve_asgi(application, error_log=log)) as peer:
        assert peer.answer.status == 500
    assert "the WebSocket was neither accepted nor denied" in log.lines[0]


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([{"type": "websocket.send", "text": ""}], RuntimeError, "before 'websocket.accept'"),
        ([{"type": "http.response.start"}], RuntimeError, "no message of a WebSocket"),
        ([{"type": "websocket.http.response.body"}], RuntimeError, "before"),
        ([{**ACCEPT, "subprotocol": "other"}], ValueError, "does not offer the subprotocol"),
        ([{**ACCEPT, "headers": [(b"a", b"\n")]}], ValueError, "newline"),
        ([ACCEPT, ACCEPT], RuntimeError, "a second time"),
        ([ACCEPT, {"type": "websocket.send"}], ValueError, "either 'text' or 'bytes'"),
        (
            [ACCEPT, {"type": "websocket.send", "text": "a", "bytes": b"a"}],
            ValueError,
            "either 'text' or 'bytes'",
        ),
        ([ACCEPT, {"type": "websocket.send", "text": b"a"}], TypeError, "must be str, not bytes"),
        ([ACCEPT, {"type": "websocket.send", "bytes": "a"}], TypeError, "must be bytes, not str"),
        (
            [ACCEPT, {"type": "websocket.http.response.start", "status": 200}],
            RuntimeError,
            "after 'websocket.accept'",
        ),
    ],
)
def test_what_cannot_be_sent(
    serve_asgi: ServeAsgi,
    errors: list[Any],
    messages: list[dict[str, Any]],
    error: type[Exception],
    text: str,
) -> None:
    with Peer(serve_asgi(sending(messages))) as peer:
        if peer.answer.status == 101:
            assert peer.closed() == 1011
        else:
            assert peer.answer.status == 500
    assert [type(reported) for reported in errors] == [error]
    assert text in str(errors[0])


def test_sending_to_one_who_has_closed(serve_asgi: ServeAsgi) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        assert (await receive())["type"] == "websocket.disconnect"
        with pytest.raises(WebSocketError) as info:
            await send({"type": "websocket.send", "text": "late"})
        # A farewell to one who has gone is no mistake.
        await send({"type": "websocket.close"})
        return info.value.code

    app = Results(run)
    with Peer(serve_asgi(app)) as peer:
        peer.send(closing(3000))
        assert peer.closed() == 3000
        assert app.get() == 3000


def test_the_time_of_a_request_ends_with_its_answer(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/":
            await send(ACCEPT)
        await asyncio.sleep(0.1)

    with Peer(serve_asgi(application, request_timeout=0.05)) as peer:
        assert peer.closed() == 1000


def test_requests_that_are_not_answered_in_time(serve_asgi: ServeAsgi, errors: list[Any]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    with Peer(serve_asgi(application, request_timeout=0.05)) as peer:
        assert peer.answer.status == 503


def test_pings_of_a_quiet_client(serve_asgi: ServeAsgi) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        return await receive()

    app = Results(run)
    with Peer(serve_asgi(app, websocket_ping=0.05)) as peer:
        assert peer.frame() == (FIN | PING, b"")
        peer.send(frame(FIN | PONG))
        assert peer.frame() == (FIN | PING, b"")
        assert app.get()["code"] == 1006


def test_many_send_at_once(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)

        async def say(number: int) -> None:
            await send({"type": "websocket.send", "bytes": bytes([number]) * 300_000})

        await asyncio.gather(*(say(number) for number in range(20)))

    with Peer(serve_asgi(application)) as peer:
        for number in range(20):
            assert peer.frame() == (FIN | BINARY, bytes([number]) * 300_000)
        assert peer.closed() == 1000


def test_a_slow_client_holds_up_its_sender_alone(serve_asgi: ServeAsgi) -> None:
    sent: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for number in range(64):
            await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
            sent.append(number)

    server = serve_asgi(application)
    with Peer(server) as slow:
        gevent.sleep(0.1)
        # The buffers of the system hold some MiB at most.
        assert len(sent) < 40
        for _ in range(64):
            assert slow.frame() == (FIN | BINARY, bytes(1 << 20))
        assert slow.closed() == 1000


def test_cancelling_loses_nothing(serve_asgi: ServeAsgi) -> None:
    async def run(scope: Scope, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        texts = []
        while len(texts) < 50:
            try:
                texts.append((await asyncio.wait_for(receive(), 0.001))["text"])
            except TimeoutError:
                pass
        return texts

    app = Results(run)
    with Peer(serve_asgi(app)) as peer:
        for number in range(50):
            gevent.sleep(0.001)
            peer.send(frame(FIN | TEXT, b"%d" % number))
        assert app.get() == [str(number) for number in range(50)]

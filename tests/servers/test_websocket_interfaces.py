"""WebSockets of WSGI and of ASGI applications, as far as their clients see no difference."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi
from gevent import queue
from websocket_support import (
    ACCEPT,
    BINARY,
    BROKEN,
    CLOSE,
    COMPRESSED,
    FIN,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Peer,
    closing,
    frame,
)
from wsgi_support import GUARD, WAYS, Client, Serve, serve_in

from greenloop.websocket import WebSocketError


class Interface(NamedTuple):
    """How to start servers of applications that do the same. The keywords are those of servers."""

    #: Of one that sends every message back.
    echo: Callable[..., Any]
    #: Of one that waits for a message that does not come.
    listen: Callable[..., Any]
    #: The codes that it was told instead.
    codes: queue.Queue[int]


def wsgi_interface(serve: Serve) -> Interface:
    codes: queue.Queue[int] = queue.Queue()

    def echo(environ: Any, start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        for message in websocket:
            websocket.send(message)
        return []

    def listen(environ: Any, start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        try:
            assert websocket.receive() is None
        except WebSocketError as error:
            codes.put(error.code)
            raise
        assert websocket.closed
        codes.put(websocket.close_code)
        return []

    return Interface(
        lambda **options: serve(echo, **options), lambda **options: serve(listen, **options), codes
    )


def asgi_interface(serve: ServeAsgi) -> Interface:
    codes: queue.Queue[int] = queue.Queue()

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "websocket.connect"}
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        assert message["type"] == "websocket.disconnect"

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        message = await receive()
        assert message["type"] == "websocket.disconnect"
        codes.put(message["code"])

    return Interface(
        lambda **options: serve(echo, **options), lambda **options: serve(listen, **options), codes
    )


@pytest.fixture(params=[*WAYS, "asgi"])
def interface(
    request: pytest.FixtureRequest, start: Callable[..., Any], serve_asgi: ServeAsgi
) -> Interface:
    if request.param == "asgi":
        return asgi_interface(serve_asgi)
    return wsgi_interface(serve_in(start, request.param))


def test_the_answer(interface: Interface) -> None:
    with Peer(interface.echo()) as peer:
        assert (peer.answer.status, peer.answer.reason) == (101, "Switching Protocols")
        headers = peer.answer.headers
        assert headers["upgrade"] == "websocket"
        assert headers["connection"] == "Upgrade"
        # The one that RFC 6455 shows.
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "sec-websocket-protocol" not in headers
        assert "sec-websocket-extensions" not in headers


def test_messages_come_back(interface: Interface) -> None:
    with Peer(interface.echo()) as peer:
        for first, payload in [
            (TEXT, "grün".encode()),
            (BINARY, bytes(range(256))),
            (TEXT, b""),
            (BINARY, b""),
            (BINARY, b"x" * 70_000),
        ]:
            peer.send(frame(FIN | first, payload))
            assert peer.frame() == (FIN | first, payload)
        peer.send(closing(1000, "bye"))
        assert peer.frame() == (FIN | CLOSE, b"\x03\xe8")
        assert peer.rest() == b""


def test_frames_that_come_with_the_request_or_in_pieces(interface: Interface) -> None:
    with Client(interface.echo()) as client:
        client.send(HANDSHAKE + frame(TEXT, b"one ") + frame(FIN | PING, b"?"))
        assert client.response().status == 101
        assert client.stream.read(3) == bytes([FIN | PONG, 1]) + b"?"
        for byte in frame(0, "zw€".encode()) + frame(FIN, b"i"):
            client.send(bytes([byte]))
        text = "one zw€i".encode()
        assert client.stream.read(2 + len(text)) == bytes([FIN | TEXT, len(text)]) + text


@pytest.mark.parametrize("case", BROKEN)
def test_clients_that_break_the_protocol(interface: Interface, case: str) -> None:
    sent, code = BROKEN[case]
    with Peer(interface.listen(max_message=1000)) as peer:
        peer.send(frame(FIN | PING, b"first") + sent)
        assert peer.frame() == (FIN | PONG, b"first")
        assert peer.closed() == code
        assert interface.codes.get(timeout=GUARD) == code


def test_control_frames_between_fragments(interface: Interface) -> None:
    with Peer(interface.echo()) as peer:
        peer.send(frame(TEXT, b"a") + frame(FIN | PONG, b"unasked") + frame(FIN | PING))
        assert peer.frame() == (FIN | PONG, b"")
        peer.send(frame(FIN, b"b"))
        assert peer.frame() == (FIN | TEXT, b"ab")


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away(interface: Interface, reset: bool) -> None:
    peer = Peer(interface.listen())
    if reset:
        peer.reset()
    else:
        peer.close()
    assert interface.codes.get(timeout=GUARD) == 1006


def test_a_server_that_stops_says_so(interface: Interface) -> None:
    server = interface.listen()
    with Peer(server) as peer:
        gevent.sleep(0.01)
        stopping = gevent.spawn(server.stop, timeout=GUARD)
        assert peer.closed() == 1001
        assert interface.codes.get(timeout=GUARD) == 1001
        stopping.get(timeout=GUARD)


class TestCompression:
    OFFER = "Sec-WebSocket-Extensions: permessage-deflate"

    @pytest.mark.parametrize("limit", [True, False], ids=["limited", "unlimited"])
    def test_both_ways(self, interface: Interface, limit: bool) -> None:
        """Clients that let the server limit their window, and others."""
        offer = self.OFFER + ("; client_max_window_bits" if limit else "")
        agreed = "permessage-deflate; server_max_window_bits=12"
        with Peer(interface.echo(), offer) as peer:
            answer = peer.answer.headers["sec-websocket-extensions"]
            assert answer == agreed + ("; client_max_window_bits=12" if limit else "")
            compressor = zlib.compressobj(wbits=-12 if limit else -15)
            decompressor = zlib.decompressobj(wbits=-12)
            text = b"again and " * 100
            sizes = []
            for _ in range(3):
                data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
                peer.send(frame(FIN | COMPRESSED | TEXT, data[:-4]))
                first, payload = peer.frame()
                assert first == FIN | COMPRESSED | TEXT
                assert decompressor.decompress(payload + b"\0\0\xff\xff") == text
                sizes.append(len(payload))
            # The window is kept.
            assert sizes[1] < sizes[0] < 100
            peer.send(frame(FIN | TEXT, b"short"))
            assert peer.frame() == (FIN | TEXT, b"short")

    def test_a_bomb(self, interface: Interface) -> None:
        bomb = zlib.compressobj(wbits=-15)
        data = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        with Peer(interface.listen(), self.OFFER) as peer:
            peer.send(frame(FIN | COMPRESSED | BINARY, data[:-4]))
            assert peer.closed() == 1009
            assert interface.codes.get(timeout=GUARD) == 1009

    def test_none_where_it_is_not_wanted(self, interface: Interface) -> None:
        with Peer(interface.echo(websocket_compression=False), self.OFFER) as peer:
            assert "sec-websocket-extensions" not in peer.answer.headers


def test_nothing_is_kept(interface: Interface) -> None:
    server = interface.echo()
    for _ in range(3):
        with Peer(server) as peer:
            peer.send(frame(FIN | TEXT, b"a"))
            peer.frame()
            peer.send(closing(1000))
            assert peer.rest() == b"\x88\x02\x03\xe8"
    gevent.idle()
    assert server._core.connection_count == 0

"""WebSockets of WSGI applications: what these see, and what they can do."""

from __future__ import annotations

import copy
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent import pywsgi, queue
from scripts import RunScript
from websocket_support import (
    BINARY,
    CLOSE,
    FIN,
    PING,
    PONG,
    TEXT,
    Peer,
    closing,
    frame,
)
from wsgi_support import GUARD, Client, Serve

from greenloop.exceptions import ConcurrentObjectUseError
from greenloop.websocket import WebSocket, WebSocketError


@contextmanager
def application(serve: Serve, run: Callable[[WebSocket], Any], **options: Any) -> Iterator[Any]:
    """A server whose application does something with a WebSocket; its result is `.result.get()`."""
    results: queue.Queue[Any] = queue.Queue()

    def call(environ: Any, start_response: Any) -> list[bytes]:
        try:
            results.put((True, run(environ["wsgi.websocket"])))
        except BaseException as error:
            results.put((False, error))
            raise
        return []

    def result() -> Any:
        worked, value = results.get(timeout=GUARD)
        if worked:
            return value
        raise value

    server = serve(call, **options)
    server.result = result
    yield server


def test_what_is_wrong_is_told_to_the_application(serve: Serve) -> None:
    with (
        application(serve, lambda socket: socket.receive(), max_message=1000) as server,
        Peer(server) as peer,
    ):
        peer.send(frame(FIN | BINARY, bytes(1001)))
        assert peer.closed() == 1009
        with pytest.raises(WebSocketError, match="too big") as caught:
            server.result()
        assert caught.value.code == 1009


@pytest.mark.parametrize("code", [None, 1000, 1001, 1011, 3000, 4999])
def test_a_client_that_closes(serve: Serve, code: int | None) -> None:
    def run(websocket: WebSocket) -> Any:
        first, second = websocket.receive(), websocket.receive()
        with pytest.raises(WebSocketError) as caught:
            websocket.send("late")
        return (
            first,
            second,
            websocket.closed,
            websocket.close_code,
            websocket.close_reason,
            (caught.value.code),
        )

    with application(serve, run) as server, Peer(server) as peer:
        peer.send(frame(FIN | CLOSE) if code is None else closing(code, "why"))
        assert peer.closed() == code
        seen, reason = (1005, "") if code is None else (code, "why")
        assert server.result() == (None, None, True, seen, reason, seen)


def test_the_application_closes(serve: Serve) -> None:
    def run(websocket: WebSocket) -> Any:
        with pytest.raises(ValueError, match="a code to close with"):
            websocket.close(1005)
        with pytest.raises(ValueError, match="a code to close with"):
            websocket.close(1000, "x" * 124)
        assert not websocket.closed
        websocket.close(4000, "enough")
        websocket.close(4001)
        return websocket.receive(), websocket.close_code, websocket.close_reason

    with application(serve, run) as server, Peer(server) as peer:
        # On their way before the client knows.
        peer.send(frame(FIN | TEXT, b"lost") + frame(FIN | PING))
        assert peer.frame() == (FIN | CLOSE, struct.pack("!H", 4000) + b"enough")
        peer.send(closing(4000))
        assert peer.rest() == b""
        assert server.result() == (None, 4000, "enough")


def test_a_client_that_does_not_answer_a_close(serve: Serve) -> None:
    with application(serve, lambda socket: socket.close()) as server, Peer(server) as peer:
        assert peer.frame() == (FIN | CLOSE, b"\x03\xe8")
        # Not for long.
        assert peer.rest() == b""
        assert server.result() is None


def test_it_is_closed_when_the_application_returns(serve: Serve) -> None:
    with (
        application(serve, lambda socket: socket.send("only")) as server,
        Peer(server) as peer,
    ):
        assert peer.frame() == (FIN | TEXT, b"only")
        assert peer.closed() == 1000


def test_it_is_closed_when_the_application_fails(serve: Serve, errors: list[Any]) -> None:
    def run(websocket: WebSocket) -> None:
        websocket.accept()
        raise ValueError("no")

    with application(serve, run) as server, Peer(server) as peer:
        assert peer.closed() == 1011
    assert [str(error) for error in errors] == ["no"]


def test_accepting(serve: Serve) -> None:
    def run(websocket: WebSocket) -> Any:
        assert not websocket.accepted
        with pytest.raises(ValueError, match='does not offer the subprotocol "other"'):
            websocket.accept("other")
        with pytest.raises(ValueError, match="newline"):
            websocket.accept(headers=[("X-A", "a\r\nb")])
        assert not websocket.accepted
        offered = websocket.subprotocols
        websocket.accept("v2", [("X-A", "a")])
        assert websocket.accepted
        with pytest.raises(ValueError, match="before"):
            websocket.accept()
        return offered, websocket.subprotocol

    header = "Sec-WebSocket-Protocol: v1, v2"
    with application(serve, run) as server, Peer(server, header) as peer:
        assert peer.answer.headers["sec-websocket-protocol"] == "v2"
        assert peer.answer.headers["x-a"] == "a"
        assert peer.closed() == 1000
        assert server.result() == (("v1", "v2"), "v2")


def test_an_application_may_answer_as_it_likes(serve: Serve) -> None:
    kept = []

    def refuse(environ: Any, start_response: Any) -> list[bytes]:
        kept.append(environ["wsgi.websocket"])
        start_response("403 Forbidden", [])
        return [b"no"]

    with Peer(serve(refuse)) as peer:
        assert (peer.answer.status, peer.answer.body) == (403, b"no")
        # The connection goes on.
        with pytest.raises(ValueError, match="the request is over"):
            kept[0].receive()


def test_not_after_an_answer_has_begun(serve: Serve, errors: list[Any]) -> None:
    def both(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])(b"a")
        with pytest.raises(ValueError, match="answered before"):
            environ["wsgi.websocket"].accept()
        return [b"b"]

    with Peer(serve(both)) as peer:
        assert (peer.answer.status, peer.answer.body) == (200, b"ab")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Upgrade: websocket"],
        ["Upgrade: h2c", "Connection: Upgrade"],
        ["Upgrade: websocket", "Connection: Upgrade"],
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"],
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: short",
        ],
    ],
)
def test_requests_that_ask_for_none(serve: Serve, headers: list[str]) -> None:
    def look(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [str("wsgi.websocket" in environ).encode()]

    with Client(serve(look)) as client:
        assert client.get("/", *headers).body == b"False"


def test_kinds_of_messages(serve: Serve) -> None:
    def run(websocket: WebSocket) -> None:
        websocket.send("text")
        websocket.send("text", binary=True)
        websocket.send(b"data")
        websocket.send(b"data", binary=False)
        websocket.send(bytearray(b"array"))
        websocket.send(memoryview(b"view")[1:])
        for wrong in (7, None, ["a"]):
            with pytest.raises(TypeError, match="a message is str or bytes, not"):
                websocket.send(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="UTF-8"):
            websocket.send(b"\xff", binary=False)
        with pytest.raises(UnicodeEncodeError):
            websocket.send("\ud800")
        websocket.ping()
        websocket.ping(b"x" * 125)
        with pytest.raises(ValueError, match="125 bytes"):
            websocket.ping(b"x" * 126)

    with application(serve, run) as server, Peer(server) as peer:
        frames = [peer.frame() for _ in range(8)]
        assert frames == [
            (FIN | TEXT, b"text"),
            (FIN | BINARY, b"text"),
            (FIN | BINARY, b"data"),
            (FIN | TEXT, b"data"),
            (FIN | BINARY, b"array"),
            (FIN | BINARY, b"iew"),
            (FIN | PING, b""),
            (FIN | PING, b"x" * 125),
        ]
        assert peer.closed() == 1000
        server.result()


def test_time_outs(serve: Serve) -> None:
    def run(websocket: WebSocket) -> Any:
        for seconds in (0.01, 0, -1):
            with pytest.raises(TimeoutError):
                websocket.receive(timeout=seconds)
        with pytest.raises(ValueError, match="NaN"):
            websocket.receive(timeout=float("nan"))
        with gevent.Timeout(0.01, False):
            websocket.receive()
        # Nothing is lost.
        websocket.send("now")
        return websocket.receive(timeout=GUARD)

    with application(serve, run) as server, Peer(server) as peer:
        peer.send(frame(TEXT, b"be"))
        assert peer.frame() == (FIN | TEXT, b"now")
        peer.send(frame(FIN, b"gun"))
        assert peer.closed() == 1000
        assert server.result() == "begun"


def test_the_time_of_a_request_ends_with_its_answer(serve: Serve) -> None:
    def run(websocket: WebSocket) -> Any:
        websocket.accept()
        gevent.sleep(0.1)
        return websocket.receive()

    with application(serve, run, request_timeout=0.05) as server, Peer(server) as peer:
        peer.send(frame(FIN | TEXT, b"late"))
        assert peer.closed() == 1000
        assert server.result() == "late"


def test_many_send_and_one_receives(serve: Serve) -> None:
    def run(websocket: WebSocket) -> None:
        websocket.accept()
        receiver = gevent.spawn(websocket.receive)
        gevent.sleep(0)
        with pytest.raises(ConcurrentObjectUseError):
            websocket.receive()
        # More than the buffers take, so that they get in each other's way.
        gevent.joinall(
            [gevent.spawn(websocket.send, str(n) * 100_000) for n in range(10)], raise_error=True
        )
        assert receiver.get() == "enough"

    with application(serve, run) as server, Peer(server) as peer:
        gevent.sleep(0.05)
        texts = [peer.frame()[1] for _ in range(10)]
        assert sorted(texts) == [str(n).encode() * 100_000 for n in range(10)]
        peer.send(frame(FIN | TEXT, b"enough"))
        assert peer.closed() == 1000
        server.result()


def test_a_killed_sender_keeps_nobody_waiting(serve: Serve) -> None:
    def run(websocket: WebSocket) -> Any:
        websocket.accept()
        # The client reads nothing yet.
        first = gevent.spawn(websocket.send, b"x" * 50_000_000)
        second = gevent.spawn(websocket.send, b"y")
        gevent.sleep(0.01)
        assert not second.dead
        first.kill()
        # Part of a frame was sent: nothing can follow.
        with pytest.raises(OSError, match=r".*"):
            second.get()
        return websocket.closed

    with application(serve, run) as server, Peer(server):
        assert server.result() is True


def test_pings_of_a_quiet_client(serve: Serve) -> None:
    def run(websocket: WebSocket) -> Any:
        return websocket.receive(), websocket.receive(), websocket.close_code

    with application(serve, run, websocket_ping=0.4) as server, Peer(server) as peer:
        # One that answers stays.
        for _ in range(3):
            first, payload = peer.frame()
            assert first == FIN | PING
            peer.send(frame(FIN | PONG, payload))
        peer.send(frame(FIN | TEXT, b"here"))
        # One that does not is gone.
        assert peer.frame()[0] == FIN | PING
        first, payload = peer.frame()
        assert (first, payload[:2]) == (FIN | CLOSE, struct.pack("!H", 1011))
        assert server.result() == ("here", None, 1006)


LIBRARY = """
    from gevent import monkey; monkey.patch_all()
    import ssl, sys
    import gevent, websocket
    from gevent.pywsgi import WSGIServer

    def echo(environ, start_response):
        for message in environ["wsgi.websocket"]:
            environ["wsgi.websocket"].send(message)
        return []

    def talk(number):
        client = websocket.create_connection(url, timeout=30, sslopt={"context": context})
        seen = []
        for message in (f"client {number}", "ä" * 1000):
            client.send(message)
            seen.append(client.recv())
        client.send_binary(bytes([number]))
        seen.append(client.recv())
        client.close()
        return seen == [f"client {number}", "ä" * 1000, bytes([number])]

    files = dict(zip(("certfile", "keyfile", "ca"), sys.argv[1:]))
    context = ssl.create_default_context(cafile=files.pop("ca", None))
    server = WSGIServer(("127.0.0.1", 0), echo, log=None, **files)
    server.start()
    scheme = "wss" if files else "ws"
    url = f"{scheme}://localhost:{server.address[1]}/"
    jobs = [gevent.spawn(talk, number) for number in range(100)]
    print(sum(job.get() for job in jobs))
"""


def test_100_clients_of_a_library(run_script: RunScript) -> None:
    assert run_script(LIBRARY).check_quiet() == "100\n"


def test_100_clients_over_tls(run_script: RunScript, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    files = [tmp_path / name for name in ("certificate", "key", "ca")]
    certificate.cert_chain_pems[0].write_to_path(files[0])
    certificate.private_key_pem.write_to_path(files[1])
    authority.cert_pem.write_to_path(files[2])
    assert run_script(LIBRARY, *map(str, files)).check_quiet() == "100\n"


def test_the_error() -> None:
    error = WebSocketError("closed", 1001)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(other), other.code) == ("closed", 1001)
    assert isinstance(error, OSError)
    assert pywsgi.WSGIServer.max_message == 16 << 20

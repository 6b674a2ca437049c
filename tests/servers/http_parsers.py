"""What three parsers of HTTP/1.1 make of the same bytes: ours, by a server's answers, h11, and
llhttp as httptools has it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import unquote

import h11
import httptools
from gevent import socket
from wsgi_support import GUARD, read_response


class Message(NamedTuple):
    """A request, as far as a mistake in it would let somebody smuggle another."""

    method: str
    path: str
    query: str
    body: bytes

    @classmethod
    def of(cls, method: bytes, target: bytes, body: bytes) -> Message:
        """The request of a target as it was sent, which may have a scheme and a host."""
        path, _, query = target.decode("latin-1").partition("?")
        if "://" in path and not path.startswith("/"):
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        if path == "*":
            path = ""
        return cls(method.decode(), unquote(path, "latin-1"), query, body)


class Reading(NamedTuple):
    """The requests that were found, one after the other, and why there is no other.

    end: "refused: " and the reason; "end" of what was sent, in the middle of a request or not;
        "closed" as the last request asks for; "upgraded" as it offers another protocol.
    """

    messages: list[Message]
    end: str


def telling(environ: Any, start_response: Any) -> list[bytes]:
    """An application that answers with what it was asked."""
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")
    body = environ["wsgi.input"].read().decode("latin-1")
    told = json.dumps([*(environ[name] for name in names), body])
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Told", told)])
    return []


def read_ours(server: Any, data: bytes) -> Reading:
    """server: of the application `telling`."""
    with socket.create_connection(server.address, GUARD) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    stream = BytesIO(answer)
    messages: list[Message] = []
    while stream.tell() < len(answer):
        # The answer to HEAD has no body, and neither have those of the application.
        response = read_response(stream, is_head=True)
        if response.status == 100:
            continue
        if response.status != 200:
            text = stream.read().decode()
            return Reading(messages, "end" if "ended" in text else f"refused: {text.strip()}")
        method, path, query, body = json.loads(response.headers["x-told"])
        messages.append(Message(method, path, query, body.encode("latin-1")))
        if response.headers.get("connection") == "close":
            return Reading(messages, "closed")
    return Reading(messages, "end")


def read_by_h11(data: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    connection.receive_data(b"")
    messages: list[Message] = []
    body = b""
    request: Any = None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                messages.append(Message.of(request.method, request.target, body))
                if connection.their_state is h11.MIGHT_SWITCH_PROTOCOL:
                    return Reading(messages, "upgraded")
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return Reading(messages, "closed")
                connection.start_next_cycle()
            else:
                return Reading(messages, "end")
    except h11.RemoteProtocolError as error:
        # Also of a connection that ends too early, which is no fault of the parser's.
        is_end = "closed connection" in str(error) or "message body" in str(error)
        return Reading(messages, "end" if is_end else f"refused: {error}")


class _Collector:
    """The protocol that httptools calls."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.messages: list[Message] = []
        self.is_closed = False
        self.target = self.body = b""

    def on_message_begin(self) -> None:
        self.target = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.is_closed:
            return
        self.messages.append(Message.of(self.parser.get_method(), self.target, self.body))
        self.is_closed = not self.parser.should_keep_alive()


def read_by_httptools(data: bytes) -> Reading:
    collector = _Collector()
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return Reading(collector.messages, "upgraded")
    except httptools.HttpParserError as error:
        if not collector.is_closed:
            return Reading(collector.messages, f"refused: {error}")
    return Reading(collector.messages, "closed" if collector.is_closed else "end")

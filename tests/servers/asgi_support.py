"""What the tests of ASGI applications share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from wsgi_support import GUARD

from greenloop.asgi import ASGIServer

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]
ServeAsgi = Callable[..., ASGIServer]


async def respond(send: Send, body: bytes = b"", status: int = 200, **headers: str) -> None:
    """Send a whole response."""
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    """All of a request's body."""
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"hello")


def sending(messages: list[dict[str, Any]]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An application that sends these."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return application


@pytest.fixture
def serve_asgi() -> Iterator[ServeAsgi]:
    """Starts a server of an application; the keywords are those of ASGIServer."""
    servers: list[ASGIServer] = []

    def serve(application: Any = None, **options: Any) -> ASGIServer:
        options = {"log": None, "error_log": None, "lifespan": "off", **options}
        listener = options.pop("listener", ("127.0.0.1", 0))
        server = ASGIServer(listener, application, **options)
        servers.append(server)
        server.start()
        return server

    yield serve
    for server in servers:
        server.stop(timeout=GUARD)

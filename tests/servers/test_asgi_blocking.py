"""What an application receives while its first step, which is the connection's greenlet, blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, read_body, respond
from gevent import event
from wsgi_support import GUARD, Client, exchange, parse

from greenloop.asyncio import wait

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Steps:
    """Events that an application and a test tell each other of."""

    def __init__(self) -> None:
        self.begun = event.Event()
        self.go = event.Event()
        self.messages: list[Any] = []
        self.told = event.Event()

    def block(self) -> None:
        """In the application: until the test says so."""
        self.begun.set()
        assert self.go.wait(GUARD)

    async def watch(self, receive: Receive) -> None:
        """Note what comes next."""
        self.messages.append(await receive())
        self.told.set()


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_a_client_that_goes_meanwhile_is_noticed_after_it(
    serve_asgi: ServeAsgi, steps: Steps
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        steps.block()
        await steps.watch(receive)

    with Client(serve_asgi(application)) as client:
        client.send(GET)
        assert steps.begun.wait(GUARD)
    steps.go.set()
    assert steps.told.wait(GUARD)
    assert steps.messages == [{"type": "http.disconnect"}]


def test_another_task_notices_it_meanwhile(serve_asgi: ServeAsgi, steps: Steps) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        task = asyncio.create_task(steps.watch(receive))
        steps.block()
        await task

    server = serve_asgi(application)
    with Client(server) as client:
        client.send(GET)
        assert steps.begun.wait(GUARD)
        gevent.sleep(0.01)
        assert not steps.messages
    # The call that blocks goes on.
    assert steps.told.wait(GUARD)
    assert steps.messages == [{"type": "http.disconnect"}]
    steps.go.set()


def test_it_is_looked_for_again_and_again(serve_asgi: ServeAsgi, steps: Steps) -> None:
    """As Starlette's `Request.is_disconnected` does."""

    async def is_gone(receive: Receive) -> bool:
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        if task.done():
            return task.result()["type"] == "http.disconnect"
        task.cancel()
        return False

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        steps.begun.set()
        while not await is_gone(receive):
            gevent.sleep(0.001)
        steps.told.set()

    with Client(serve_asgi(application)) as client:
        client.send(GET)
        assert steps.begun.wait(GUARD)
        gevent.sleep(0.01)
        assert not steps.told.is_set()
    assert steps.told.wait(GUARD)


@pytest.mark.parametrize("in_task", [False, True])
def test_a_call_that_waits_for_what_is_received(serve_asgi: ServeAsgi, in_task: bool) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        body = read_body(receive)
        await respond(send, wait(asyncio.create_task(body) if in_task else body))

    with Client(serve_asgi(application)) as client:
        for _ in range(2):
            client.send(POST)
            for letter in b"hello":
                gevent.sleep(0.001)
                client.send(bytes([letter]))
            assert client.response().body == b"hello"


def test_the_connection_goes_on_after_it(serve_asgi: ServeAsgi, steps: Steps) -> None:
    """What the client has sent meanwhile is not lost with whoever has looked after it."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/next":
            await respond(send, await read_body(receive))
            return
        await receive()
        task = asyncio.create_task(steps.watch(receive))
        steps.block()
        await respond(send, b"first")
        await task

    with Client(serve_asgi(application)) as client:
        client.send(GET)
        assert steps.begun.wait(GUARD)
        # It comes while somebody looks whether the client has gone; the rest comes later.
        gevent.sleep(0.01)
        client.send(b"POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        gevent.sleep(0.01)
        steps.go.set()
        assert client.response().body == b"first"
        # The response was over.
        assert steps.told.wait(GUARD)
        assert steps.messages == [{"type": "http.disconnect"}]
        client.send(b"llo")
        assert client.response().body == b"hello"
        client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().body == b""


def test_bodies_are_received_as_far_as_they_are_asked_for(
    serve_asgi: ServeAsgi, steps: Steps
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.create_task(steps.watch(receive))
        steps.block()
        await task
        rest = await read_body(receive)
        await respond(send, steps.messages[0]["body"] + rest)

    with Client(serve_asgi(application)) as client:
        client.send(POST)
        assert steps.begun.wait(GUARD)
        client.send(b"he")
        assert steps.told.wait(GUARD)
        assert steps.messages[0]["body"] == b"he"
        client.send(b"llo")
        gevent.sleep(0.01)
        steps.go.set()
        assert client.response().body == b"hello"


def test_the_time_of_a_request_is_over_meanwhile(
    serve_asgi: ServeAsgi, steps: Steps, errors: list[Any]
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        task = asyncio.create_task(steps.watch(receive))
        steps.block()
        await task
        await asyncio.sleep(GUARD)

    server = serve_asgi(application, request_timeout=0.05)
    assert parse(exchange(server, GET)).status == 503
    assert steps.told.wait(GUARD)
    assert steps.messages == [{"type": "http.disconnect"}]
    steps.go.set()
    with gevent.Timeout(GUARD):
        while not errors:
            gevent.sleep(0.001)
    assert isinstance(errors[0], TimeoutError)


def test_the_server_stops_meanwhile(serve_asgi: ServeAsgi, steps: Steps) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        task = asyncio.create_task(steps.watch(receive))
        try:
            steps.block()
        finally:
            task.cancel()

    server = serve_asgi(application, spawn=10)
    with Client(server) as client:
        client.send(GET)
        assert steps.begun.wait(GUARD)
        gevent.sleep(0.01)
        server.stop(timeout=0.05)
        assert client.response().status == 503
        assert client.rest() == b""
    assert not steps.messages

"""ASGI applications: which interface an application has, and its lifespan."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, hello, respond
from wsgi_support import GUARD, Client

from greenloop._asgi_interface import detect
from greenloop.asgi import ASGIServer, LifespanError


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"wsgi"]


class Single:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"single")

    async def method(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Double:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await respond(send, b"double " + self.scope["path"].encode())


def double(scope: Scope) -> Any:
    return Double(scope)


class Wsgi:
    def __init__(self, environ: Any, start_response: Any) -> None:
        self.start = start_response

    def __iter__(self) -> Any:
        self.start("200 OK", [])
        yield b"class"


class Called:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class Awaitable:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def __await__(self) -> Any: ...


class SetLater:
    """Some packages set `__call__` of the object."""

    def __init__(self) -> None:
        self.__call__ = Single().__call__


@pytest.mark.parametrize(
    ("application", "interface"),
    [
        (hello, "asgi"),
        (functools.partial(hello), "asgi"),
        (Single(), "asgi"),
        (Single().method, "asgi"),
        (functools.partial(Single()), "asgi"),
        (Awaitable, "asgi"),
        (SetLater(), "asgi"),
        (Double, "asgi2"),
        (double, "asgi2"),
        (wsgi, "wsgi"),
        (functools.partial(wsgi), "wsgi"),
        (Wsgi, "wsgi"),
        (Called(), "wsgi"),
        (lambda *args: None, "wsgi"),
        (dict, "wsgi"),
    ],
)
def test_interfaces(application: Any, interface: str) -> None:
    assert detect(application) == interface


def test_applications_of_all_kinds_are_served(serve_asgi: ServeAsgi) -> None:
    for application, body in (
        (Single(), b"single"),
        (Double, b"double /a"),
        (double, b"double /a"),
        (wsgi, b"wsgi"),
        (Wsgi, b"class"),
    ):
        with Client(serve_asgi(application)) as client:
            assert client.get("/a").body == body


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"interface": "fcgi"}, ValueError),
        ({"lifespan": "yes"}, ValueError),
        ({"mounts": {"api": hello}}, ValueError),
        ({"mounts": {"/": hello}}, ValueError),
        ({"handler_class": object}, TypeError),
        ({"application": None}, TypeError),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ASGIServer(("127.0.0.1", 0), **{"application": hello, **options})


class App:
    """Notes what it is told of its lifespan."""

    def __init__(self, start: Any = "complete", stop: Any = "complete") -> None:
        self.answers = {"startup": start, "shutdown": stop}
        self.told: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self.told.append(f"{scope['type']} {scope['state']}")
            scope["state"]["shared"].append(scope["path"])
            scope["state"]["own"] = 1
            await respond(send, b"hello")
            return
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        scope["state"]["shared"] = []
        for _ in range(2):
            what = (await receive())["type"].removeprefix("lifespan.")
            self.told.append(what)
            await asyncio.sleep(0)
            answer = self.answers[what]
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, tuple):
                await send({"type": f"lifespan.{what}.failed", "message": answer[0]})
            else:
                await send({"type": f"lifespan.{what}.{answer}"})
            if answer != "complete":
                return


@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_an_application_is_told_of_start_and_stop(serve_asgi: ServeAsgi, lifespan: str) -> None:
    app = App()
    server = serve_asgi(app, lifespan=lifespan)
    assert app.told == ["startup"]
    with Client(server) as client:
        client.get("/a")
        client.get("/b")
    server.stop(GUARD)
    # Each request has its own state, of the same objects.
    assert app.told == [
        "startup",
        "http {'shared': []}",
        "http {'shared': ['/a']}",
        "shutdown",
    ]
    server.start()
    with Client(server) as client:
        client.get("/c")
    server.stop(GUARD)
    assert app.told[4:] == ["startup", "http {'shared': []}", "shutdown"]


def test_without_a_lifespan_there_is_none(serve_asgi: ServeAsgi) -> None:
    seen = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["type"], "state" in scope))
        await respond(send)

    with Client(serve_asgi(application, lifespan="off")) as client:
        client.get()
    assert seen == [("http", False)]


def test_applications_that_know_of_none(serve_asgi: ServeAsgi) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await respond(send, b"hello")

    server = serve_asgi(application, lifespan="auto")
    with Client(server) as client:
        assert client.get().body == b"hello"
    with pytest.raises(LifespanError, match="has failed in its lifespan: AssertionError") as info:
        serve_asgi(application, lifespan="on")
    assert isinstance(info.value.__cause__, AssertionError)


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (("no database",), "no database"),
        ("failed", "the application has failed to start"),
        (("",), "the application has failed to start"),
    ],
)
def test_applications_that_cannot_start(serve_asgi: ServeAsgi, start: Any, text: str) -> None:
    app = App(start=start)
    with pytest.raises(LifespanError, match=text):
        serve_asgi(app, lifespan="auto")
    assert app.told == ["startup"]


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("cannot flush",), "cannot flush"),
        ("failed", "the application has failed to stop"),
        (LookupError("gone"), "has failed in its lifespan: LookupError: gone"),
    ],
)
def test_applications_that_do_not_stop_well(stop: Any, text: str) -> None:
    app = App(stop=stop)
    server = ASGIServer(("127.0.0.1", 0), app, log=None, error_log=None)
    server.start()
    with pytest.raises(LifespanError, match=text):
        server.stop(GUARD)
    assert app.told == ["startup", "shutdown"]


def test_answers_that_are_none() -> None:
    raised: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for kind in ("lifespan.shutdown.complete", "http.response.start"):
            try:
                await send({"type": kind})
            except RuntimeError as error:
                raised.append(error)
        await send({"type": "lifespan.startup.complete"})
        try:
            await send({"type": "lifespan.startup.complete"})
        except RuntimeError as error:
            raised.append(error)
        await receive()

    server = ASGIServer(("127.0.0.1", 0), application, log=None, error_log=None)
    server.start()
    server.stop(GUARD)
    assert "no answer to 'lifespan.startup'" in str(raised[0])
    assert "a second time" in str(raised[2])


def test_an_application_that_fails_to_start_has_others_stopped() -> None:
    fine, other = App(), App(start=("no",))
    server = ASGIServer(("127.0.0.1", 0), fine, mounts={"/other": other}, log=None)
    with pytest.raises(LifespanError):
        server.start()
    assert (fine.told, other.told) == (["startup", "shutdown"], ["startup"])
    assert server.closed


def test_background_tasks_of_a_lifespan(serve_asgi: ServeAsgi) -> None:
    ticks: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await respond(send, b"hello")
            return

        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        await receive()
        task = asyncio.create_task(tick())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        task.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    server = serve_asgi(application, lifespan="on")
    count = len(ticks)
    with gevent.Timeout(GUARD):
        while len(ticks) < count + 5:
            gevent.sleep(0.001)
    server.stop(GUARD)
    gevent.sleep(0.01)
    count = len(ticks)
    gevent.sleep(0.02)
    assert len(ticks) == count

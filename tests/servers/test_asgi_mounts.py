"""Servers of several applications, of ASGI and of WSGI."""

from __future__ import annotations

import asyncio
from typing import Any

import gevent
from asgi_support import Receive, Scope, Send, ServeAsgi, respond
from gevent import event
from wsgi_support import GUARD, Client


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [f"wsgi {environ['SCRIPT_NAME']!r} {environ['PATH_INFO']!r}".encode()]


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, f"asgi {scope['root_path']!r} {scope['path']!r}".encode())


def test_paths(serve_asgi: ServeAsgi) -> None:
    server = serve_asgi(wsgi, mounts={"/api": asgi, "/api/old/": wsgi, "/b c": wsgi})
    with Client(server) as client:
        for path, expected in {
            "/": "wsgi '' '/'",
            "/apis": "wsgi '' '/apis'",
            "/api": "asgi '/api' '/api'",
            "/api/": "asgi '/api' '/api/'",
            "/api/x/y?z": "asgi '/api' '/api/x/y'",
            "/%61pi/x": "asgi '/api' '/api/x'",
            "/api/older": "asgi '/api' '/api/older'",
            "/api/old": "wsgi '/api/old' ''",
            "/api/old/x%20y": "wsgi '/api/old' '/x y'",
            "/b%20c/d": "wsgi '/b c' '/d'",
        }.items():
            assert client.get(path).body.decode() == expected, path


def test_nothing_but_mounts(serve_asgi: ServeAsgi) -> None:
    with Client(serve_asgi(mounts={"/api": asgi})) as client:
        assert client.get("/api").status == 200
        assert client.get("/").status == 404


def test_bodies_and_files_of_both_on_one_connection(serve_asgi: ServeAsgi) -> None:
    async def asgi_echo(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        await respond(send, (await receive())["body"])

    def wsgi_echo(environ: Any, start_response: Any) -> list[bytes]:
        gevent.sleep(0)
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

    with Client(serve_asgi(wsgi_echo, mounts={"/a": asgi_echo})) as client:
        for number in range(20):
            path = b"/a" if number % 2 else b"/"
            body = b"%d" % number
            client.send(
                b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
                % (path, len(body), body)
            )
        for number in range(20):
            assert client.response().body == b"%d" % number


def test_they_run_at_the_same_time(serve_asgi: ServeAsgi) -> None:
    """A greenlet waits for a coroutine of the other application, and the other way round."""
    first = event.Event()
    second = asyncio.Event()

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        first.set()
        await second.wait()
        await respond(send, b"asgi")

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        assert first.wait(GUARD)
        second.set()
        start_response("200 OK", [])
        return [b"wsgi"]

    server = serve_asgi(wsgi, mounts={"/a": asgi})
    with Client(server) as one, Client(server) as other:
        one.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert other.get("/a").body == b"asgi"
        assert one.response().body == b"wsgi"


def test_wsgi_applications_wait_on_the_same_loop(serve_asgi: ServeAsgi) -> None:
    from greenloop.asyncio import wait

    loops: list[Any] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        await note()
        await respond(send)

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        wait(note())
        start_response("200 OK", [])
        return []

    with Client(serve_asgi(wsgi, mounts={"/a": asgi})) as client:
        assert client.get("/").status == 200
        assert client.get("/a").status == 200
    assert loops[0] is loops[1]

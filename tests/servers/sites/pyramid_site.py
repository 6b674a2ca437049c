"""The site on Pyramid. See test_frameworks.py for what its pages are for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
from pyramid.config import Configurator
from pyramid.response import FileResponse, Response
from pyramid.session import SignedCookieSessionFactory

everybody = threading.Barrier(100)


def hello(request: Any) -> Response:
    name, how = request.matchdict["name"], request.GET.get("how", "quietly")
    return Response(f"hello {name}, {how}")


def count(request: Any) -> Response:
    request.session["count"] = request.session.get("count", 0) + 1
    return Response(str(request.session["count"]))


def form(request: Any) -> Response:
    return Response(f"{request.POST['name']} is {request.POST['age']}")


def upload(request: Any) -> Response:
    file = request.POST["file"]
    return Response(f"{file.filename} {hashlib.sha256(file.file.read()).hexdigest()}")


def download(request: Any) -> Response:
    response = FileResponse("data.bin", request)
    response.content_disposition = "attachment; filename=data.bin"
    return response


def stream(_: Any) -> Response:
    def lines() -> Iterator[bytes]:
        yield b"first\n"
        while not Path("go").exists():
            time.sleep(0.01)
        yield b"second\n"

    return Response(app_iter=lines(), content_type="text/plain")


def endless(_: Any) -> Response:
    def lines() -> Iterator[bytes]:
        try:
            while True:
                yield b"tick\n"
                time.sleep(0.001)
        finally:
            Path("gone").touch()

    return Response(app_iter=lines(), content_type="text/plain")


def together(_: Any) -> Response:
    everybody.wait()
    return Response("together")


def limited(_: Any) -> Response:
    try:
        with gevent.Timeout(0.01):
            time.sleep(60)
    except gevent.Timeout:
        return Response("too late", status=504)
    return Response("in time")


def fail(_: Any) -> Response:
    raise RuntimeError("as it should")


def missing(_: Any) -> Response:
    return Response("there is no such page", status=404)


def failed(_: Any) -> Response:
    return Response("the page has failed", status=500)


def make_app() -> Any:
    config = Configurator(session_factory=SignedCookieSessionFactory("of a test"))
    config.add_route("hello", "/hello/{name}")
    config.add_view(hello, route_name="hello")
    for view in (count, form, upload, download, stream, endless, together, limited, fail):
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__)
    config.add_notfound_view(missing)
    config.add_exception_view(failed)
    return config.make_wsgi_app()


app = make_app()

"""Where applications are for clients: root paths, alone and in front of mounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from asgi_support import Receive, Scope, Send, ServeAsgi, respond
from scripts import SCRIPT_TIMEOUT
from serve_support import Served, run_to_end
from websocket_support import Peer
from wsgi_support import Client

from greenloop.asgi import ASGIServer


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [f"wsgi {environ['SCRIPT_NAME']!r} {environ['PATH_INFO']!r}".encode()]


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    paths = [scope["root_path"], scope["path"], scope["raw_path"]]
    await respond(send, f"asgi {' '.join(map(repr, paths))}".encode())


@pytest.mark.parametrize("root_path", ["/shop", "/shop/"])
def test_it_is_in_front_of_paths(serve_asgi: ServeAsgi, root_path: str) -> None:
    server = serve_asgi(asgi, mounts={"/old": wsgi, "/new/": asgi}, root_path=root_path)
    with Client(server) as client:
        for path, expected in {
            "/": "asgi '/shop' '/shop/' b'/shop/'",
            "/x%20y?z": "asgi '/shop' '/shop/x y' b'/shop/x%20y'",
            # It is of clients, not of requests: there is nothing to be guessed.
            "/shop/x": "asgi '/shop' '/shop/shop/x' b'/shop/shop/x'",
            "/new": "asgi '/shop/new' '/shop/new' b'/shop/new'",
            "/new/x": "asgi '/shop/new' '/shop/new/x' b'/shop/new/x'",
            "/old": "wsgi '/shop/old' ''",
            "/old/x%20y": "wsgi '/shop/old' '/x y'",
        }.items():
            assert client.get(path).body.decode() == expected, path
        # Not of a path.
        assert client.get("*", method="OPTIONS").body == b"asgi '/shop' '' b''"


def test_wsgi_applications_have_it_as_the_name_of_the_script(serve_asgi: ServeAsgi) -> None:
    with Client(serve_asgi(wsgi, root_path="/shop")) as client:
        assert client.get("/").body == b"wsgi '/shop' '/'"
        assert client.get("/shop/x").body == b"wsgi '/shop' '/shop/x'"


def test_it_may_be_any_text(serve_asgi: ServeAsgi) -> None:
    server = serve_asgi(asgi, mounts={"/w": wsgi}, root_path="/caf\xe9 & bar")
    with Client(server) as client:
        raw = b"/caf%C3%A9%20&%20bar/x"
        assert client.get("/x").body.decode() == (
            f"asgi '/caf\xe9 & bar' '/caf\xe9 & bar/x' {raw!r}"
        )
        # A character for each byte, as WSGI has it.
        assert client.get("/w/x").body.decode() == "wsgi '/caf\xc3\xa9 & bar/w' '/x'"


def test_the_environment_may_have_it(serve_asgi: ServeAsgi) -> None:
    environ = {"SCRIPT_NAME": "/caf\xc3\xa9"}
    with Client(serve_asgi(asgi, mounts={"/w": wsgi}, environ=environ)) as client:
        assert client.get("/").body.decode().startswith("asgi '/caf\xe9' '/caf\xe9/'")
        assert client.get("/w/x").body.decode() == "wsgi '/caf\xc3\xa9/w' '/x'"
    assert environ == {"SCRIPT_NAME": "/caf\xc3\xa9"}
    with pytest.raises(TypeError, match="mean the same"):
        ASGIServer(("127.0.0.1", 0), asgi, root_path="/a", environ=environ)


def test_of_a_websocket(serve_asgi: ServeAsgi) -> None:
    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"{scope['root_path']} {scope['path']}"})

    with Peer(serve_asgi(socket, root_path="/shop")) as peer:
        assert peer.frame()[1] == b"/shop /shop/"


@pytest.mark.parametrize("root_path", ["", "/"])
def test_none(serve_asgi: ServeAsgi, root_path: str) -> None:
    with Client(serve_asgi(asgi, mounts={"/w": wsgi}, root_path=root_path)) as client:
        assert client.get("/x").body == b"asgi '' '/x' b'/x'"
        assert client.get("/w/x").body == b"wsgi '/w' '/x'"


BAD = ["shop", "//shop", "http://example.org/shop", "/shop?x", "/shop#x", "/a\nb", "/a\udcff"]


@pytest.mark.parametrize("path", BAD)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path like /api, not"):
        ASGIServer(("127.0.0.1", 0), asgi, root_path=path)
    with pytest.raises(ValueError, match="is mounted at a path like /api, not"):
        ASGIServer(("127.0.0.1", 0), mounts={path: asgi})


APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = f"{scope['root_path']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


def pages(environ, start_response):
    start_response("200 OK", [])
    return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]
"""


def test_by_serve(tmp_path: Path) -> None:
    words = ["--root-path", "/shop", "--mount", "/old=app:pages"]
    with Served(tmp_path, *words, source=APP) as server:
        assert server.get("/x") == "/shop /shop/x"
        assert server.get("/old/x") == "/shop/old /x"
    env = {"GREENLOOP_SERVE_ROOT_PATH": "/shop/"}
    with Served(tmp_path, source=APP, app="app:pages", env=env) as server:
        assert server.get("/x") == "/shop /x"


@pytest.mark.parametrize("path", ["shop", "http://example.org/shop", "/shop?x"])
def test_errors_are_one_line(tmp_path: Path, path: str) -> None:
    ended = run_to_end(tmp_path, "app", "--root-path", path)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"greenloop serve: --root-path: expected a path like /api, not {path!r}")


STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def page(request):
    return PlainTextResponse(f"{request.url.path} {request.url_for('page', name='you').path}")


routes = [Route("/shop/{name}", page, name="page")]
app = Starlette(routes=[*routes, Mount("/in", routes=routes)])
"""


def test_starlette(tmp_path: Path) -> None:
    """Routes are found, and made, with a root path that their own look like."""
    pytest.importorskip("starlette")
    with Served(tmp_path, "--root-path", "/shop", source=STARLETTE) as server:
        assert server.get("/shop/me") == "/shop/shop/me /shop/shop/you"
        assert server.get("/in/shop/me").split()[0] == "/shop/in/shop/me"


FASTAPI = """
from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/items")
def items(request: Request):
    return {"root_path": request.scope["root_path"], "url": request.url.path}
"""


@pytest.mark.parametrize("words", [["--root-path", "/shop"], ["--mount", "/shop=app"]])
def test_fastapi(tmp_path: Path, words: list[str]) -> None:
    """It tells where it is, be it behind a proxy that takes the path away or by itself."""
    pytest.importorskip("fastapi")
    front = "" if words[0] == "--root-path" else "/shop"
    with Served(tmp_path, *words, source=FASTAPI) as server:
        base = f"http://127.0.0.1:{server.port}{front}"
        answer = requests.get(f"{base}/items", timeout=SCRIPT_TIMEOUT).json()
        assert answer == {"root_path": "/shop", "url": "/shop/items"}
        schema = requests.get(f"{base}/openapi.json", timeout=SCRIPT_TIMEOUT).json()
        assert schema["servers"] == [{"url": "/shop"}]

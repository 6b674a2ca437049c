"""Sites on Starlette, FastAPI and Django's ASGI handler, as they are written for any server."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from scripts import SCRIPT_TIMEOUT
from serve_support import Served, eventually

SITES = Path(__file__).with_name("sites")
DATA = bytes(range(256)) * 4096


class Site:
    """A site that is served."""

    def __init__(self, server: Served, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.base = f"http://127.0.0.1:{server.port}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.base + path, timeout=SCRIPT_TIMEOUT, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.base + path, timeout=SCRIPT_TIMEOUT, **options)

    def begin(self, path: str) -> socket.socket:
        """Send a request on a connection of its own."""
        sock = self.server.connect()
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return sock

    def has(self, name: str) -> bool:
        return (self.directory / name).exists()

    def go(self) -> None:
        (self.directory / "go").touch()


Open = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Open]:
    """Serves one of the sites."""
    with ExitStack() as stack:

        def open_site(name: str, *words: str) -> Site:
            source = (SITES / f"{name}_site.py").read_text(encoding="utf-8")
            (tmp_path / "data.bin").write_bytes(DATA)
            server = Served(tmp_path, *words, source=source, app="app:app")
            return Site(stack.enter_context(server), tmp_path)

        yield open_site


class TestStarlette:
    @pytest.fixture
    def site(self, open_site: Open) -> Site:
        pytest.importorskip("starlette")
        return open_site("starlette")

    def test_pages(self, site: Site) -> None:
        answer = site.get("/hello/you", params={"how": "loudly"})
        assert answer.text == "hello you, loudly"
        marked = site.get("/marked/hello/you")
        assert (marked.text, marked.headers["x-site"]) == ("hello you, quietly", "starlette")
        assert site.get("/none").status_code == 404
        assert requests.head(site.base + "/hello/you", timeout=SCRIPT_TIMEOUT).text == ""

    def test_files(self, site: Site) -> None:
        pytest.importorskip("multipart")
        answer = site.post("/upload", files={"file": ("a.bin", DATA)}).json()
        assert answer == {"name": "a.bin", "digest": hashlib.sha256(DATA).hexdigest()}

    def test_downloads(self, site: Site) -> None:
        answer = site.get("/download")
        assert answer.content == DATA
        part = site.get("/download", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, DATA[10:20])

    def test_streams(self, site: Site) -> None:
        with site.get("/stream", stream=True) as answer:
            lines = answer.iter_lines()
            assert next(lines) == b"first"
            site.go()
            assert next(lines) == b"second"

    def test_clients_that_go(self, site: Site) -> None:
        with site.begin("/endless") as sock:
            sock.recv(1000)
        eventually(lambda: site.has("ended"))
        with site.begin("/gone"):
            pass
        eventually(lambda: site.has("gone"))
        assert "Traceback" not in site.server.text

    def test_a_hundred_at_once(self, site: Site) -> None:
        with ExitStack() as stack:
            sockets = [stack.enter_context(site.begin("/together")) for _ in range(100)]
            files = [stack.enter_context(sock.makefile("rb")) for sock in sockets]
            assert all(file.read().endswith(b"together") for file in files)

    def test_blocking(self, site: Site) -> None:
        assert site.get("/blocking").text == "blocked"
        with site.begin("/blocking-here") as sock, sock.makefile("rb") as file:
            assert site.get("/hello/you").text == "hello you, quietly"
            site.go()
            assert file.read().endswith(b"blocked")

    def test_background_tasks(self, site: Site) -> None:
        with requests.Session() as session:
            url = site.base + "/background"
            for _ in range(2):
                assert session.get(url, timeout=SCRIPT_TIMEOUT).text == "begun"
            assert not site.has("background")
            site.go()
            eventually(lambda: site.has("background"))

    def test_errors(self, site: Site) -> None:
        assert site.get("/fail").status_code == 500
        site.server.wait_for("LookupError: of a test")

    def test_websockets(self, site: Site) -> None:
        client = pytest.importorskip("websockets.sync.client")
        address = f"ws://127.0.0.1:{site.server.port}/chat"
        with client.connect(address, subprotocols=["talk"]) as websocket:
            assert websocket.subprotocol == "talk"
            for number in range(100):
                websocket.send(f"number {number}" * 100)
                assert json.loads(websocket.recv()) == {"said": f"number {number}" * 100}

    def test_it_stops(self, site: Site) -> None:
        assert site.get("/hello/you").ok
        assert site.server.stop() == 0
        assert site.has("stopped")


def test_fastapi(open_site: Open) -> None:
    pytest.importorskip("fastapi")
    site = open_site("fastapi")
    assert site.get("/notes").json() == ["started"]
    answer = site.post("/notes", json={"text": "buy milk", "stars": 2})
    assert answer.status_code == 201
    assert answer.json() == {"index": 1, "text": "buy milk", "stars": 2}
    assert site.post("/notes", json={"stars": "many"}).status_code == 422
    assert site.get("/notes/1").json() == "buy milk"
    assert site.get("/notes/2").status_code == 404
    eventually(lambda: site.get("/log").json().count("noted buy milk") == 1)
    assert "/notes/{index}" in site.get("/openapi.json").json()["paths"]
    client = pytest.importorskip("websockets.sync.client")
    with client.connect(f"ws://127.0.0.1:{site.server.port}/talk") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "HELLO"
    assert site.server.stop() == 0


def test_django(open_site: Open) -> None:
    pytest.importorskip("django")
    site = open_site("django_asgi")
    assert site.get("/hello/you", params={"how": "loudly"}).text == "hello you, loudly"
    assert site.get("/sync").text == "sync"
    assert site.post("/upload", files={"file": ("a.bin", DATA)}).text == f"a.bin {len(DATA)}"
    with site.get("/stream", stream=True) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b"first"
        site.go()
        assert next(lines) == b"second"
    assert site.get("/none").status_code == 404
    assert site.server.stop() == 0


def test_django_beside_starlette(tmp_path: Path) -> None:
    pytest.importorskip("django")
    pytest.importorskip("starlette")
    for name in ("starlette", "django_asgi"):
        source = (SITES / f"{name}_site.py").read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(source)
    words = ["--mount", "/star=starlette_site:app"]
    (tmp_path / "starlette.py").rename(tmp_path / "starlette_site.py")
    with Served(tmp_path, *words, source=None, app="django_asgi:app") as server:
        assert server.get("/hello/you") == "hello you, quietly"
        assert server.get("/star/hello/me") == "hello me, quietly"
        assert server.get("/star/marked/hello/me") == "hello me, quietly"

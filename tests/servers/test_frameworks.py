"""Sites on Flask, Django, Bottle and Pyramid, as they are written for any WSGI server (`sites/`).

They have the same pages: `/hello/NAME`, `/count` for a session in a signed cookie, `/form`,
`/upload`, `/download`, `/stream` and `/endless`, which send while they run, `/together`, which
answers when a hundred ask, `/limited`, which gives up, `/fail`. Django's has notes in a database.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from gunicorn_support import OWN, gunicorn
from scripts import SCRIPT_TIMEOUT
from serve_support import Served, eventually

SITES = Path(__file__).with_name("sites")
DATA = bytes(range(256)) * 4096


class Site:
    """A site that is served."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.base = f"http://{address[0]}:{address[1]}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.base + path, timeout=SCRIPT_TIMEOUT, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.base + path, timeout=SCRIPT_TIMEOUT, **options)

    def begin(self, method: str, path: str, body: bytes = b"") -> socket.socket:
        """Send a request on a connection of its own."""
        sock = socket.create_connection(self.address, SCRIPT_TIMEOUT)
        sock.sendall(
            f"{method} {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode()
            + body
        )
        return sock

    def all_at_once(self, method: str, path: str, bodies: list[bytes]) -> list[bytes]:
        """Send requests, and read the responses only then."""
        with ExitStack() as stack:
            connections = [stack.enter_context(self.begin(method, path, body)) for body in bodies]
            files = [stack.enter_context(sock.makefile("rb")) for sock in connections]
            return [file.read() for file in files]


@pytest.fixture(
    params=[
        "flask serve",
        "django serve",
        "bottle serve",
        "pyramid serve",
        "flask gunicorn",
        "django gunicorn",
    ]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    name, server = request.param.split()
    with _served(tmp_path, f"{name}_site", server) as site:
        yield site


@pytest.fixture(params=["serve", "gunicorn"])
def django_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with _served(tmp_path, "django_site", request.param) as site:
        yield site


@contextmanager
def _served(directory: Path, module: str, server: str) -> Iterator[Site]:
    (directory / "data.bin").write_bytes(DATA)
    running: Any
    if server == "serve":
        env = {"PYTHONPATH": f"{SITES}:{os.environ.get('PYTHONPATH', '')}"}
        running = Served(directory, source=None, env=env, app=f"{module}:app")
    else:
        running = gunicorn(directory, OWN, app=f"{module}:app", path=SITES)
    with running as started:
        yield Site(started.address)


def test_pages(site: Site) -> None:
    response = site.get("/hello/w%C3%B6rld")
    assert (response.status_code, response.text) == (200, "hello wörld, quietly")
    assert site.get("/hello/you", params={"how": "löud"}).text == "hello you, löud"
    response = requests.head(f"{site.base}/hello/you", timeout=SCRIPT_TIMEOUT)
    assert (response.status_code, response.text) == (200, "")
    assert response.headers["Content-Length"] == "18"


def test_sessions(site: Site) -> None:
    with requests.Session() as one, requests.Session() as other:
        counts = [
            session.get(f"{site.base}/count", timeout=SCRIPT_TIMEOUT).text
            for session in (one, one, other, one)
        ]
    assert counts == ["1", "2", "1", "3"]


def test_forms_and_files(site: Site) -> None:
    assert site.post("/form", data={"name": "Zoë", "age": "7"}).text == "Zoë is 7"
    response = site.post("/upload", files={"file": ("data.bin", DATA)})
    assert response.text == f"data.bin {hashlib.sha256(DATA).hexdigest()}"
    response = site.get("/download")
    assert "data.bin" in response.headers["Content-Disposition"]
    assert response.content == DATA


def test_a_body_that_is_sent_as_it_is_made(site: Site, tmp_path: Path) -> None:
    with site.get("/stream", stream=True) as response:
        lines = response.iter_lines(chunk_size=1, decode_unicode=True)
        assert next(lines) == "first"
        (tmp_path / "go").touch()
        assert list(lines) == ["second"]


def test_errors(site: Site) -> None:
    for path, status, text in (
        ("/nowhere", 404, "there is no such page"),
        ("/fail", 500, "the page has failed"),
        ("/limited", 504, "too late"),
    ):
        response = site.get(path)
        assert (response.status_code, response.text) == (status, text)
    assert site.get("/hello/you").status_code == 200


def test_a_hundred_requests_at_once(site: Site) -> None:
    answers = site.all_at_once("GET", "/together", [b""] * 100)
    assert all(answer.endswith(b"\r\n\r\ntogether") for answer in answers)


def test_a_client_that_goes_away(site: Site, tmp_path: Path) -> None:
    with site.begin("GET", "/endless") as sock:
        assert sock.recv(1000)
    eventually((tmp_path / "gone").exists)
    assert site.get("/hello/you").status_code == 200


def test_each_request_has_its_own_connection_to_the_database(django_site: Site) -> None:
    bodies = [urlencode({"text": f"note{number}"}).encode() for number in range(4)]
    bodies.append(urlencode([("text", "note4"), ("text", "fail")]).encode())
    answers = django_site.all_at_once("POST", "/notes", bodies)
    ends = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert ends == [b"written"] * 4 + [b"the page has failed"]
    assert django_site.get("/notes").text == "note0 note1 note2 note3, on 4"

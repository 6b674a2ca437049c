"""`greenloop serve` with ASGI applications."""

from __future__ import annotations

import json
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from scripts import SCRIPT_TIMEOUT
from serve_support import Load, Served, eventually, get, run_to_end

APP = """\
import asyncio
import os
import time
from pathlib import Path


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("FAILS"):
            await send({"type": "lifespan.startup.failed", "message": os.environ["FAILS"]})
            return
        scope["state"]["pid"] = os.getpid()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        Path(f"stopped-{os.getpid()}").touch()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    query = scope["query_string"].decode()
    if path == "/pid":
        text = str(scope["state"]["pid"])
    elif path == "/wait":
        # Until the test says so.
        Path(f"begun-{query}").touch()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        text = "waited"
    elif path == "/short":
        time.sleep(0.01)
        text = str(os.getpid())
    elif path == "/scope":
        text = repr(scope.get(query))
    elif path == "/error":
        raise LookupError("secret" if query else "no")
    elif scope["root_path"]:
        text = f"hello {scope['root_path']!r}"
    else:
        text = "hello"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""


def test_it_is_found_out(tmp_path: Path) -> None:
    with Served(tmp_path, source=APP) as server:
        assert server.get() == "hello"
        assert server.get("/scope?type") == "'http'"
        assert server.stop() == 0
    assert len(list(tmp_path.glob("stopped-*"))) == 1


def test_it_can_be_said(tmp_path: Path) -> None:
    source = APP + "\n\ndef plain(scope, receive, send):\n    return app(scope, receive, send)\n"
    with Served(tmp_path, "--interface", "asgi", source=source, app="app:plain") as server:
        assert server.get() == "hello"
    with Served(tmp_path, source=source, app="app:plain") as server, pytest.raises(AssertionError):
        server.get()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--interface", "fcgi"], "--interface: expected auto, wsgi or asgi, not 'fcgi'"),
        (["--lifespan", "1"], "--lifespan: expected auto, on or off, not '1'"),
        (["--mount", "api=app"], "--mount: an application is mounted at a path like /api"),
        (["--mount", "/api"], "--mount: expected PATH=APP, not '/api'"),
        (["--mount", "/a=b", "--mount", "/a/=c"], "two applications are mounted at /a"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, words: list[str], text: str) -> None:
    ended = run_to_end(tmp_path, "app", *words)
    assert ended.returncode == 2
    assert text in ended.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_cannot_start(tmp_path: Path, workers: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    words = ["app", "--bind", "127.0.0.1:0", "--workers", workers]
    ended = run_to_end(tmp_path, *words, env={"FAILS": "no database"})
    assert ended.returncode == 1
    assert "the application cannot start: no database" in ended.stderr
    assert "Traceback" not in ended.stderr
    raises = "async def app(scope, receive, send):\n    raise LookupError('no')\n"
    (tmp_path / "app.py").write_text(raises)
    ended = run_to_end(tmp_path, *words, "--lifespan", "on")
    assert ended.returncode == 1
    assert "the application has failed in its lifespan: LookupError: no" in ended.stderr
    # The traceback is that of the application's own code.
    assert 'app.py", line 2' in ended.stderr


def test_workers_are_replaced_one_by_one(tmp_path: Path) -> None:
    with Served(tmp_path, "--workers", "2", source=APP) as server:
        before = server.pids(2)
        with Load(server.address) as load:
            server.send(signal.SIGHUP)
            server.pids(2, without=before)
            load.wait_for_answers(3)
        assert not any(load.failures)
        eventually(lambda: all((tmp_path / f"stopped-{pid}").exists() for pid in before))


def test_requests_come_to_their_end(tmp_path: Path) -> None:
    with Served(tmp_path, source=APP) as server:
        connection = server.connect()
        connection.sendall(b"GET /wait?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually((tmp_path / "begun-1").exists)
        server.send(signal.SIGTERM)
        (tmp_path / "go").touch()
        assert connection.recv(1000).endswith(b"waited")
        assert server.end() == 0
        connection.close()
    # After the last request.
    assert len(list(tmp_path.glob("stopped-*"))) == 1


def test_what_is_left_in_the_end_is_cancelled(tmp_path: Path) -> None:
    source = """
    import asyncio
    from pathlib import Path


    async def tick():
        try:
            await asyncio.sleep(1000)
        finally:
            Path("cancelled").touch()


    async def app(scope, receive, send):
        assert scope["type"] == "http"
        global task
        task = asyncio.create_task(tick())
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
    """
    with Served(tmp_path, source=source) as server:
        assert server.get() == "hello"
        assert server.stop() == 0
        assert "Task was destroyed" not in server.text
    assert (tmp_path / "cancelled").exists()


def test_a_worker_ends_after_enough_requests(tmp_path: Path) -> None:
    with Served(tmp_path, "--max-requests", "5", source=APP) as server:
        seen: set[str] = set()

        def are_three() -> bool:
            seen.add(server.get("/pid"))
            return len(seen) == 3

        eventually(are_three)


def test_behind_a_proxy(tmp_path: Path) -> None:
    headers = {
        "X-Forwarded-For": "6.6.6.6, 1.2.3.4",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "example.org",
    }
    with Served(tmp_path, "--proxy-headers", source=APP) as server:
        assert server.get("/scope?client", headers) == "('1.2.3.4', 0)"
        assert server.get("/scope?scheme", headers) == "'https'"
        assert server.get("/scope?server", headers) == "('example.org', 443)"
        assert "(b'host', b'example.org')" in server.get("/scope?headers", headers)
        assert server.get("/scope?scheme") == "'http'"
    with Served(tmp_path, source=APP) as server:
        assert "127.0.0.1" in server.get("/scope?client", headers)


def test_logs_and_numbers(tmp_path: Path) -> None:
    words = ["--access-log", "log", "--access-log-format", "json"]
    admin = str(tmp_path / "admin")
    with Served(tmp_path, *words, "--admin", f"unix:{admin}", source=APP) as server:
        assert server.get("/a?b", {"User-Agent": "me", "Referer": "there"}) == "hello"
        with pytest.raises(AssertionError):
            server.get("/error")
        log = tmp_path / "log"
        lines = eventually(
            lambda: found if len(found := log.read_text().splitlines()) == 2 else None
        )
        first, second = map(json.loads, lines)
        assert (first["target"], first["status"], first["length"]) == ("/a?b", 200, 5)
        assert (first["user_agent"], first["referer"]) == ("me", "there")
        assert first["remote_addr"] == "127.0.0.1"
        assert (second["target"], second["status"]) == ("/error", 500)
        server.wait_for("LookupError: no")
        numbers = get(admin, "/metrics")
        assert 'greenloop_requests_total{status="2xx"} 1' in numbers
        assert "greenloop_requests_in_progress 0" in numbers


def test_a_time_limit(tmp_path: Path) -> None:
    with Served(tmp_path, "--timeout", "0.05", source=APP) as server:
        with server.connect() as connection:
            connection.sendall(b"GET /wait?1 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 503")
        server.wait_for("TimeoutError: the request took more than 0.05 seconds")


PAGES = """\
def application(environ, start_response):
    start_response("200 OK", [])
    return [f"wsgi {environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]
"""


def test_mixed(tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    with Served(tmp_path, "--mount", "/api=app:app", source=APP, app="pages") as server:
        assert server.get("/x") == "wsgi  /x"
        assert server.get("/api/x") == "hello '/api'"
        assert server.stop() == 0
    assert len(list(tmp_path.glob("stopped-*"))) == 1


def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    source = APP + BIG
    words = ["--certfile", str(tmp_path / "cert.pem")]
    with (
        Served(tmp_path, *words, source=source, app="app:big") as server,
        server.connect() as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.settimeout(SCRIPT_TIMEOUT)
        stream: Any = connection.makefile("rb")
        for _ in range(2):
            connection.sendall(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            connection.sendall(bytes(100_000))
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.startswith(b"Content-Length: "):
                    length = int(line.split()[1])
            assert stream.read(length) == b"https" + bytes(8 << 20)


BIG = """

async def big(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = b""
    while (message := await receive())["more_body"]:
        body += message["body"]
    listening = asyncio.ensure_future(receive())
    await asyncio.sleep(0.01)
    assert len(body + message["body"]) == 100_000
    await send({"type": "http.response.start", "status": 200, "headers": []})
    answer = scope["scheme"].encode() + bytes(8 << 20)
    await send({"type": "http.response.body", "body": answer})
    await listening
"""

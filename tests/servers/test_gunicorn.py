"""gunicorn with greenloop: with a worker of greenloop's own, and with its workers for gevent."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from gunicorn_support import OWN, Gunicorn, gunicorn
from scripts import SCRIPT_TIMEOUT
from serve_support import Load, eventually

pytest.importorskip("gunicorn")

APP = """\
import os
import socket
import time
from pathlib import Path

import gevent
import gevent.socket


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/pid":
        text = str(os.getpid())
    elif path == "/wait":
        Path(f"begun-{environ['QUERY_STRING']}").touch()
        while not os.path.exists("go"):
            time.sleep(0.01)
        text = "waited"
    elif path == "/short":
        time.sleep(0.01)
        text = str(os.getpid())
    elif path == "/echo":
        text = environ["wsgi.input"].read().decode()
    elif path == "/what":
        text = f"{gevent.get_hub().__module__} {socket.socket is gevent.socket.socket}"
    elif path == "/scheme":
        text = environ["wsgi.url_scheme"]
    elif path == "/fail":
        raise RuntimeError("as it should")
    else:
        text = "hello"
    body = text.encode()
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body]
"""


@contextmanager
def serving(directory: Path, worker: str, *args: str) -> Iterator[Gunicorn]:
    (directory / "app.py").write_text(APP)
    with gunicorn(directory, worker, *args) as server:
        yield server


workers = pytest.mark.parametrize("worker", [OWN, "gevent", "gevent_pywsgi"])


@workers
def test_requests(tmp_path: Path, worker: str) -> None:
    with serving(tmp_path, worker) as server:
        assert server.get() == "hello"
        assert server.get("/what") == "greenloop.hub True"
        with server.connect() as sock:
            # Two requests on a connection; the first has a body.
            sock.sendall(
                b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\n0\r\n\r\n"
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            with sock.makefile("rb") as file:
                answer = file.read()
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert b"\r\n\r\nabcHTTP" in answer
        assert answer.endswith(b"hello")
        assert server.stop() == 0


@workers
def test_requests_wait_beside_each_other(tmp_path: Path, worker: str) -> None:
    with serving(tmp_path, worker) as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.0\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        assert server.get() == "hello"
        (tmp_path / "go").touch()
        with sock.makefile("rb") as file:
            assert file.read().endswith(b"waited")


@workers
def test_an_application_that_fails(tmp_path: Path, worker: str) -> None:
    with serving(tmp_path, worker) as server:
        with pytest.raises(AssertionError, match="500"):
            server.get("/fail")
        server.wait_for("RuntimeError: as it should")
        assert server.get() == "hello"


@workers
def test_a_stop_waits_for_requests(tmp_path: Path, worker: str) -> None:
    with serving(tmp_path, worker) as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.0\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Handling signal: term")
        (tmp_path / "go").touch()
        with sock.makefile("rb") as file:
            assert file.read().endswith(b"waited")
        assert server.process.wait(SCRIPT_TIMEOUT) == 0


@workers
def test_a_stop_does_not_wait_longer_than_is_said(tmp_path: Path, worker: str) -> None:
    arguments = ("--graceful-timeout", "1")
    with serving(tmp_path, worker, *arguments) as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.0\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        assert server.stop() == 0


def _pids(server: Gunicorn) -> set[str]:
    """Those of both workers. gunicorn's miss signals while they start."""
    found: set[str] = set()
    while len(found) < 2:
        found.add(server.get("/pid"))
    return found


def test_sighup_replaces_workers(tmp_path: Path) -> None:
    with serving(tmp_path, OWN, "--workers", "2") as server:
        before = _pids(server)
        (tmp_path / "app.py").write_text(APP.replace('"hello"', '"changed"'))
        with Load(server.address, clients=2) as load:
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: not _pids(server) & before)
        assert not any(load.failures), load.failures
        assert server.get() == "changed"
        assert server.stop() == 0


BOOTING = """\
import os
import signal

def {hook}:
    if not os.path.exists("signalled"):
        open("signalled", "w").close()
        os.kill(os.getpid(), signal.{name})
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGQUIT"])
@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
def test_signals_while_a_worker_starts(tmp_path: Path, hook: str, name: str) -> None:
    """gunicorn's own would not end: they miss what comes before they have set their handlers."""
    (tmp_path / "gunicorn.conf.py").write_text(BOOTING.format(hook=hook, name=name))
    with serving(tmp_path, OWN) as server:
        eventually(lambda: sum("Booting worker" in line for line in server.lines) == 2)
        assert server.get() == "hello"
        assert server.stop() == 0


def test_max_requests(tmp_path: Path) -> None:
    with serving(tmp_path, OWN, "--max-requests", "5", "--workers", "2") as server:
        with Load(server.address, clients=2) as load:
            eventually(lambda: len({pid for pids in load.answers for pid in pids}) >= 4)
        assert not any(load.failures), load.failures


@workers
def test_tls(tmp_path: Path, worker: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "all.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    path = str(tmp_path / "all.pem")
    with serving(tmp_path, worker, "--certfile", path, "--keyfile", path) as server:
        with (
            server.connect() as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"GET /scheme HTTP/1.0\r\n\r\n")
            answer = b""
            while data := sock.recv(65536):
                answer += data
        assert answer.endswith(b"https")


@workers
def test_the_access_log(tmp_path: Path, worker: str) -> None:
    log, old = tmp_path / "log", tmp_path / "old"
    with serving(tmp_path, worker, "--access-logfile", str(log)) as server:
        server.get("/path?query")
        eventually(lambda: '"GET /path?query HTTP/1.1" 200 5' in log.read_text())
        log.rename(old)
        server.process.send_signal(signal.SIGUSR1)
        eventually(log.exists)

        def is_in_the_new_one() -> bool:
            server.get("/new")
            return "/new" in log.read_text()

        eventually(is_in_the_new_one)


@workers
def test_a_preloaded_application(tmp_path: Path, worker: str) -> None:
    with serving(tmp_path, worker, "--preload") as server:
        assert server.get("/what") == "greenloop.hub True"
        with server.connect() as sock:
            sock.sendall(b"GET /wait?a HTTP/1.0\r\n\r\n")
            eventually((tmp_path / "begun-a").exists)
            assert server.get() == "hello"
            (tmp_path / "go").touch()


def test_limits_of_gunicorn_hold(tmp_path: Path) -> None:
    arguments = ("--limit-request-line", "50", "--limit-request-fields", "2")
    with serving(tmp_path, OWN, *arguments) as server:
        for request, status in (
            (b"GET /" + b"x" * 60 + b" HTTP/1.1\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n", b"400"),
        ):
            with server.connect() as sock:
                sock.sendall(request)
                assert sock.recv(65536).split()[1] in (status, b"414", b"431")


def test_a_worker_that_gives_no_way_is_killed_by_the_arbiter(tmp_path: Path) -> None:
    with serving(tmp_path, OWN, "--timeout", "1") as server:
        before = server.get("/pid")
        os.kill(int(before), signal.SIGSTOP)
        server.wait_for("WORKER TIMEOUT")
        assert server.get("/pid") != before

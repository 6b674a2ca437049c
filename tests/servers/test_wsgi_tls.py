"""gevent.pywsgi: servers with TLS, whether or not a handler overrides something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
import trustme
from gevent import ssl
from wsgi_support import GET, GUARD, Client, Serve, hello


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certfile, keyfile = tmp_path / "cert", tmp_path / "key"
    issued.cert_chain_pems[0].write_to_path(certfile)
    issued.private_key_pem.write_to_path(keyfile)
    authority.cert_pem.write_to_path(tmp_path / "ca")
    return str(certfile), str(keyfile)


def test_requests(serve: Serve, certificate: tuple[str, str], tmp_path: Path) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/file":
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](open(certificate[0], "rb"))
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("X-Scheme", environ["wsgi.url_scheme"])])
        return [body]

    certfile, keyfile = certificate
    server = serve(application, certfile=certfile, keyfile=keyfile)

    # A native thread: the library is not patched here.
    job = gevent.get_hub().threadpool.spawn(talk_in_thread, server.server_port, tmp_path)
    assert job.get() == "https"


def test_idle_tls_connections_are_closed(serve: Serve, certificate: tuple[str, str]) -> None:
    certfile, keyfile = certificate
    server = serve(hello, certfile=certfile, keyfile=keyfile)
    with tls_client(server) as sock:
        sock.sendall(GET)
        assert sock.recv(4096).endswith(b"hello")
        gevent.idle()
        server.stop(timeout=GUARD)
        assert server._core.connection_count == 0
        assert sock.recv(4096) == b""


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="complete"),
        pytest.param(b"GET /long HTTP/1.0\r\n\r\n", id="complete-long"),
        pytest.param(b"GET /fail-early HTTP/1.0\r\n\r\n", id="error"),
        pytest.param(b"nonsense\r\n\r\n", id="refused"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\nx",
            id="body-not-sent",
        ),
    ],
)
def test_what_is_complete_is_told_apart(
    serve: Serve, certificate: tuple[str, str], request_: bytes, errors: list[Any]
) -> None:
    """What ends without the alert close_notify was cut off, as far as the client can know."""
    certfile, keyfile = certificate
    server = serve(partly, certfile=certfile, keyfile=keyfile)
    with tls_client(server) as sock:
        sock.sendall(request_)
        while sock.recv(4096):
            pass


@pytest.mark.parametrize("path", [b"/fail", b"/short"])
def test_what_is_cut_off_is_told_apart(
    serve: Serve, certificate: tuple[str, str], path: bytes, errors: list[Any]
) -> None:
    certfile, keyfile = certificate
    server = serve(partly, certfile=certfile, keyfile=keyfile)
    with tls_client(server) as sock:
        sock.sendall(b"GET " + path + b" HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLEOFError):
            while sock.recv(4096):
                pass


@contextmanager
def tls_client(server: Any) -> Iterator[Any]:
    """A connection that says so if it is closed without a word."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        Client(server) as client,
        context.wrap_socket(client.sock, suppress_ragged_eofs=False) as sock,
    ):
        yield sock


def partly(environ: Any, start_response: Any) -> Iterator[bytes]:
    """An application that may fail, at once or after some of its body."""
    path = environ["PATH_INFO"]
    if path == "/fail-early":
        raise RuntimeError("as it should")
    start_response("200 OK", [("Content-Length", "10")] if path == "/short" else [])
    yield b"begin"
    if path == "/long":
        yield b"x" * 5_000_000
    if path == "/fail":
        raise RuntimeError("as it should")


def talk_in_thread(port: int, directory: Path) -> str:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(directory / "ca")
        url = f"https://127.0.0.1:{port}"
        for size in (0, 10, 1_000_000):
            response = session.post(url, data=b"x" * size)
            assert response.content == b"x" * size
        assert session.get(url + "/file").content == (directory / "cert").read_bytes()
        return response.headers["X-Scheme"]

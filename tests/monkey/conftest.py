"""Servers for the scripts of these tests. They run in this process, on native threads."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

# Seconds until a server gives up waiting for the rest of the requests. A hang guard.
GATHER_TIMEOUT = 30.0


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class GatheringServer(ThreadingHTTPServer):
    """Answers no request before `count` of them have arrived: one after the other gets 503."""

    daemon_threads = True
    request_queue_size = 200

    def __init__(self, count: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), GatheringHandler)
        self.barrier = threading.Barrier(count)
        self.scheme = "http" if tls is None else "https"
        self.tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_port}/"


class GatheringHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GatheringServer

    def do_GET(self) -> None:
        try:
            self.server.barrier.wait(GATHER_TIMEOUT)
            status = 200
        except threading.BrokenBarrierError:
            status = 503
        body = f"answer to {self.path}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def gathering_server() -> Iterator[Callable[..., GatheringServer]]:
    """A function that starts a GatheringServer."""
    with ExitStack() as stack:

        def start(count: int, tls: ssl.SSLContext | None = None) -> GatheringServer:
            server = GatheringServer(count, tls)
            stack.enter_context(serving(server))
            return server

        yield start


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for "localhost", and the file with the authority's certificate."""
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("localhost").configure_cert(context)
    file = tmp_path / "authority.pem"
    made.cert_pem.write_to_path(str(file))
    return context, file


class RedisLikeHandler(socketserver.StreamRequestHandler):
    """Enough of the Redis protocol for PING, SET, GET, CLIENT and BLPOP."""

    store: dict[bytes, bytes] = {}  # noqa: RUF012 - one server for all
    pushed = threading.Condition()
    lists: dict[bytes, list[bytes]] = {}  # noqa: RUF012

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            self.wfile.write(self.answer(words[0].upper(), words[1:]))

    def answer(self, command: bytes, args: list[bytes]) -> bytes:
        if command == b"SET":
            self.store[args[0]] = args[1]
            return b"+OK\r\n"
        if command == b"GET":
            return self.bulk(self.store.get(args[0]))
        if command == b"RPUSH":
            with self.pushed:
                self.lists.setdefault(args[0], []).append(args[1])
                self.pushed.notify_all()
            return b":1\r\n"
        if command == b"BLPOP":
            with self.pushed:
                if not self.pushed.wait_for(lambda: self.lists.get(args[0]), GATHER_TIMEOUT):
                    return b"*-1\r\n"
                value = self.lists[args[0]].pop(0)
            return b"*2\r\n" + self.bulk(args[0]) + self.bulk(value)
        return b"+OK\r\n" if command == b"CLIENT" else b"+PONG\r\n"

    @staticmethod
    def bulk(value: bytes | None) -> bytes:
        return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


class RedisLikeServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


@pytest.fixture
def redis_port() -> Iterator[int]:
    """The port of a server that speaks some of the Redis protocol."""
    server = RedisLikeServer(("127.0.0.1", 0), RedisLikeHandler)
    with serving(server):
        yield server.server_address[1]


@pytest.fixture
def run_module(run_script: Any) -> Callable[..., Any]:
    """A function that runs `python -m gevent.monkey` with arguments."""
    script = "import runpy, sys\nrunpy.run_module('gevent.monkey', run_name='__main__')\n"

    def run(*args: str, env: Any = None) -> Any:
        return run_script(script, *args, env=env)

    return run

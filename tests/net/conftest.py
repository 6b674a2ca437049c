"""Fixtures shared by the tests of sockets."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
import trustme
from gevent import socket

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    first, second = socket.socketpair()
    with first, second:
        yield first, second


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens on a port of 127.0.0.1."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        yield sock


@pytest.fixture
def connected(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: the client's socket, the server's."""
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.fixture
def serve(listener: socket.socket) -> Iterator[Callable[..., tuple[str, int]]]:
    """Runs a function in a greenlet for each connection; returns the server's address."""
    greenlets: list[gevent.Greenlet] = []

    def start(handle: Callable[[socket.socket], None]) -> tuple[str, int]:
        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                greenlets.append(gevent.spawn(run, connection))

        def run(connection: socket.socket) -> None:
            with connection:
                handle(connection)

        greenlets.append(gevent.spawn(accept))
        return listener.getsockname()

    yield start
    gevent.killall(greenlets, timeout=GUARD)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate in a file."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """A context for servers named localhost."""
    from gevent import ssl as gevent_ssl

    context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """A context for clients that trust the authority."""
    from gevent import ssl as gevent_ssl

    context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@pytest.fixture
def never_runs_others() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in whose body no other greenlet may run."""

    @contextlib.contextmanager
    def guard() -> Iterator[None]:
        ran: list[int] = []
        other = gevent.spawn(ran.append, 1)
        yield
        assert ran == [], "a call that must not wait let another greenlet run"
        other.join()

    return guard


def handshake(
    pair: tuple[socket.socket, socket.socket],
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    **server_options: object,
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Start TLS on a connection: the client's socket, the server's."""
    server = gevent.spawn(server_context.wrap_socket, pair[1], server_side=True, **server_options)
    client = client_context.wrap_socket(pair[0], server_hostname="localhost")
    return client, server.get(timeout=GUARD)


@pytest.fixture
def tls_pair(
    connected: tuple[socket.socket, socket.socket],
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """A TLS connection: the client's socket, the server's. (By TCP: OpenSSL meets EPIPE on a closed
    socketpair, and tells it.)"""
    return handshake(connected, server_context, client_context)

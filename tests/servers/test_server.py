"""gevent.server and gevent.baseserver: as documented."""

from __future__ import annotations

import os
import socket as stdlib_socket
import ssl as stdlib_ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent import socket, ssl
from gevent.baseserver import BaseServer, parse_address
from gevent.pool import Pool
from gevent.queue import Queue
from gevent.server import DatagramServer, StreamServer

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0

LOOPBACK = ("127.0.0.1", 0)


def echo(sock: socket.socket, _: Any) -> None:
    while data := sock.recv(1000):
        sock.sendall(data)


def connect(server: Any) -> socket.socket:
    return socket.create_connection(server.address[:2], timeout=GUARD)


def ask(server: Any, question: bytes = b"ping") -> bytes:
    """Send something, and return all that comes back."""
    with connect(server) as sock:
        sock.sendall(question)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(1000), b""))


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the hub was told of errors: context and exception."""
    told: list[Any] = []
    hub = gevent.get_hub()
    monkeypatch.setattr(
        hub, "handle_error", lambda context, kind, value, tb: told.append((context, value))
    )
    return told


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 80), (socket.AF_INET, ("127.0.0.1", 80))),
        (("", 80), (socket.AF_INET6, ("", 80))),
        (("::1", 80), (socket.AF_INET6, ("::1", 80))),
        (("::1", 80, 0, 0), (socket.AF_INET6, ("::1", 80, 0, 0))),
        (80, (socket.AF_INET6, ("", 80))),
        ("80", (socket.AF_INET6, ("", 80))),
        (":80", (socket.AF_INET, ("", 80))),
        ("*:80", (socket.AF_INET, ("", 80))),
        ("localhost:80", (socket.AF_INET, ("localhost", 80))),
        ("[::1]:80", (socket.AF_INET6, ("::1", 80))),
    ],
)
def test_addresses(address: Any, expected: Any) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    ("address", "error"), [("x", ValueError), ("1.2.3.4:x", ValueError), (None, TypeError)]
)
def test_addresses_that_are_none(address: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_address(address)
    with pytest.raises(error):
        StreamServer(address, echo)


@pytest.mark.parametrize("spawn", ["default", gevent.spawn, gevent.spawn_raw, 5, Pool(5)])
def test_serves_many_at_once(spawn: Any, start_server: Callable[..., Any]) -> None:
    server = start_server(StreamServer(LOOPBACK, echo, spawn=spawn))
    with connect(server) as first, connect(server) as second:
        for sock in (first, second, first):
            sock.sendall(b"ping")
            assert sock.recv(10) == b"ping"


def test_a_handler_in_the_hub(start_server: Callable[..., Any]) -> None:
    greenlets: list[Any] = []

    def handle(sock: socket.socket, _: Any) -> None:
        greenlets.append(gevent.getcurrent())
        sock.send(b"hello")

    server = start_server(StreamServer(LOOPBACK, handle, spawn=None))
    assert ask(server, b"") == b"hello"
    assert greenlets == [gevent.get_hub()]


def test_a_handler_in_the_hub_must_not_wait(
    start_server: Callable[..., Any], errors: list[Any]
) -> None:
    server = start_server(StreamServer(LOOPBACK, lambda *_: gevent.sleep(0.01), spawn=None))
    assert ask(server, b"") == b""
    [(_, error)] = errors
    assert isinstance(error, AssertionError)
    assert "Impossible to call blocking function" in str(error)


def test_the_handler_gets_the_address_of_the_peer(start_server: Callable[..., Any]) -> None:
    seen = Queue()
    server = start_server(StreamServer(LOOPBACK, lambda sock, address: seen.put((sock, address))))
    with connect(server) as client:
        sock, address = seen.get(timeout=GUARD)
        assert address == client.getsockname()
        assert isinstance(sock, socket.socket)
        assert client.recv(1) == b""
    assert sock.fileno() == -1, "closed when the handler has returned"


def test_the_connection_is_closed_if_the_handler_fails(
    start_server: Callable[..., Any], errors: list[Any]
) -> None:
    def handle(sock: socket.socket, _: Any) -> None:
        raise LookupError

    server = start_server(StreamServer(LOOPBACK, handle))
    assert ask(server, b"") == b""
    assert ask(server, b"") == b""
    assert [type(error) for _, error in errors] == [LookupError] * 2


def test_the_handler_can_be_a_method_and_be_changed(start_server: Callable[..., Any]) -> None:
    class Server(StreamServer):
        def handle(self, sock: socket.socket, _: Any) -> None:
            sock.sendall(b"method")

    server = start_server(Server(LOOPBACK))
    assert ask(server, b"") == b"method"
    server.set_handle(lambda sock, _: sock.sendall(b"function"))
    assert ask(server, b"") == b"function"
    assert "handle=<function" in repr(server)
    server.set_handle(server.handle)
    with pytest.raises(TypeError, match="handle"):
        StreamServer(LOOPBACK)


def test_a_full_pool_accepts_nothing(start_server: Callable[..., Any]) -> None:
    pool = Pool(1)
    server = start_server(StreamServer(LOOPBACK, echo, spawn=pool))
    assert server.pool is pool
    with connect(server) as first, connect(server) as second:
        first.sendall(b"1")
        assert first.recv(10) == b"1"
        second.sendall(b"2")
        second.settimeout(0.05)
        with pytest.raises(TimeoutError):
            second.recv(10)
        assert server.full()
        assert len(pool) == 1
        first.close()
        second.settimeout(GUARD)
        assert second.recv(10) == b"2"


def test_stop_waits_for_a_pool(start_server: Callable[..., Any]) -> None:
    finish = gevent.event.Event()
    done: list[int] = []

    def handle(sock: socket.socket, _: Any) -> None:
        finish.wait(GUARD)
        done.append(1)

    server = start_server(StreamServer(LOOPBACK, handle, spawn=3))
    client = connect(server)
    gevent.sleep(0.01)
    stopping = gevent.spawn(server.stop, timeout=GUARD)
    gevent.sleep(0.01)
    assert not stopping.dead
    assert not server.started
    finish.set()
    stopping.join(timeout=GUARD)
    assert done == [1]
    client.close()


def test_stop_kills_what_takes_too_long(start_server: Callable[..., Any]) -> None:
    ends: list[type] = []

    def handle(sock: socket.socket, _: Any) -> None:
        try:
            gevent.sleep(GUARD)
        except BaseException as error:
            ends.append(type(error))
            raise

    server = start_server(StreamServer(LOOPBACK, handle, spawn=3))
    server.stop_timeout = 0.01
    with connect(server) as client:
        gevent.sleep(0.01)
        server.stop()
        assert ends == [gevent.GreenletExit]
        assert client.recv(1) == b""


def test_stop_without_a_pool_leaves_handlers_alone(start_server: Callable[..., Any]) -> None:
    server = start_server(StreamServer(LOOPBACK, echo))
    with connect(server) as client:
        client.sendall(b"1")
        assert client.recv(10) == b"1"
        server.stop()
        client.sendall(b"2")
        assert client.recv(10) == b"2"
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def test_the_states_of_a_server() -> None:
    server = StreamServer(LOOPBACK, echo)
    assert (server.started, server.closed, server.server_port) == (False, True, 0)
    with server as entered:
        assert entered is server
        server.start()
        assert (server.started, server.closed) == (True, False)
        assert server.server_host == "127.0.0.1"
        assert server.server_port == server.socket.getsockname()[1] > 0
        assert f"address=127.0.0.1:{server.server_port}" in str(server)
    assert (server.started, server.closed) == (False, True)
    server.stop()
    server.close()


def test_accepting_can_be_suspended(start_server: Callable[..., Any]) -> None:
    server = start_server(StreamServer(LOOPBACK, echo))
    server.stop_accepting()
    with connect(server) as client:
        client.sendall(b"1")
        client.settimeout(0.02)
        with pytest.raises(TimeoutError):
            client.recv(10)
        server.start_accepting()
        client.settimeout(GUARD)
        assert client.recv(10) == b"1"


def test_serve_forever_until_stopped() -> None:
    server = StreamServer(LOOPBACK, echo)
    serving = gevent.spawn(server.serve_forever)
    gevent.sleep(0)
    assert server.started, "starting lets nobody else run"
    assert ask(server) == b"ping"
    server.stop()
    serving.get(timeout=GUARD)


def test_serve_forever_stops_the_server_when_it_is_killed() -> None:
    server = StreamServer(LOOPBACK, echo)
    serving = gevent.spawn(server.serve_forever, stop_timeout=0.01)
    gevent.sleep(0)
    serving.kill(timeout=GUARD)
    assert not server.started
    assert server.closed


@pytest.mark.parametrize("module", [socket, stdlib_socket])
def test_a_socket_can_be_given(module: Any, start_server: Callable[..., Any]) -> None:
    listener = module.socket()
    listener.bind(LOOPBACK)
    listener.listen(5)
    server = StreamServer(listener, echo)
    assert server.server_port == listener.getsockname()[1]
    start_server(server)
    assert ask(server) == b"ping"
    server.stop()
    assert listener.fileno() == -1


def test_a_unix_socket_can_be_given(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    path = str(tmp_path / "sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)
    server = start_server(StreamServer(listener, echo))
    assert (server.server_host, server.server_port) == (None, None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"ping")
        assert client.recv(10) == b"ping"


def test_an_address_in_use(start_server: Callable[..., Any]) -> None:
    first = start_server(StreamServer(LOOPBACK, echo))
    second = StreamServer(first.address, echo)
    with pytest.raises(OSError, match=f"in use: .*{first.server_port}"):
        second.start()
    assert not second.started


def test_a_listener_made_by_the_class() -> None:
    with StreamServer.get_listener(LOOPBACK, 5, socket.AF_INET) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_errors_in_spawning_make_a_pause(
    start_server: Callable[..., Any], errors: list[Any]
) -> None:
    calls: list[int] = []

    def spawn(*args: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            raise LookupError
        return gevent.spawn(*args)

    server = StreamServer(LOOPBACK, echo, spawn=spawn)
    server.min_delay = server.delay = 0.001
    start_server(server)
    assert ask(server, b"") == b""
    assert ask(server, b"") == b""
    assert ask(server) == b"ping"
    assert [type(error) for _, error in errors] == [LookupError] * 2
    assert server.started


def test_errors_in_accepting(
    start_server: Callable[..., Any], errors: list[Any], capfd: Any
) -> None:
    class Server(StreamServer):
        failures = 2

        def do_read(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(24, "Too many open files")
            return super().do_read()

    server = Server(LOOPBACK, echo)
    server.min_delay = server.delay = 0.001
    start_server(server)
    assert ask(server) == b"ping"
    assert [error.errno for _, error in errors] == [24, 24]
    assert server.delay == server.min_delay

    def fail() -> Any:
        raise OSError(9, "Bad file descriptor")

    server.do_read = fail
    with connect(server):
        gevent.sleep(0.01)
    assert not server.started
    assert "failed with" in capfd.readouterr().err


class Lines(BaseServer):
    """A server of the lines of a pipe."""

    def __init__(self, fd: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(LOOPBACK, *args, **kwargs)
        self.fd = fd
        self.done: list[bytes] = []

    def init_socket(self) -> None:
        self.socket = os.fdopen(self.fd, "rb", 0)
        os.set_blocking(self.fd, False)

    def do_read(self) -> Any:
        line = self.socket.readline()
        return (line,) if line else None

    def do_close(self, line: bytes) -> None:
        self.done.append(line)


def test_other_kinds_of_servers(start_server: Callable[..., Any]) -> None:
    read_end, write_end = os.pipe()
    seen = Queue()
    server = start_server(Lines(read_end, seen.put))
    os.write(write_end, b"one\ntwo\n")
    assert [seen.get(timeout=GUARD), seen.get(timeout=GUARD)] == [b"one\n", b"two\n"]
    gevent.sleep(0)
    assert server.done == [b"one\n", b"two\n"]
    server.stop()
    os.close(write_end)


# --- TLS


@pytest.fixture(scope="module")
def authority() -> Any:
    return trustme.CA()


@pytest.fixture
def files(authority: Any, tmp_path: Path) -> tuple[str, str]:
    """Paths of a certificate and its key."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def ask_tls(server: Any, authority: Any) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    with (
        connect(server) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(b"ping")
        answer: bytes = sock.recv(10)
        return answer


def test_tls_by_files(
    authority: Any, files: tuple[str, str], start_server: Callable[..., Any]
) -> None:
    server = start_server(StreamServer(LOOPBACK, echo, certfile=files[0], keyfile=files[1]))
    assert server.ssl_enabled
    assert not StreamServer(LOOPBACK, echo).ssl_enabled
    assert ask_tls(server, authority) == b"ping"


def test_tls_by_a_context(
    authority: Any, files: tuple[str, str], start_server: Callable[..., Any]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    seen: list[Any] = []

    def handle(sock: Any, address: Any) -> None:
        seen.append(sock)
        echo(sock, address)

    server = start_server(StreamServer(LOOPBACK, handle, ssl_context=context))
    assert ask_tls(server, authority) == b"ping"
    assert isinstance(seen[0], ssl.SSLSocket)


def test_tls_peers_are_told_that_nothing_follows(
    authority: Any, files: tuple[str, str], start_server: Callable[..., Any], errors: list[Any]
) -> None:
    def handle(sock: Any, address: Any) -> None:
        if sock.recv(10) == b"fail":
            raise RuntimeError("as it should")

    server = start_server(StreamServer(LOOPBACK, handle, certfile=files[0], keyfile=files[1]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)

    def wrap(sock: Any) -> Any:
        return context.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    with connect(server) as plain, wrap(plain) as sock:
        sock.sendall(b"end")
        assert sock.recv(10) == b""
    with connect(server) as plain, wrap(plain) as sock:
        sock.sendall(b"fail")
        with pytest.raises(ssl.SSLEOFError):
            sock.recv(10)


def test_a_handshake_holds_up_nobody(
    authority: Any, files: tuple[str, str], start_server: Callable[..., Any], errors: list[Any]
) -> None:
    server = start_server(StreamServer(LOOPBACK, echo, certfile=files[0], keyfile=files[1]))
    with connect(server) as silent:
        assert ask_tls(server, authority) == b"ping"
        silent.sendall(b"this is no handshake\r\n")
        with gevent.Timeout(GUARD):
            while not errors:
                gevent.sleep(0.001)
    assert len(errors) == 1
    assert isinstance(errors[0][1], stdlib_ssl.SSLError)
    assert ask_tls(server, authority) == b"ping"


def test_a_tls_listener_is_refused(files: tuple[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    listener = StreamServer.get_listener(LOOPBACK, 5, socket.AF_INET)
    with (
        context.wrap_socket(listener, server_side=True) as wrapped,
        pytest.raises(TypeError),
    ):
        StreamServer(wrapped, echo)


# --- datagrams


def test_datagrams(start_server: Callable[..., Any]) -> None:
    class Server(DatagramServer):
        def handle(self, data: bytes, address: Any) -> None:
            self.sendto(data.upper(), address)

    server = start_server(Server(LOOPBACK))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(GUARD)
        client.connect(server.address)
        for question in (b"one", b"two", b""):
            client.send(question)
            assert client.recv(100) == question.upper()


def test_a_datagram_socket_can_be_given(start_server: Callable[..., Any]) -> None:
    seen = Queue()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(LOOPBACK)
    start_server(DatagramServer(sock, lambda *args: seen.put(args)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(LOOPBACK)
        client.sendto(b"hello", sock.getsockname())
        assert seen.get(timeout=GUARD) == (b"hello", client.getsockname())

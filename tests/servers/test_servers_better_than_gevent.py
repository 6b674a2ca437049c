"""What servers promise beyond gevent's."""

from __future__ import annotations

import os
import socket as stdlib_socket
import ssl as stdlib_ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent import socket, ssl
from gevent.baseserver import parse_address
from gevent.queue import Queue
from gevent.server import DatagramServer, StreamServer
from gevent.threadpool import ThreadPool
from scripts import RunScript

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0

LOOPBACK = ("127.0.0.1", 0)


def hello(sock: socket.socket, _: Any) -> None:
    sock.sendall(b"hello")


def listen_to(server: Any, address: Any = None) -> bytes:
    family = server.family
    with socket.socket(family) as sock:
        sock.settimeout(GUARD)
        sock.connect(server.address if address is None else address)
        return b"".join(iter(lambda: sock.recv(1000), b""))


def test_a_stopped_server_can_be_started_again(start_server: Callable[..., Any]) -> None:
    server = start_server(StreamServer(LOOPBACK, hello, spawn=2))
    address = server.address
    assert listen_to(server) == b"hello"
    server.stop()
    start_server(server)
    assert server.address == address
    assert listen_to(server) == b"hello"


def test_a_socket_that_does_not_listen_yet(start_server: Callable[..., Any]) -> None:
    listener = socket.socket()
    listener.bind(LOOPBACK)
    assert listen_to(start_server(StreamServer(listener, hello))) == b"hello"


def test_a_backlog_is_for_addresses() -> None:
    with StreamServer.get_listener(LOOPBACK) as listener:
        with pytest.raises(TypeError, match="backlog"):
            StreamServer(listener, hello, backlog=5)
        assert listener.fileno() >= 0, "it is the caller's still"


@pytest.mark.parametrize("arguments", [{"handle": 5}, {"handle": hello, "spawn": "raw"}])
def test_arguments_that_do_not_fit(arguments: Any) -> None:
    with pytest.raises(TypeError):
        StreamServer(LOOPBACK, **arguments)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"keyfile": "key.pem"}, ValueError), ({"ssl_context": object(), "x": 1}, TypeError)],
)
def test_tls_options_are_checked_at_once(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        StreamServer(LOOPBACK, hello, **options)


def test_ipv6_addresses_without_brackets() -> None:
    assert parse_address("::1:80") == (socket.AF_INET6, ("::1", 80))


def test_all_addresses_are_those_of_ipv4_too(start_server: Callable[..., Any]) -> None:
    server = start_server(StreamServer(0, hello))
    if server.family == socket.AF_INET6 and server.socket.family == socket.AF_INET6:
        assert listen_to(server, ("::1", server.server_port)) == b"hello"
    with socket.create_connection(("127.0.0.1", server.server_port)) as sock:
        assert sock.recv(10) == b"hello"


def test_where_there_is_no_ipv6(
    start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from greenloop import server as module

    class WithoutIPv6(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr(module, "socket", WithoutIPv6)
    server = start_server(StreamServer(0, hello))
    assert server.server_host == "0.0.0.0"
    with socket.create_connection(("127.0.0.1", server.server_port)) as sock:
        assert sock.recv(10) == b"hello"
    with pytest.raises(OSError, match="not supported"):
        StreamServer(("::1", 0), hello).start()


@pytest.mark.parametrize("prefix", ["", "unix:"])
def test_paths_of_unix_sockets(
    prefix: str, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    path = tmp_path / "sock"
    # One that a process which was killed has left.
    with stdlib_socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = start_server(StreamServer(f"{prefix}{path}", hello))
    assert listen_to(server, str(path)) == b"hello"
    with pytest.raises(OSError, match="in use"):
        StreamServer(str(path), hello).start()
    assert listen_to(server, str(path)) == b"hello", "it was left alone"
    server.stop()
    assert not path.exists()


def test_a_path_that_others_have_taken_over_is_not_removed(
    tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    path = tmp_path / "sock"
    first = start_server(StreamServer(str(path), hello))
    path.unlink()
    second = start_server(StreamServer(str(path), hello))
    first.stop()
    assert listen_to(second, str(path)) == b"hello"


def test_files_are_not_taken_for_sockets(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with pytest.raises(OSError, match="in use"):
        StreamServer(str(path), hello).start()
    assert path.read_text() == "text"


def test_datagrams_at_a_path(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    seen = Queue()
    path = tmp_path / "sock"
    for _ in range(2):
        server = start_server(DatagramServer(str(path), lambda data, _: seen.put(data)))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"x" * 20_000, str(path))
        assert len(seen.get(timeout=GUARD)) == 20_000, "not cut off"
        server.stop()
        assert not path.exists()


def test_servers_can_share_a_port(start_server: Callable[..., Any]) -> None:
    class Server(StreamServer):
        reuse_port = True

    first = start_server(Server(LOOPBACK, hello))
    start_server(Server(first.address, hello))
    first.stop()
    assert listen_to(first) == b"hello"


def test_a_handler_can_stop_its_server(start_server: Callable[..., Any]) -> None:
    done = Queue()

    def handle(sock: socket.socket, _: Any) -> None:
        server.stop(timeout=GUARD)
        sock.sendall(b"stopped")
        done.put(None)

    server = start_server(StreamServer(LOOPBACK, handle, spawn=2))
    assert listen_to(server) == b"stopped"
    done.get(timeout=GUARD)
    assert not server.started


def test_contexts_of_the_standard_class_do_not_block(
    tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    context = stdlib_ssl.SSLContext(stdlib_ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    seen = Queue()

    def handle(sock: Any, address: Any) -> None:
        seen.put(sock)
        sock.sendall(sock.recv(10))

    server = start_server(StreamServer(LOOPBACK, handle, ssl_context=context))
    for _ in range(2):
        with (
            socket.create_connection(server.address, timeout=GUARD) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            sock.sendall(b"ping")
            assert sock.recv(10) == b"ping"
        assert isinstance(seen.get(timeout=GUARD), socket.socket)
        # The handler that is set later gets TLS sockets too.
        server.set_handle(handle)


def test_handlers_in_native_threads(start_server: Callable[..., Any]) -> None:
    pool = ThreadPool(2)
    server = start_server(StreamServer(LOOPBACK, hello, spawn=pool))
    for _ in range(3):
        assert listen_to(server) == b"hello"
    pool.kill()


def test_a_server_that_is_started_in_another_thread() -> None:
    server = StreamServer(LOOPBACK, hello)
    started = gevent.event.Event()
    end = gevent.event.Event()

    def serve() -> None:
        server.start()
        started.set()
        end.wait(GUARD)
        server.stop()

    pool = ThreadPool(1)
    serving = pool.spawn(serve)
    assert started.wait(GUARD)
    assert listen_to(server) == b"hello"
    end.set()
    serving.get(timeout=GUARD)
    pool.kill()


def test_processes_share_a_listener(run_script: RunScript) -> None:
    result = run_script(
        """
        import os, gevent
        from gevent import socket
        from gevent.server import StreamServer

        server = StreamServer(
            ("127.0.0.1", 0), lambda sock, _: sock.sendall(b"%d" % os.getpid())
        )
        server.max_accept = 1
        server.init_socket()
        children = []
        for _ in range(2):
            pid = os.fork()
            if not pid:
                with gevent.Timeout(60, False):
                    server.serve_forever()
                os._exit(1)
            children.append(pid)
        seen = set()
        while seen != set(children):
            with socket.create_connection(server.address) as sock:
                seen.add(int(sock.recv(100)))
        for pid in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        print("both")
        """
    )
    assert result.stdout == "both\n", result.describe()


def test_a_child_leaves_the_path_of_its_parent(
    tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    path = tmp_path / "sock"
    server = start_server(StreamServer(str(path), hello))
    pid = os.fork()
    if not pid:
        server.close()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert listen_to(server, str(path)) == b"hello"


def test_handlers_begin_before_the_listener_is_closed(start_server: Callable[..., Any]) -> None:
    """One that waits for a time closes the server in the very round in which a connection comes."""

    def tell_name(sock: socket.socket, _: Any) -> None:
        sock.sendall(repr(listener.getsockname()).encode())

    with socket.socket() as listener:
        listener.bind(LOOPBACK)
        listener.listen()
        address = listener.getsockname()
        server = start_server(StreamServer(listener, tell_name, spawn=1))
        with stdlib_socket.create_connection(address, GUARD) as client:
            # Nobody gets a turn until the time is over, and the connection is there.
            gevent.spawn(time.sleep, 0.02)
            gevent.sleep(0.005)
            assert len(server.pool) == 1
            server.close()
            assert client.recv(1000) == repr(address).encode()

"""What the socket module and class have besides transfer."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import select as stdlib_select
import socket as stdlib_socket
import threading
import warnings
import weakref

import gevent
import pytest
from conftest import GUARD
from gevent import socket

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
ours_only = pytest.mark.skipif(PEER, reason="gevent differs from the standard module")


@ours_only
def test_module_has_the_standard_names():
    for name in stdlib_socket.__all__:
        assert hasattr(socket, name), name
    assert socket.AF_INET is stdlib_socket.AF_INET
    assert socket.timeout is stdlib_socket.timeout
    assert socket.gaierror is stdlib_socket.gaierror
    assert socket.error is OSError
    assert socket.SocketType is socket.socket
    for name in socket.__implements__:
        assert getattr(socket, name) is not getattr(stdlib_socket, name), name


@ours_only
def test_class_derives_from_the_standard_one(pair):
    assert issubclass(socket.socket, stdlib_socket.socket)
    assert isinstance(pair[0], stdlib_socket.socket)


def test_defaults_and_arguments():
    with socket.socket() as sock:
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.proto == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    with socket.socket(family=socket.AF_INET6, type=socket.SOCK_DGRAM) as sock:
        assert sock.family == socket.AF_INET6
        assert sock.type == socket.SOCK_DGRAM
    with pytest.raises(OSError):
        socket.socket(family=9999)
    with pytest.raises(TypeError):
        socket.socket(type="stream")


def test_kind_of_a_descriptor_is_found_out(pair):
    with socket.socket(fileno=os.dup(pair[0].fileno())) as sock:
        assert sock.family == socket.AF_UNIX
        assert sock.type == socket.SOCK_STREAM
        sock.sendall(b"x")
        assert pair[1].recv(1) == b"x"
    with pytest.raises(OSError):
        socket.socket(fileno=99999)
    with pytest.raises(ValueError):
        socket.socket(fileno=-1)


def test_fromfd_and_dup(pair):
    first, second = pair
    first.settimeout(5)
    for copy in (socket.fromfd(first.fileno(), socket.AF_UNIX, socket.SOCK_STREAM), first.dup()):
        with copy:
            assert type(copy) is socket.socket
            assert copy.fileno() != first.fileno()
            copy.sendall(b"x")
            assert second.recv(1) == b"x"
            reader = gevent.spawn(copy.recv, 1)
            gevent.sleep(0)
            second.sendall(b"y")
            assert reader.get(timeout=GUARD) == b"y"
    with first.dup() as copy:
        assert copy.gettimeout() == 5


def test_copies_wait_apart(pair):
    first, second = pair
    with second.dup() as copy:
        readers = [gevent.spawn(second.recv, 1), gevent.spawn(copy.recv, 1)]
        gevent.sleep(0)
        first.sendall(b"x")
        gevent.sleep(0.01)
        first.sendall(b"y")
        gevent.joinall(readers, timeout=GUARD, raise_error=True)
        assert sorted(reader.get() for reader in readers) == [b"x", b"y"]


def test_detach_gives_the_descriptor_away(pair):
    first, second = pair
    fd = first.detach()
    assert first.fileno() == -1
    os.write(fd, b"x")
    assert second.recv(1) == b"x"
    os.close(fd)
    with pytest.raises(OSError):
        first.send(b"x")


def test_socketpair():
    for family in (None, socket.AF_UNIX):
        first, second = socket.socketpair(family)
        with first, second:
            assert first.family == socket.AF_UNIX
            first.sendall(b"x")
            assert second.recv(1) == b"x"


def test_options(listener):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert not listener.get_inheritable()
    listener.set_inheritable(True)
    assert listener.get_inheritable()


def test_representation(listener):
    text = repr(listener)
    assert f"fd={listener.fileno()}" in text
    assert "laddr=" in text or PEER
    assert "socket" in text


def test_sockets_are_not_pickled(pair):
    with pytest.raises(TypeError):
        pickle.dumps(pair[0])


@ours_only
def test_unclosed_sockets_are_warned_of():
    with pytest.warns(ResourceWarning, match="unclosed <greenloop.socket.socket"):
        socket.socket()


def test_subclasses(listener):
    class Counting(socket.socket):
        received = 0

        def recv(self, *args):
            data = super().recv(*args)
            self.received += len(data)
            return data

    with Counting() as sock:
        sock.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            server.sendall(b"abc")
            assert sock.recv(10) == b"abc"
            assert sock.received == 3
            assert type(sock.dup()) is Counting


def test_weak_references(pair):
    import weakref

    assert weakref.ref(pair[0])() is pair[0]


# --- files


def test_makefile(pair):
    first, second = pair
    with first.makefile("wb") as writer, second.makefile("rb") as reader:
        waiting = gevent.spawn(reader.readline)
        gevent.sleep(0)
        writer.write(b"first\nsecond")
        writer.flush()
        assert waiting.get(timeout=GUARD) == b"first\n"
        waiting = gevent.spawn(reader.read)
        gevent.sleep(0)
        writer.write(b" and last")
        writer.close()
        first.close()
        assert waiting.get(timeout=GUARD) == b"second and last"


def test_text_file(pair):
    first, second = pair
    with first.makefile("w", encoding="utf-8") as writer:
        writer.write("grün\n")
    first.close()
    with second.makefile("r", encoding="utf-8") as reader:
        assert list(reader) == ["grün\n"]


def test_file_keeps_the_socket_open(pair):
    first, second = pair
    file = first.makefile("rwb", buffering=0)
    first.close()
    assert first.fileno() >= 0
    file.write(b"x")
    assert second.recv(1) == b"x"
    file.close()
    assert first.fileno() == -1
    assert second.recv(1) == b""


def test_file_times_out(pair):
    first, _ = pair
    first.settimeout(0.01)
    with first.makefile("rb") as file:
        with pytest.raises(TimeoutError):
            file.read(1)
        with pytest.raises(OSError, match="cannot read from timed out object"):
            file.read(1)
    with pytest.raises(ValueError):
        first.makefile("x")


def test_sendfile(connected, tmp_path):
    client, server = connected
    data = os.urandom(3_000_000)
    path = tmp_path / "data"
    path.write_bytes(data)
    with path.open("rb") as file:
        writer = gevent.spawn(client.sendfile, file, 10, 2_500_000)
        received = bytearray()
        while len(received) < 2_500_000:
            received += server.recv(65536)
        assert writer.get(timeout=GUARD) == 2_500_000
        assert received == data[10:2_500_010]
        assert file.tell() == 2_500_010
        client.setblocking(False)
        with pytest.raises(ValueError, match="non-blocking"):
            client.sendfile(file)


# --- functions


def test_create_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if not PEER:
            assert type(listener) is socket.socket
        waiting = gevent.spawn(listener.accept) if not PEER else None
        gevent.sleep(0)
        with socket.create_connection(listener.getsockname()) as client:
            assert type(client) is socket.socket
            if waiting is not None:
                waiting.get(timeout=GUARD)[0].close()


def test_create_connection_tries_all_addresses(listener, monkeypatch):
    port = listener.getsockname()[1]
    closed = socket.create_server(("127.0.0.1", 0))
    closed.close()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusing = unused.getsockname()
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        answers = [(*kind, refusing), (*kind, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: answers)
        with socket.create_connection(("name", 1)) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
        answers.pop()
        answers.insert(0, (*kind, ("not an address", 1, 2, 3)))
        with pytest.raises(TypeError):
            socket.create_connection(("name", 1))
        answers[0] = (12345, *answers[1][1:])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("name", 1))
        with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:
            socket.create_connection(("name", 1), all_errors=True)
        unsupported, refused = caught.value.exceptions
        assert unsupported.errno == errno.EAFNOSUPPORT
        assert isinstance(refused, ConnectionRefusedError)
        answers.clear()
        with pytest.raises(OSError, match="empty list"):
            socket.create_connection(("name", 1))


@pytest.mark.parametrize("end", [gevent.GreenletExit, gevent.Timeout, KeyboardInterrupt])
def test_interrupted_create_connection_leaves_no_socket(monkeypatch, end):
    made = []

    class Interrupted(socket.socket):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

        def connect(self, address):
            raise end

    monkeypatch.setattr(socket, "socket", Interrupted)
    with pytest.raises(end):
        socket.create_connection(("127.0.0.1", 1))
    assert made[0].fileno() == -1


def test_failed_create_connection_leaves_no_cycle(monkeypatch):
    made = []

    class Noted(socket.socket):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(socket, "socket", Noted)
        gc.collect()
        gc.disable()
        try:
            try:
                socket.create_connection(unused.getsockname())
            except ConnectionRefusedError:
                pass
            else:
                pytest.fail("connected")
            # The error's traceback referred to it.
            assert made[0]() is None
        finally:
            gc.enable()


def test_create_connection_sets_the_timeout(listener):
    with socket.create_connection(listener.getsockname(), timeout=GUARD) as sock:
        assert sock.gettimeout() == GUARD
    with socket.create_connection(listener.getsockname(), None) as sock:
        assert sock.gettimeout() is None
    with pytest.raises(ValueError, match="out of range"):
        socket.create_connection(listener.getsockname(), -1)


@ours_only
def test_timeouts_of_sockets_without_descriptor(pair):
    sock = pair[0]
    with socket.socket(fileno=sock.fileno()) as double:
        sock.close()
        for call in (
            lambda: double.settimeout(1),
            lambda: double.setblocking(False),
            lambda: sock.settimeout(1),
            lambda: sock.setblocking(True),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EBADF
        double.detach()


def test_create_connection_from_an_address(listener):
    with socket.create_connection(
        listener.getsockname(), timeout=GUARD, source_address=("127.0.0.1", 0)
    ) as client:
        assert client.gettimeout() == GUARD
        assert client.getsockname()[0] == "127.0.0.1"


# --- threads


def test_threads_have_hubs_of_their_own(listener):
    results = []

    def in_thread():
        def talk(index):
            with socket.create_connection(listener.getsockname(), timeout=GUARD) as client:
                client.sendall(b"%d" % index)
                results.append(client.recv(100))

        gevent.joinall([gevent.spawn(talk, index) for index in range(10)], timeout=GUARD)
        gevent.get_hub().destroy()

    thread = threading.Thread(target=in_thread)
    thread.start()
    for _ in range(10):
        server, _ = listener.accept()
        with server:
            data = server.recv(100)
            server.sendall(b"got " + data)
    while thread.is_alive():
        gevent.sleep(0.001)
    assert sorted(results) == [b"got %d" % index for index in range(10)]


@ours_only
def test_socket_is_used_in_several_threads(pair):
    first, second = pair
    received = []

    def in_thread():
        received.append(second.recv(10))
        received.append(second.recv(10))
        try:
            second.recv(10)
        except OSError as error:
            received.append(str(error))

    for data in (b"a", b"b"):
        # This thread's loop knows the descriptor too.
        reader = gevent.spawn(second.recv, 10)
        gevent.sleep(0)
        first.sendall(data)
        assert reader.get(timeout=GUARD) == data
    thread = threading.Thread(target=in_thread)
    thread.start()
    for count, data in enumerate((b"c", b"d"), 1):
        first.sendall(data)
        while len(received) < count:
            gevent.sleep(0.001)
    gevent.sleep(0.02)
    second.close()
    while thread.is_alive():
        gevent.sleep(0.001)
    assert received == [b"c", b"d", "[Errno 9] File descriptor was closed in another greenlet"]


def test_descriptor_is_never_blocking_below(pair):
    # A call that got through to the system could not stop the loop.
    poll = stdlib_select.poll()
    poll.register(pair[0].fileno(), stdlib_select.POLLIN)
    assert poll.poll(0) == []
    with pytest.raises(BlockingIOError):
        os.read(pair[0].fileno(), 1)


def test_no_warnings_on_import(run_script):
    script = """
        import gevent.socket, gevent.ssl, gevent.select, gevent.selectors, gevent.threadpool
    """
    with warnings.catch_warnings():
        run_script(script, options=("-W", "error")).check()

"""Sockets: what calls do, how they wait, how waiting ends."""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import time

import gevent
import pytest
from conftest import GUARD
from gevent import socket
from gevent.exceptions import ConcurrentObjectUseError


def fill(sock):
    """Send until the socket takes no more; return what was sent."""
    before = sock.gettimeout()
    sock.settimeout(0)
    sent = bytearray()
    try:
        while True:
            chunk = os.urandom(65536)
            sent += chunk[: sock.send(chunk)]
    except BlockingIOError:
        return bytes(sent)
    finally:
        sock.settimeout(before)


def receive_exactly(sock, count):
    received = bytearray()
    while len(received) < count:
        chunk = sock.recv(min(65536, count - len(received)))
        if not chunk:
            break
        received += chunk
    return bytes(received)


def test_receiving_waits_for_one_greenlet_only(pair):
    first, second = pair
    order = []

    def receive():
        order.append("waits")
        order.append(second.recv(100))

    reader = gevent.spawn(receive)
    gevent.sleep(0)
    order.append("meanwhile")
    first.sendall(b"hello")
    reader.join(GUARD)
    assert order == ["waits", "meanwhile", b"hello"]


def test_data_that_is_there_is_received_without_switching(pair):
    first, second = pair
    first.sendall(b"abc")
    ran = []
    gevent.spawn(ran.append, 1)
    assert second.recv(2) == b"ab"
    assert second.recv(2) == b"c"
    assert ran == []


def test_end_of_stream_is_empty_bytes(pair):
    first, second = pair
    first.sendall(b"last")
    first.close()
    assert second.recv(100) == b"last"
    assert second.recv(100) == b""
    assert second.recv_into(bytearray(5)) == 0


def test_close_by_the_peer_ends_a_wait(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 10)
    gevent.sleep(0)
    first.close()
    assert reader.get(timeout=GUARD) == b""


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000])
def test_recv_gives_what_there_is_up_to_the_size(connected, size):
    client, server = connected
    client.sendall(b"x" * 100)
    assert server.recv(size) == b"x" * min(100, size)


def test_recv_checks_its_arguments(pair):
    first, _ = pair
    with pytest.raises(ValueError, match="negative buffersize in recv"):
        first.recv(-1)
    with pytest.raises(TypeError):
        first.recv("1")
    with pytest.raises(TypeError):
        first.recv(1.5)
    with pytest.raises(TypeError):
        first.recv()
    with pytest.raises(TypeError):
        first.recv(1, 2, 3)


def test_peeking_leaves_the_data(pair):
    first, second = pair
    first.sendall(b"abc")
    assert second.recv(10, socket.MSG_PEEK) == b"abc"
    assert second.recv(10) == b"abc"


def test_recv_into_fills_the_buffer(pair):
    first, second = pair
    first.sendall(b"abcdef")
    buffer = bytearray(b"........")
    assert second.recv_into(buffer, 2) == 2
    assert second.recv_into(memoryview(buffer)[3:]) == 4
    assert buffer == b"ab.cdef."


def test_recv_into_waits_with_a_buffer(pair):
    first, second = pair
    buffer = bytearray(10)
    reader = gevent.spawn(second.recv_into, buffer)
    gevent.sleep(0)
    first.sendall(b"abc")
    assert reader.get(timeout=GUARD) == 3
    # It is not held any more.
    buffer.extend(b"x")
    assert buffer == b"abc" + bytes(7) + b"x"


def test_recv_into_checks_its_arguments(pair):
    first, _ = pair
    with pytest.raises(ValueError, match="negative buffersize in recv_into"):
        first.recv_into(bytearray(3), -1)
    with pytest.raises(ValueError, match="buffer too small for requested bytes"):
        first.recv_into(bytearray(3), 4)
    with pytest.raises(TypeError, match="read-write bytes-like object"):
        first.recv_into(b"abc")


def test_waiting_for_all_of_a_message(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 6, socket.MSG_WAITALL)
    gevent.sleep(0)
    first.sendall(b"abc")
    gevent.sleep(0.01)
    if not reader.ready():
        first.sendall(b"def")
        assert reader.get(timeout=GUARD) == b"abcdef"
    else:
        # gevent gives what came first.
        assert reader.get() == b"abc"


def test_sending_waits_until_the_peer_reads(connected):
    client, server = connected
    data = os.urandom(10_000_000)
    writer = gevent.spawn(client.sendall, data)
    gevent.sleep(0.01)
    assert not writer.ready()
    received = bytearray()
    while len(received) < len(data):
        received += server.recv(100_000)
        gevent.sleep(0)
    assert received == data
    assert writer.get(timeout=GUARD) is None


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
def test_sendall_takes_any_buffer(connected, make):
    client, server = connected
    data = os.urandom(2_000_000)
    writer = gevent.spawn(client.sendall, make(data))
    assert receive_exactly(server, len(data)) == data
    writer.get(timeout=GUARD)


def test_sendall_of_items_wider_than_a_byte(pair):
    from array import array

    first, second = pair
    numbers = array("i", range(100))
    first.sendall(numbers)
    assert receive_exactly(second, 400) == numbers.tobytes()


def test_sending_nothing(pair):
    first, second = pair
    first.sendall(b"")
    assert first.send(b"") == 0
    first.sendall(b"x")
    assert second.recv(10) == b"x"


def test_text_is_not_sent(pair):
    first, _ = pair
    for send in (first.send, first.sendall):
        with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
            send("text")


def test_sending_to_a_closed_peer(pair):
    first, second = pair
    second.close()
    with pytest.raises(BrokenPipeError):
        first.sendall(b"x" * 10_000_000)


def test_full_duplex(connected):
    client, server = connected
    data = os.urandom(3_000_000)
    greenlets = [
        gevent.spawn(client.sendall, data),
        gevent.spawn(server.sendall, data[::-1]),
        gevent.spawn(receive_exactly, server, len(data)),
        gevent.spawn(receive_exactly, client, len(data)),
    ]
    gevent.joinall(greenlets, timeout=GUARD, raise_error=True)
    assert greenlets[2].get() == data
    assert greenlets[3].get() == data[::-1]


# --- timeouts


def test_new_sockets_wait_without_limit(pair):
    first, _ = pair
    assert first.gettimeout() is None
    assert first.timeout is None
    assert first.getblocking() is True


@pytest.mark.parametrize("seconds", [0.0, 1.5, 3])
def test_timeout_is_kept(pair, seconds):
    first, _ = pair
    first.settimeout(seconds)
    assert first.gettimeout() == seconds
    assert first.timeout == seconds
    assert first.getblocking() is (seconds != 0)


def test_setblocking_sets_the_timeout(pair):
    first, _ = pair
    first.setblocking(False)
    assert first.gettimeout() == 0.0
    first.setblocking(True)
    assert first.gettimeout() is None


def test_timeouts_are_checked(pair):
    first, _ = pair
    with pytest.raises(ValueError, match="Timeout value out of range"):
        first.settimeout(-1)
    with pytest.raises(TypeError):
        first.settimeout("1")
    assert first.gettimeout() is None


def test_default_timeout_is_for_new_sockets(listener):
    socket.setdefaulttimeout(12.5)
    try:
        with socket.socket() as fresh:
            assert fresh.gettimeout() == 12.5
            fresh.connect(listener.getsockname())
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.gettimeout() == 12.5
    finally:
        socket.setdefaulttimeout(None)
    assert listener.gettimeout() is None


def test_accepted_sockets_have_no_timeout(listener):
    listener.settimeout(GUARD)
    with socket.create_connection(listener.getsockname(), timeout=5) as client:
        assert client.gettimeout() == 5
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.gettimeout() is None


def test_receiving_times_out(pair):
    first, second = pair
    second.settimeout(0.02)
    start = time.monotonic()
    for receive in (
        lambda: second.recv(1),
        lambda: second.recv_into(bytearray(1)),
        lambda: second.recvfrom(1),
        lambda: second.recvmsg(1),
    ):
        with pytest.raises(TimeoutError) as caught:
            receive()
        assert str(caught.value) == "timed out"
        assert isinstance(caught.value, socket.timeout)
        assert caught.value.errno is None
    assert time.monotonic() - start >= 0.08
    first.sendall(b"x")
    assert second.recv(1) == b"x"


def test_sending_times_out(connected):
    client, _ = connected
    fill(client)
    client.settimeout(0.02)
    with pytest.raises(TimeoutError, match="timed out"):
        client.sendall(b"x" * 10_000_000)


def test_accepting_times_out(listener):
    listener.settimeout(0.02)
    with pytest.raises(TimeoutError, match="timed out"):
        listener.accept()


def test_timeout_of_sendall_is_for_the_whole(connected):
    client, server = connected
    client.settimeout(0.3)

    def read_slowly():
        while server.recv(1000):
            gevent.sleep(0.01)

    reader = gevent.spawn(read_slowly)
    with pytest.raises(TimeoutError):
        client.sendall(b"x" * 100_000_000)
    reader.kill()


def test_nonblocking_calls_fail_at_once(listener, connected, never_runs_others):
    client, _ = connected
    client.setblocking(False)
    listener.setblocking(False)
    with never_runs_others():
        for call in (
            lambda: client.recv(1),
            lambda: client.recv_into(bytearray(1)),
            lambda: client.recvfrom(1),
            lambda: client.recvmsg(1),
            lambda: listener.accept(),
        ):
            with pytest.raises(BlockingIOError) as caught:
                call()
            assert caught.value.errno == errno.EAGAIN
    fill(client)
    # The system may still make room: what was sent goes to the other side's buffer.
    with never_runs_others(), pytest.raises(BlockingIOError):
        while True:
            client.send(b"x")


def test_gevent_timeout_ends_a_wait(pair):
    first, second = pair
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        second.recv(1)
    first.sendall(b"after")
    assert second.recv(10) == b"after"


def test_killed_reader_leaves_the_data(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 10)
    gevent.sleep(0)
    first.sendall(b"data")
    reader.kill()
    assert isinstance(reader.value, gevent.GreenletExit)
    assert second.recv(10) == b"data"


# --- closing


def test_close_ends_the_wait_of_another_greenlet(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 1)
    fill(second)
    writer = gevent.spawn(second.sendall, b"x")
    gevent.sleep(0)
    second.close()
    for greenlet in (reader, writer):
        with pytest.raises(OSError) as caught:
            greenlet.get(timeout=GUARD)
        assert caught.value.errno == errno.EBADF
        assert str(caught.value) == "[Errno 9] File descriptor was closed in another greenlet"
    del first


def test_close_ends_a_wait_in_accept(listener):
    acceptor = gevent.spawn(listener.accept)
    gevent.sleep(0)
    listener.close()
    with pytest.raises(OSError, match="closed in another greenlet"):
        acceptor.get(timeout=GUARD)


def test_number_reused_after_close_belongs_to_the_new_socket(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 1)
    gevent.sleep(0)
    second.close()
    # The system gives the lowest number that is free.
    third, fourth = socket.socketpair()
    with third, fourth:
        with pytest.raises(OSError, match="closed in another greenlet"):
            reader.get(timeout=GUARD)
        other = gevent.spawn(third.recv, 10)
        gevent.sleep(0)
        fourth.sendall(b"new")
        assert other.get(timeout=GUARD) == b"new"
    del first


def test_many_sockets_on_one_number(listener):
    # Each is waited on, so that whatever is kept for a number has to follow.
    numbers = set()
    for index in range(50):
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        numbers.add(server.fileno())
        reader = gevent.spawn(server.recv, 10)
        gevent.sleep(0)
        client.sendall(b"%d" % index)
        assert reader.get(timeout=GUARD) == b"%d" % index
        client.close()
        server.close()
    assert len(numbers) < 50


def test_shutdown_ends_the_wait_of_another_greenlet(connected):
    client, _ = connected
    reader = gevent.spawn(client.recv, 1)
    gevent.sleep(0)
    client.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError) as caught:
        reader.get(timeout=GUARD)
    assert caught.value.errno == errno.EBADF


@pytest.mark.skipif(os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="greenloop's own")
def test_wait_may_follow_a_cancelled_one(connected):
    client, _ = connected
    cancelled = gevent.spawn(client.recv, 1)
    gevent.sleep(0)
    # Both are waiting from here on, the first with its error under way.
    following = gevent.spawn(client.recv, 1)
    client._state.cancel_waits(1)
    with pytest.raises(OSError, match="closed in another greenlet"):
        cancelled.get(timeout=GUARD)
    gevent.sleep(0)
    assert not following.ready()
    client.close()
    with pytest.raises(OSError, match="closed in another greenlet"):
        following.get(timeout=GUARD)


def test_shutdown_of_the_peer_is_end_of_stream(connected):
    client, server = connected
    reader = gevent.spawn(server.recv, 1)
    gevent.sleep(0)
    client.shutdown(socket.SHUT_WR)
    assert reader.get(timeout=GUARD) == b""
    server.sendall(b"still")
    assert client.recv(10) == b"still"


def test_closed_socket(pair):
    first, _ = pair
    first.close()
    assert first.fileno() == -1
    assert first.closed
    assert "[closed" in repr(first)
    for call in (
        lambda: first.recv(1),
        lambda: first.send(b"x"),
        lambda: first.recv_into(bytearray(1)),
        lambda: first.recvfrom(1),
        lambda: first.accept(),
        lambda: first.getsockname(),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
    first.close()


def test_context_manager_closes():
    with socket.socket() as sock:
        assert sock.fileno() >= 0
    assert sock.fileno() == -1


def test_second_reader_is_refused(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 10)
    gevent.sleep(0)
    with pytest.raises(
        ConcurrentObjectUseError, match="This socket is already used by another greenlet: "
    ):
        second.recv(10)
    with pytest.raises(ConcurrentObjectUseError):
        second.recv_into(bytearray(10))
    second.sendall(b"the other direction is free")
    assert first.recv(100) == b"the other direction is free"
    first.sendall(b"x")
    assert reader.get(timeout=GUARD) == b"x"
    # And then it is free again.
    later = gevent.spawn(second.recv, 10)
    gevent.sleep(0)
    first.sendall(b"y")
    assert later.get(timeout=GUARD) == b"y"


def test_second_acceptor_is_refused(listener):
    acceptor = gevent.spawn(listener.accept)
    gevent.sleep(0)
    with pytest.raises(ConcurrentObjectUseError):
        listener.accept()
    acceptor.kill()


# --- connecting and accepting


def test_accept_gives_a_socket_and_the_address_of_the_peer(listener):
    acceptor = gevent.spawn(listener.accept)
    gevent.sleep(0)
    with socket.socket() as client:
        assert client.connect(listener.getsockname()) is None
        server, address = acceptor.get(timeout=GUARD)
        with server:
            assert address == client.getsockname()
            assert isinstance(server, socket.socket)
            assert server.family == socket.AF_INET
            assert server.type == socket.SOCK_STREAM
            assert server.proto == client.proto
            assert not server.get_inheritable()
            assert server.getpeername() == client.getsockname()


def test_echo_server(serve):
    def echo(connection):
        while data := connection.recv(4096):
            connection.sendall(data)

    address = serve(echo)

    def talk(index):
        with socket.create_connection(address, timeout=GUARD) as client:
            for round_ in range(20):
                message = b"%d:%d" % (index, round_)
                client.sendall(message)
                assert receive_exactly(client, len(message)) == message

    clients = [gevent.spawn(talk, index) for index in range(50)]
    gevent.joinall(clients, timeout=GUARD, raise_error=True)
    assert all(client.successful() for client in clients)


def unused_port():
    with stdlib_socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_connection_refused():
    port = unused_port()
    with socket.socket() as sock:
        with pytest.raises(ConnectionRefusedError) as caught:
            sock.connect(("127.0.0.1", port))
        assert caught.value.errno == errno.ECONNREFUSED
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", port), timeout=GUARD)


@pytest.fixture
def full_listener():
    """The address of a listener that lets further connection attempts hang."""
    with stdlib_socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        waiting = []
        for _ in range(16):
            client = stdlib_socket.socket()
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
            waiting.append(client)
        gevent.sleep(0.05)
        yield sock.getsockname()
        for client in waiting:
            client.close()


def test_connecting_times_out(full_listener):
    with socket.socket() as sock:
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError, match="timed out"):
            sock.connect(full_listener)
    with socket.socket() as sock:
        sock.settimeout(0.05)
        assert sock.connect_ex(full_listener) == errno.EAGAIN
    with pytest.raises(TimeoutError, match="timed out"):
        socket.create_connection(full_listener, timeout=0.05)


def test_close_ends_a_wait_in_connect(full_listener):
    sock = socket.socket()
    connecting = gevent.spawn(sock.connect, full_listener)
    gevent.sleep(0.01)
    assert not connecting.ready()
    sock.close()
    with pytest.raises(OSError, match="closed in another greenlet"):
        connecting.get(timeout=GUARD)


def test_connecting_without_waiting(full_listener, never_runs_others):
    with socket.socket() as sock:
        sock.setblocking(False)
        with never_runs_others():
            assert sock.connect_ex(full_listener) == errno.EINPROGRESS
            with pytest.raises(BlockingIOError):
                sock.connect(full_listener)


def test_connecting_checks_the_address():
    with socket.socket() as sock:
        with pytest.raises(TypeError):
            sock.connect("127.0.0.1")
        with pytest.raises(TypeError):
            sock.connect(("127.0.0.1", "80"))
        with pytest.raises(OverflowError):
            sock.connect(("127.0.0.1", 65536))
        with pytest.raises(socket.gaierror):
            sock.connect(("host.invalid", 80))
        with pytest.raises(socket.gaierror):
            sock.connect_ex(("host.invalid", 80))


def test_names_are_looked_up(listener):
    port = listener.getsockname()[1]
    with socket.socket() as client:
        client.connect(("localhost", port))
        assert client.getpeername() == ("127.0.0.1", port)
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        assert sock.getsockname()[0] == "127.0.0.1"
    with socket.socket() as sock:
        sock.bind(("", 0))
        assert sock.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize(
    ("family", "more"),
    [(socket.AF_INET, [()]), (socket.AF_INET6, [(), (0,), (0, 1)])],
    ids=["IPv4", "IPv6"],
)
def test_numeric_addresses_are_not_looked_up(monkeypatch, family, more):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: pytest.fail("looked up"))
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
        socket.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((host, 0))
        port = receiver.getsockname()[1]
        for rest in more:
            address = (host, port, *rest)
            sender.connect(address)
            assert sender.getpeername()[:2] == (host, port)
            sender.sendto(b"x", address)
            assert receiver.recv(10) == b"x"


# --- running out of descriptors


OUT_OF_DESCRIPTORS = """
    import errno, resource
    import gevent
    from gevent import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    address = listener.getsockname()
    waiting = [socket.socket() for _ in range(3)]
    for client in waiting:
        client.connect(address)
    pair = socket.socketpair()
    reader = gevent.spawn(pair[0].recv, 10)
    gevent.sleep(0)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(100, hard), hard))
    hog = []
    try:
        while True:
            hog.append(open("/dev/null"))
    except OSError as error:
        assert error.errno == errno.EMFILE

    for call in (listener.accept, lambda: socket.create_connection(address), socket.socketpair):
        for _ in range(3):
            try:
                call()
            except OSError as error:
                assert error.errno == errno.EMFILE, error
            else:
                raise AssertionError("there were descriptors")

    # The loop goes on.
    pair[1].sendall(b"alive")
    assert reader.get(timeout=30) == b"alive"
    for file in hog:
        file.close()
    accepted = [listener.accept()[0] for _ in range(3)]
    accepted[0].sendall(b"later")
    assert any(client.recv(10) == b"later" for client in waiting[:1])
    print("done")
"""


def test_running_out_of_descriptors(run_script):
    assert run_script(OUT_OF_DESCRIPTORS).check() == "done\n"

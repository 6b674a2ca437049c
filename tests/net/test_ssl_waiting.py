"""TLS sockets that wait: which greenlets may, for what, and what comes between them."""

from __future__ import annotations

import gc
import os
import ssl as stdlib_ssl
from array import array

import gevent
import pytest
from conftest import GUARD, handshake
from gevent import socket, ssl
from gevent.exceptions import ConcurrentObjectUseError

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="greenloop's own promise"
)

ALL_THAT_FITS = b"x" * 50_000_000


@pytest.fixture
def quiet_pair(tls_pair):
    """A TLS connection on which nothing comes by itself: the session tickets have been read.

    The last of them may be on its way for as long as TCP delays it.
    """
    client, server = tls_pair
    server.sendall(b"x")
    assert client.recv(1) == b"x"
    return tls_pair


def spawn_and_wait(function, *args):
    """A greenlet that waits in a call."""
    greenlet = gevent.spawn(function, *args)
    gevent.sleep(0.01)
    assert not greenlet.ready()
    return greenlet


def read_that_waited(sock, peer, size, data):
    """Read up to `size` bytes of `data`, which is sent when the read waits."""
    reader = spawn_and_wait(sock.recv, size)
    peer.sendall(data)
    return reader.get(timeout=GUARD)


def drain(sock, count):
    received = bytearray()
    while len(received) < count:
        chunk = sock.recv(1 << 20)
        if not chunk:
            break
        received += chunk
    return bytes(received)


class TestAfterAReadThatWaited:
    """The next one looks first whether there is anything to read."""

    def test_what_the_layer_holds_is_read(self, tls_pair):
        client, server = tls_pair
        assert read_that_waited(client, server, 1, b"abc") == b"a"
        assert client.recv(10) == b"bc"

    def test_what_has_come_is_read(self, tls_pair):
        client, server = tls_pair
        for message in (b"a", b"b", b"c"):
            assert read_that_waited(client, server, 10, message) == message
            server.sendall(message)
            assert client.recv(10) == message

    def test_reading_nothing_does_not_wait(self, tls_pair):
        client, server = tls_pair
        assert read_that_waited(client, server, 1, b"a") == b"a"
        assert client.recv(0) == b""
        assert read_that_waited(client, server, 1, b"a") == b"a"
        assert client.recv_into(bytearray()) == 0

    def test_wrong_arguments_are_refused_at_once(self, tls_pair):
        client, server = tls_pair
        wrong = [
            (ValueError, client.recv, -1),
            (TypeError, client.recv, "1"),
            (OverflowError, client.recv, 1 << 70),
            (TypeError, client.recv_into, b"read-only"),
            (ValueError, client.recv, 1, 1),
        ]
        for error, function, *args in wrong:
            assert read_that_waited(client, server, 1, b"a") == b"a"
            with pytest.raises(error):
                function(*args)

    def test_the_end_is_told_again(self, tls_pair):
        client, server = tls_pair
        assert read_that_waited(client, server, 1, b"a") == b"a"
        reader = spawn_and_wait(client.recv, 1)
        # Says farewell, but keeps the connection open.
        server.settimeout(0.01)
        with pytest.raises(TimeoutError):
            server.unwrap()
        assert reader.get(timeout=GUARD) == b""
        assert client.recv(1) == b""
        assert client.recv_into(bytearray(3)) == 0

    def test_a_socket_that_no_longer_waits(self, tls_pair):
        client, server = tls_pair
        assert read_that_waited(client, server, 1, b"a") == b"a"
        client.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            client.recv(1)
        assert client.gettimeout() == 0.0


def test_a_timeout_in_the_middle_loses_nothing(tls_pair):
    client, server = tls_pair
    for number in range(3):
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
            client.recv(10)
        server.sendall(b"%d" % number)
        assert client.recv(10) == b"%d" % number


def test_nonblocking_writes_fail_when_there_is_no_room(tls_pair):
    client, _ = tls_pair
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantWriteError):
        client.sendall(ALL_THAT_FITS)


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: array("I", data)])
def test_all_of_a_buffer_is_sent(tls_pair, kind):
    client, server = tls_pair
    data = os.urandom(400_000)
    buffer = kind(data)
    reader = gevent.spawn(drain, server, len(data))
    assert client.sendall(buffer) is None
    assert reader.get(timeout=GUARD) == data
    if isinstance(buffer, bytearray):
        buffer.clear()  # BufferError if it were still in use


def test_what_cannot_be_sent(tls_pair):
    client, server = tls_pair
    for wrong in ("text", None, 1):
        with pytest.raises(TypeError):
            client.sendall(wrong)
        with pytest.raises(TypeError):
            client.send(wrong)
    with pytest.raises(ValueError, match="non-zero flags"):
        client.sendall(b"x", 1)
    with pytest.raises(ValueError, match="non-zero flags"):
        client.send(b"x", 1)
    with pytest.raises(NotImplementedError):
        client.sendmsg([b"x"])
    with pytest.raises(NotImplementedError):
        client.dup()
    client.sendall(b"")
    assert client.send(b"") == 0
    client.sendall(b"x")
    assert server.recv(10) == b"x"


def test_a_file_is_sent(tls_pair, tmp_path):
    client, server = tls_pair
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    reader = gevent.spawn(drain, server, 299_990)
    with path.open("rb") as file:
        assert client.sendfile(file, 10) == 299_990
    assert reader.get(timeout=GUARD) == path.read_bytes()[10:]


@ours_only
def test_two_readers(tls_pair):
    client, server = tls_pair
    reader = spawn_and_wait(client.recv, 1)
    with pytest.raises(ConcurrentObjectUseError):
        client.recv(1)
    server.sendall(b"x")
    assert reader.get(timeout=GUARD) == b"x"


@ours_only
def test_what_two_greenlets_write_is_not_mixed(tls_pair):
    client, server = tls_pair
    writer = spawn_and_wait(client.sendall, ALL_THAT_FITS)
    # OpenSSL would take this for what the other one still has to write.
    with pytest.raises(ConcurrentObjectUseError):
        client.sendall(b"y" * 20_000)
    with pytest.raises(ConcurrentObjectUseError):
        client.send(b"y")
    received = drain(server, len(ALL_THAT_FITS))
    writer.get(timeout=GUARD)
    assert received == ALL_THAT_FITS
    client.sendall(b"y")
    assert server.recv(10) == b"y"


class Layer:
    """In place of the TLS layer: says what it has to wait for, then succeeds."""

    def __init__(self, **wants):
        self.wants = wants

    def _do(self, operation, result):
        if self.wants.get(operation):
            raise self.wants[operation].pop()
        return result

    def read(self, size, buffer=None):
        return self._do("read", b"read")

    def write(self, data):
        return self._do("write", len(data))

    def do_handshake(self):
        return self._do("do_handshake", None)

    def pending(self):
        return 0


@ours_only
def test_reading_that_has_to_write_beside_a_writer(tls_pair):
    client, server = tls_pair
    writer = spawn_and_wait(client.sendall, ALL_THAT_FITS)
    layer, client._sslobj = client._sslobj, Layer(read=[ssl.SSLWantWriteError(3)])
    reader = spawn_and_wait(client.recv, 1)
    client._sslobj = layer
    assert drain(server, len(ALL_THAT_FITS)) == ALL_THAT_FITS
    assert reader.get(timeout=GUARD) == b"read"
    writer.get(timeout=GUARD)


@ours_only
@pytest.mark.parametrize("operation", ["write", "do_handshake"])
def test_what_has_to_read_beside_a_reader(quiet_pair, operation):
    client, server = quiet_pair
    reader = spawn_and_wait(client.recv, 1)
    layer, client._sslobj = client._sslobj, Layer(**{operation: [ssl.SSLWantReadError(2)]})
    args = (b"1234",) if operation == "write" else ()
    other = spawn_and_wait(getattr(client, operation), *args)
    if operation == "write":
        with pytest.raises(ConcurrentObjectUseError):
            client.write(b"5")
    client._sslobj = layer
    server.sendall(b"x")
    assert reader.get(timeout=GUARD) == b"x"
    assert other.get(timeout=GUARD) == (4 if operation == "write" else None)


@ours_only
@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_closing_ends_all_waits(quiet_pair, end):
    client, _ = quiet_pair
    reader = spawn_and_wait(client.recv, 1)
    writer = spawn_and_wait(client.sendall, ALL_THAT_FITS)
    client._sslobj = Layer(do_handshake=[ssl.SSLWantReadError(2)])
    aside = spawn_and_wait(client.do_handshake)
    if end == "close":
        client.close()
    else:
        client.shutdown(socket.SHUT_RDWR)
    for greenlet in (reader, writer, aside):
        with pytest.raises(OSError, match="closed in another greenlet"):
            greenlet.get(timeout=GUARD)


@ours_only
def test_the_rest_is_not_sent_in_the_clear(quiet_pair):
    client, server = quiet_pair  # nothing is left unread: closing is no reset

    class Data(Layer):
        def write(self, data):
            client._sslobj = None  # as another greenlet's unwrap() does
            return super().write(data[:3])

    client._sslobj = Data()
    client.sendall(b"123456789")
    client.close()
    server._sslobj = None
    assert server.recv(100) == b""


def test_a_slow_handshake_holds_nobody_up(listener, server_context, client_context):
    def serve():
        connection, _ = listener.accept()
        gevent.spawn(serve)
        with server_context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(b"x")

    servers = [gevent.spawn(serve)]
    with (
        socket.create_connection(listener.getsockname()),  # says nothing
        socket.create_connection(listener.getsockname()) as plain,
        client_context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        assert client.recv(10) == b"x"
    gevent.killall(servers, timeout=GUARD)


def test_closing_ends_a_handshake(connected, client_context):
    client = client_context.wrap_socket(
        connected[0], server_hostname="localhost", do_handshake_on_connect=False
    )
    shaking = spawn_and_wait(client.do_handshake)
    client.close()
    with pytest.raises(OSError, match="closed in another greenlet"):
        shaking.get(timeout=GUARD)


@ours_only
def test_messages_of_timeouts_are_the_standard_ones(tls_pair):
    client, _ = tls_pair
    client.settimeout(0.01)
    for message, function, *args in [
        ("The read operation timed out", client.recv, 1),
        ("The write operation timed out", client.sendall, ALL_THAT_FITS),
    ]:
        with pytest.raises(TimeoutError) as caught:
            function(*args)
        assert str(caught.value) == message
        assert caught.value.errno is None


@ours_only
def test_handshakes_of_closed_and_plain_sockets(tls_pair):
    client, server = tls_pair
    client.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.do_handshake()
    for sock in (client, server):
        sock.close()
        with pytest.raises(ValueError, match="No SSL wrapper"):
            sock.unwrap()
        with pytest.raises(ValueError, match="Read on closed"):
            sock.read(1)
        with pytest.raises(ValueError, match="Write on closed"):
            sock.write(b"x")


def test_a_callback_may_wait(connected, server_context, client_context):
    """The handshake is in the middle of OpenSSL then: other connections go on."""
    asked = gevent.event.Event()
    answer = gevent.event.Event()

    def choose(sock, name, context):
        asked.set()
        assert name == "localhost"
        assert answer.wait(GUARD)

    server_context.sni_callback = choose
    shaking = gevent.spawn(handshake, connected, server_context, client_context)
    assert asked.wait(GUARD)
    server_context.sni_callback = None
    first, second = socket.socketpair()
    client, server = handshake((first, second), server_context, client_context)
    with client, server:
        client.sendall(b"x")
        assert server.recv(1) == b"x"
    answer.set()
    client, server = shaking.get(timeout=GUARD)
    client.sendall(b"y")
    assert server.recv(1) == b"y"


def test_authentication_after_the_handshake(connected, authority, server_context):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    authority.issue_cert("client.example").configure_cert(context)
    authority.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    for side in (context, server_context):
        side.post_handshake_auth = True
    client, server = handshake(connected, server_context, context)
    assert not server.getpeercert()
    reading = spawn_and_wait(client.recv, 10)
    server.verify_client_post_handshake()
    server.write(b"who?")
    assert reading.get(timeout=GUARD) == b"who?"
    client.write(b"me")
    assert server.recv(10) == b"me"
    assert server.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)


def test_sessions_and_protocols(listener, server_context, client_context):
    server_context.set_alpn_protocols(["b", "a"])
    client_context.set_alpn_protocols(["a"])

    def serve():
        while True:
            connection, _ = listener.accept()
            with server_context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.sendall(b"x")
                wrapped.recv(1)

    serving = gevent.spawn(serve)

    def connect(session=None):
        plain = socket.create_connection(listener.getsockname())
        client = client_context.wrap_socket(plain, server_hostname="localhost", session=session)
        with client:
            assert client.recv(1) == b"x"
            assert client.selected_alpn_protocol() == "a"
            assert client.context is client_context
            client.sendall(b"x")
            return client.session, client.session_reused, client.get_channel_binding("tls-unique")

    session, reused, _ = connect()
    assert not reused
    _, reused, binding = connect(session)
    assert reused
    assert binding
    serving.kill(timeout=GUARD)


@ours_only
def test_derived_classes_may_override_what_the_others_use(
    connected, server_context, client_context
):
    calls = []

    class Counting(ssl.SSLSocket):
        def read(self, *args, **options):
            calls.append("read")
            return super().read(*args, **options)

        def send(self, data, flags=0):
            calls.append("send")
            return super().send(data, flags)

    client_context.sslsocket_class = Counting
    client, server = handshake(connected, server_context, client_context)
    server.sendall(b"abcdef")
    assert client.recv(2) == b"ab"
    assert client.recv_into(bytearray(2)) == 2
    assert client.read(2) == b"ef"
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    assert calls == ["read", "read", "read", "send"]


@ours_only
def test_errors_leave_no_cycles(connected, client_context):
    plain, _ = connected
    plain.settimeout(0.01)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(TimeoutError) as caught:
            client_context.wrap_socket(plain, server_hostname="localhost")
        assert caught.value.__context__ is None
        del caught
        kinds = (stdlib_ssl.SSLSocket, stdlib_ssl.SSLError)
        assert not [item for item in gc.get_objects() if isinstance(item, kinds)]
    finally:
        gc.enable()

"""TLS sockets."""

from __future__ import annotations

import contextlib
import os
import socket as stdlib_socket
import ssl as stdlib_ssl

import gevent
import pytest
from conftest import GUARD, handshake
from gevent import socket, ssl

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="gevent differs from the standard module"
)


def receive_exactly(sock, count):
    received = bytearray()
    while len(received) < count:
        chunk = sock.recv(min(65536, count - len(received)))
        if not chunk:
            break
        received += chunk
    return bytes(received)


def take_tickets(client, server):
    """Have the client receive what the server sent after the handshake: a connection closed with
    unread data is reset."""
    server.sendall(b"x")
    assert client.recv(1) == b"x"


def test_module_has_the_standard_names():
    names = ("PROTOCOL_TLS_CLIENT", "CERT_NONE", "SSLError", "create_default_context", "RAND_bytes")
    for name in names:
        assert hasattr(ssl, name)
    assert ssl.SSLError is stdlib_ssl.SSLError
    assert ssl.CERT_REQUIRED is stdlib_ssl.CERT_REQUIRED


def test_sockets_are_of_both_classes(tls_pair):
    client, server = tls_pair
    for sock in (client, server):
        assert isinstance(sock, ssl.SSLSocket)
        assert isinstance(sock, socket.socket)
    assert client.version() == server.version() == "TLSv1.3"
    assert client.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)
    assert client.cipher() is not None


def test_echo(tls_pair):
    client, server = tls_pair

    def echo():
        while data := server.recv(1024):
            server.sendall(data)
        server.close()

    echoing = gevent.spawn(echo)
    for message in (b"a", b"b" * 1024, b"c" * 1000):
        client.sendall(message)
        assert receive_exactly(client, len(message)) == message
    client.close()
    echoing.get(timeout=GUARD)


def test_sendall_waits_for_a_slow_reader(tls_pair):
    client, server = tls_pair
    data = os.urandom(5_000_000)
    writer = gevent.spawn(client.sendall, data)
    gevent.sleep(0.01)
    assert not writer.ready()
    received = bytearray()
    while len(received) < len(data):
        received += server.recv(50_000)
        gevent.sleep(0)
    assert received == data
    writer.get(timeout=GUARD)


def test_both_directions_at_once(tls_pair):
    client, server = tls_pair
    data = os.urandom(2_000_000)
    greenlets = [
        gevent.spawn(client.sendall, data),
        gevent.spawn(server.sendall, data[::-1]),
        gevent.spawn(receive_exactly, server, len(data)),
        gevent.spawn(receive_exactly, client, len(data)),
    ]
    gevent.joinall(greenlets, timeout=GUARD, raise_error=True)
    assert greenlets[2].get() == data
    assert greenlets[3].get() == data[::-1]


def test_reading_into_a_buffer(tls_pair):
    client, server = tls_pair
    buffer = bytearray(10)
    reader = gevent.spawn(server.recv_into, buffer)
    gevent.sleep(0)
    client.sendall(b"abc")
    assert reader.get(timeout=GUARD) == 3
    assert buffer[:3] == b"abc"
    client.write(b"defg")
    assert server.read(2) == b"de"
    assert server.pending() == 2
    assert server.read(10, buffer) == 2
    assert buffer[:2] == b"fg"


def test_reading_times_out(tls_pair):
    client, server = tls_pair
    client.settimeout(0.02)
    with pytest.raises(TimeoutError, match="The read operation timed out"):
        client.recv(1)
    server.sendall(b"x")
    client.settimeout(GUARD)
    assert client.recv(1) == b"x"


def test_writing_times_out(tls_pair):
    client, _ = tls_pair
    client.settimeout(0.02)
    with pytest.raises(TimeoutError, match="timed out"):
        client.sendall(b"x" * 50_000_000)


def test_handshake_times_out(connected, client_context):
    first, _ = connected
    first.settimeout(0.02)
    with pytest.raises(TimeoutError, match="handshake operation timed out"):
        client_context.wrap_socket(first, server_hostname="localhost")


def test_nonblocking_reads_fail_at_once(tls_pair):
    client, _ = tls_pair
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1)


@ours_only
def test_handshake_by_hand(connected, server_context, client_context):
    client = client_context.wrap_socket(
        connected[0], server_hostname="localhost", do_handshake_on_connect=False
    )
    server = server_context.wrap_socket(
        connected[1], server_side=True, do_handshake_on_connect=False
    )
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    serving = gevent.spawn(server.do_handshake)
    client.do_handshake(True)
    assert client.gettimeout() == 0.0
    serving.get(timeout=GUARD)
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_end_of_stream(tls_pair):
    client, server = tls_pair
    take_tickets(client, server)
    client.close()
    assert server.recv(10) == b""


def test_ragged_end_of_stream(connected, server_context, client_context):
    server = gevent.spawn(
        server_context.wrap_socket, connected[1], server_side=True, suppress_ragged_eofs=False
    )
    client = client_context.wrap_socket(connected[0], server_hostname="localhost")
    server = server.get(timeout=GUARD)
    take_tickets(client, server)
    client.close()
    with pytest.raises(ssl.SSLEOFError):
        server.recv(10)


def test_unwrapping_gives_a_plain_connection(tls_pair):
    client, server = tls_pair
    other = gevent.spawn(server.unwrap)
    plain = client.unwrap()
    plain_server = other.get(timeout=GUARD)
    plain.sendall(b"plain")
    assert plain_server.recv(10) == b"plain"


def test_close_ends_the_wait_of_another_greenlet(tls_pair):
    client, _ = tls_pair
    reader = gevent.spawn(client.recv, 1)
    gevent.sleep(0)
    client.close()
    with pytest.raises(OSError, match="closed in another greenlet"):
        reader.get(timeout=GUARD)


def test_untrusted_server(connected, server_context):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server = gevent.spawn(server_context.wrap_socket, connected[1], server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(connected[0], server_hostname="localhost")
    with pytest.raises(ssl.SSLError):
        server.get(timeout=GUARD)


def test_plain_data_in_place_of_a_handshake(connected, client_context):
    connected[1].sendall(b"this is no TLS\r\n")
    with pytest.raises(ssl.SSLError):
        client_context.wrap_socket(connected[0], server_hostname="localhost")


def test_listening_socket(listener, server_context, client_context):
    with server_context.wrap_socket(listener, server_side=True) as tls_listener:
        address = tls_listener.getsockname()

        def serve():
            connection, peer = tls_listener.accept()
            with connection:
                connection.sendall(repr(peer).encode())

        serving = gevent.spawn(serve)
        with client_context.wrap_socket(socket.socket(), server_hostname="localhost") as client:
            client.connect(address)
            assert client.recv(100) == repr(client.getsockname()).encode()
        serving.get(timeout=GUARD)


def test_sockets_of_the_standard_module_are_wrapped(server_context, client_context):
    first, second = stdlib_socket.socketpair()
    client, server = handshake((first, second), server_context, client_context)
    with client, server:
        assert first.fileno() == -1
        reader = gevent.spawn(server.recv, 10)
        gevent.sleep(0)
        client.sendall(b"x")
        assert reader.get(timeout=GUARD) == b"x"


@ours_only
def test_default_context_makes_our_sockets(connected):
    context = ssl.create_default_context()
    assert isinstance(context, stdlib_ssl.SSLContext)
    wrapped = context.wrap_socket(
        connected[0], server_hostname="localhost", do_handshake_on_connect=False
    )
    with wrapped:
        assert isinstance(wrapped, ssl.SSLSocket)


def test_properties_of_contexts():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.verify_mode = ssl.CERT_REQUIRED
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_certificate_of_a_server(listener, server_context, authority_file):
    def serve():
        connection, _ = listener.accept()
        # The client goes without a word, which newer versions of OpenSSL tell.
        with (
            server_context.wrap_socket(connection, server_side=True) as wrapped,
            contextlib.suppress(OSError),
        ):
            wrapped.recv(1)

    serving = gevent.spawn(serve)
    port = listener.getsockname()[1]
    text = ssl.get_server_certificate(("localhost", port), ca_certs=str(authority_file))
    assert text.startswith("-----BEGIN CERTIFICATE-----")
    serving.get(timeout=GUARD)


LATE_PATCH = """
    import ssl, sys
    import trustme

    class Context(ssl.SSLContext):
        pass

    authority = trustme.CA()
    server_context = Context(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)

    import gevent
    from gevent import socket
    import gevent.ssl
    import gevent.monkey
    gevent.monkey.patch_ssl()

    first, second = socket.socketpair()
    server = gevent.spawn(server_context.wrap_socket, second, server_side=True)
    client = client_context.wrap_socket(first, server_hostname="localhost")
    server = server.get(timeout=30)
    assert isinstance(client, gevent.ssl.SSLSocket)
    assert isinstance(server, gevent.ssl.SSLSocket)
    reader = gevent.spawn(server.recv, 10)
    gevent.sleep(0)
    client.sendall(b"x")
    assert reader.get(timeout=30) == b"x"
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    ssl.create_default_context().options |= ssl.OP_ALL
    print("done")
"""


@ours_only
def test_contexts_that_exist_already(run_script):
    assert run_script(LATE_PATCH).check() == "done\n"

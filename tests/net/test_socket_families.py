"""Families and kinds of sockets beside TCP and UDP: the C library's class makes their addresses."""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import struct

import gevent
import pytest
from conftest import GUARD
from gevent import socket

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
ours_only = pytest.mark.skipif(PEER, reason="gevent lacks it")

RTM_GETLINK = 18
NLM_F_REQUEST_DUMP = 0x301


def link_request() -> bytes:
    """A request for the list of network interfaces."""
    return struct.pack("=IHHII", 32, RTM_GETLINK, NLM_F_REQUEST_DUMP, 1, 0) + bytes(16)


@pytest.fixture
def netlink():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        yield sock


def test_netlink(netlink):
    with pytest.raises(TimeoutError):
        netlink.settimeout(0.001)
        netlink.recvfrom(65536)
    netlink.settimeout(GUARD)
    reader = gevent.spawn(netlink.recvfrom, 65536)
    gevent.sleep(0)
    assert netlink.sendto(link_request(), (0, 0)) == 32
    data, address = reader.get(timeout=GUARD)
    assert b"lo\x00" in data
    assert address == (0, 0)
    buffer = bytearray(65536)
    count, address = netlink.recvfrom_into(buffer)
    assert count >= 16
    assert address == (0, 0)


def test_netlink_without_waiting(netlink):
    with pytest.raises(BlockingIOError):
        netlink.recvfrom(10, socket.MSG_DONTWAIT)
    netlink.setblocking(False)
    with pytest.raises(BlockingIOError):
        netlink.recvfrom(10)
    with pytest.raises(BlockingIOError):
        netlink.recvmsg(10)


def test_close_ends_a_wait_for_netlink(netlink):
    reader = gevent.spawn(netlink.recvfrom, 10)
    gevent.sleep(0)
    netlink.close()
    with pytest.raises(OSError) as caught:
        reader.get(timeout=GUARD)
    assert caught.value.errno == errno.EBADF


def test_packets():
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    except PermissionError:
        pytest.skip("packet sockets need privileges")
    with sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sock.bind(("lo", 0))
        sock.settimeout(GUARD)
        reader = gevent.spawn(sock.recvfrom, 2048)
        gevent.sleep(0)
        sender.sendto(b"seen on the way", ("127.0.0.1", 9))
        data, address = reader.get(timeout=GUARD)
        assert address[0] == "lo"
        while b"seen on the way" not in data:  # Others use the interface too.
            data, address = sock.recvfrom(2048)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_unix_connections(tmp_path, kind):
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX, kind) as listener,
        socket.socket(socket.AF_UNIX, kind) as client,
    ):
        listener.bind(path)
        listener.listen()
        accepting = gevent.spawn(listener.accept)
        gevent.sleep(0)
        client.connect(path)
        server, address = accepting.get(timeout=GUARD)
        with server:
            assert address == ""
            assert client.getpeername() == path
            reader = gevent.spawn(server.recv, 100)
            gevent.sleep(0)
            assert client.sendmsg([b"one ", b"record"]) == 10
            assert reader.get(timeout=GUARD) == b"one record"


def test_abstract_addresses():
    name = b"\0greenloop-test-%d" % os.getpid()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(name)
        assert listener.getsockname() == name
        listener.listen()
        client.bind("")  # A name by the system.
        client.connect(name)
        server, address = listener.accept()
        with server:
            assert address == client.getsockname()
            assert address.startswith(b"\0")


def test_listeners_share_a_port():
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as first:
        address = first.getsockname()
        with socket.create_server(address, reuse_port=True) as second:
            accepting = {sock: gevent.spawn(sock.accept) for sock in (first, second)}
            gevent.sleep(0)
            clients = []
            try:
                # The system distributes connections by their ports.
                while not all(greenlet.dead for greenlet in accepting.values()):
                    assert len(clients) < 200
                    clients.append(socket.create_connection(address))
                    gevent.sleep(0.001)
            finally:
                for client in clients:
                    client.close()
                for greenlet in accepting.values():
                    if greenlet.dead:
                        greenlet.value[0].close()
                gevent.killall(list(accepting.values()))


@ours_only
@pytest.mark.skipif(
    not hasattr(stdlib_socket.socket, "sendmsg_afalg"), reason="a build without AF_ALG"
)
def test_ciphers():
    try:
        sock = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0)
        sock.bind(("hash", "sha256"))
    except OSError:
        pytest.skip("the kernel has no AF_ALG")
    with sock:
        operation, _ = sock.accept()
        with operation:
            operation.sendall(b"abc")
            assert operation.recv(512).hex().startswith("ba7816bf")


@ours_only
@pytest.mark.skipif(
    not hasattr(stdlib_socket.socket, "sendmsg_afalg"), reason="a build without AF_ALG"
)
def test_sendmsg_for_ciphers_is_checked_as_by_the_standard_class(pair):
    with stdlib_socket.socket() as standard:
        for options in ({"op": 0}, {"op": 0, "flags": socket.MSG_DONTWAIT}, {}, {"op": 0, "iv": 1}):
            with pytest.raises((OSError, TypeError)) as expected:
                standard.sendmsg_afalg([b"x"], **options)
            with pytest.raises(type(expected.value)) as caught:
                pair[0].sendmsg_afalg([b"x"], **options)
            assert str(caught.value) == str(expected.value)

"""Datagrams, Unix sockets, messages with ancillary data."""

from __future__ import annotations

import array
import os

import gevent
import pytest
from conftest import GUARD
from gevent import socket


@pytest.fixture
def receiver():
    """A UDP socket bound to a port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def sender():
    """A UDP socket bound to another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_datagrams(receiver, sender):
    waiting = gevent.spawn(receiver.recvfrom, 100)
    gevent.sleep(0)
    assert sender.sendto(b"first", receiver.getsockname()) == 5
    assert waiting.get(timeout=GUARD) == (b"first", sender.getsockname())
    sender.sendto(b"too long for the buffer", 0, receiver.getsockname())
    assert receiver.recvfrom(8) == (b"too long", sender.getsockname())
    sender.sendto(b"", receiver.getsockname())
    assert receiver.recvfrom(8) == (b"", sender.getsockname())


def test_datagrams_into_a_buffer(receiver, sender):
    buffer = bytearray(10)
    waiting = gevent.spawn(receiver.recvfrom_into, buffer)
    gevent.sleep(0)
    sender.sendto(b"abc", receiver.getsockname())
    assert waiting.get(timeout=GUARD) == (3, sender.getsockname())
    assert buffer[:3] == b"abc"
    with pytest.raises(ValueError, match="nbytes is greater than the length of the buffer"):
        receiver.recvfrom_into(buffer, 11)
    with pytest.raises(ValueError, match="negative buffersize in recvfrom_into"):
        receiver.recvfrom_into(buffer, -1)
    with pytest.raises(ValueError, match="negative buffersize in recvfrom"):
        receiver.recvfrom(-1)


def test_connected_datagrams(receiver, sender):
    sender.connect(receiver.getsockname())
    sender.send(b"x")
    assert receiver.recv(10) == b"x"
    receiver.sendto(b"y", sender.getsockname())
    assert sender.recv(10) == b"y"


def test_names_are_looked_up(receiver, sender):
    port = receiver.getsockname()[1]
    waiting = gevent.spawn(receiver.recvfrom, 10)
    sender.sendto(b"x", ("localhost", port))
    assert waiting.get(timeout=GUARD)[0] == b"x"
    with pytest.raises(socket.gaierror):
        sender.sendto(b"x", ("host.invalid", port))
    with pytest.raises(TypeError):
        sender.sendto(b"x")
    with pytest.raises(TypeError):
        sender.sendto(b"x", ("127.0.0.1", "port"))


def test_ipv6():
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6")
        address = sock.getsockname()
        assert address[0] == "::1"
        sock.sendto(b"x", address)
        assert sock.recvfrom(10) == (b"x", address)
        sock.sendto(b"y", address[:2])
        assert sock.recvfrom(10) == (b"y", address)


def test_unix_sockets(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        waiting = gevent.spawn(listener.accept)
        gevent.sleep(0)
        client.connect(path)
        server, address = waiting.get(timeout=GUARD)
        with server:
            assert address == ""
            assert client.getpeername() == path
            client.sendall(b"x")
            assert server.recv(10) == b"x"


def test_unix_listener_without_room(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        clients = []
        with pytest.raises((TimeoutError, BlockingIOError)):
            for _ in range(10):
                client = socket.socket(socket.AF_UNIX)
                clients.append(client)
                client.settimeout(0.02)
                client.connect(path)
        late = clients[-1]
        late.settimeout(GUARD)
        connecting = gevent.spawn(late.connect, path)
        gevent.sleep(0.01)
        for _ in clients:
            listener.accept()[0].close()
        connecting.get(timeout=GUARD)
        for client in clients:
            client.close()


def test_unix_datagrams(tmp_path):
    names = [str(tmp_path / "first"), b"\0greenloop-test-" + os.urandom(8).hex().encode()]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unnamed,
    ):
        first.bind(names[0])
        second.bind(names[1])
        first.sendto(b"x", names[1])
        assert second.recvfrom(10) == (b"x", names[0])
        second.sendto(b"y", names[0])
        assert first.recvfrom(10) == (b"y", names[1])
        unnamed.sendto(b"z", names[0])
        assert first.recvfrom(10) == (b"z", None)
        assert unnamed.getsockname() == ""


def test_sending_waits_for_room():
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, second:
        first.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                first.send(b"x" * 1000)
                sent += 1
        first.setblocking(True)
        writer = gevent.spawn(first.send, b"last")
        gevent.sleep(0)
        assert not writer.ready()
        for _ in range(sent):
            assert second.recv(1000) == b"x" * 1000
        assert second.recv(1000) == b"last"
        assert writer.get(timeout=GUARD) == 4


def test_messages(pair):
    first, second = pair
    waiting = gevent.spawn(second.recvmsg, 100)
    gevent.sleep(0)
    assert first.sendmsg([b"ab", b"c"]) == 3
    data, ancillary, _, _ = waiting.get(timeout=GUARD)
    assert (data, ancillary) == (b"abc", [])
    buffers = [bytearray(2), bytearray(2)]
    waiting = gevent.spawn(second.recvmsg_into, buffers)
    gevent.sleep(0)
    first.sendmsg([b"xyz"])
    assert waiting.get(timeout=GUARD)[0] == 3
    assert buffers == [b"xy", b"z\0"]
    second.settimeout(0.01)
    with pytest.raises(TimeoutError):
        second.recvmsg(1)
    with pytest.raises(BlockingIOError):
        socket.socket.recvmsg(nonblocking(second), 1)


def nonblocking(sock):
    sock.setblocking(False)
    return sock


def test_descriptors_are_passed(pair):
    first, second = pair
    reader, writer = os.pipe()
    try:
        receiving = gevent.spawn(second.recvmsg, 10, socket.CMSG_SPACE(4))
        gevent.sleep(0)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))
        first.sendmsg([b"fd"], [rights])
        data, [(_, _, packed)], _, _ = receiving.get(timeout=GUARD)
        assert data == b"fd"
        [passed] = array.array("i", packed)
        os.write(passed, b"through")
        os.close(passed)
        assert os.read(reader, 10) == b"through"
        socket.send_fds(first, [b"again"], [writer])
        data, fds, _, _ = socket.recv_fds(second, 10, 1)
        assert data == b"again"
        os.close(fds[0])
    finally:
        os.close(reader)
        os.close(writer)

"""Reads after one that got less than it asked for: they may wait without looking first.

Each test brings about a way in which something is there all the same, or comes.
"""

from __future__ import annotations

import errno
import os
import struct

import gevent
import pytest
from conftest import GUARD
from gevent import socket


@pytest.fixture
def used(connected):
    """A connection whose server side has waited before, so that it is registered."""
    client, server = connected
    reader = gevent.spawn(server.recv, 100)
    gevent.sleep(0)
    client.sendall(b"first")
    assert reader.get(timeout=GUARD) == b"first"
    return client, server


def settle():
    """Let the hub look at descriptors more than once."""
    for _ in range(3):
        gevent.sleep(0.005)


def short_read(client, server):
    client.sendall(b"short")
    settle()
    assert server.recv(100) == b"short"


def test_what_comes_after_a_short_read_is_received(used):
    client, server = used
    short_read(client, server)
    client.sendall(b"more")
    assert server.recv(100) == b"more"


def test_what_comes_while_nobody_reads_is_received(used):
    client, server = used
    short_read(client, server)
    client.sendall(b"more")
    settle()
    assert server.recv(100) == b"more"
    client.sendall(b"again")
    buffer = bytearray(100)
    assert server.recv_into(buffer) == 5
    assert buffer[:5] == b"again"


def test_the_end_after_a_short_read(used):
    client, server = used
    short_read(client, server)
    client.close()
    assert server.recv(100) == b""


def test_the_end_that_came_with_the_bytes(used):
    client, server = used
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    settle()
    assert server.recv(100) == b"last"
    assert server.recv(100) == b""
    assert server.recv(100) == b""


def test_the_end_that_came_between_report_and_read(used):
    client, server = used
    client.sendall(b"last")
    settle()
    client.close()
    assert server.recv(100) == b"last"
    assert server.recv(100) == b""


def test_a_reset_that_came_with_the_bytes(used):
    client, server = used
    short_read(client, server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(100)


@pytest.mark.parametrize("reported", [False, True])
def test_bytes_behind_urgent_ones(used, reported):
    client, server = used
    client.sendall(b"before")
    if reported:
        settle()
    client.send(b"u", socket.MSG_OOB)
    client.sendall(b"behind")
    if reported:
        settle()
    received = b""
    with gevent.Timeout(GUARD):
        while len(received) < len(b"beforebehind"):
            received += server.recv(100)
    assert received == b"beforebehind"


def test_shutting_down_oneself_after_a_short_read(used):
    client, server = used
    short_read(client, server)
    server.shutdown(socket.SHUT_RD)
    assert server.recv(100) == b""


def test_a_short_read_and_a_timeout(used):
    client, server = used
    short_read(client, server)
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.recv(100)
    server.settimeout(0)
    with pytest.raises(BlockingIOError):
        server.recv(100)
    server.settimeout(None)
    with pytest.raises(BlockingIOError):
        server.recv(100, socket.MSG_DONTWAIT)
    client.sendall(b"more")
    assert server.recv(100) == b"more"


def test_a_socket_that_does_not_wait_always_looks(used):
    client, server = used
    client.sendall(b"short")
    settle()
    server.settimeout(0)
    assert server.recv(100) == b"short"
    client.sendall(b"more")
    assert server.recv(100) == b"more"


def test_looking_ahead_is_no_read(used):
    client, server = used
    client.sendall(b"seen")
    settle()
    assert server.recv(100, socket.MSG_PEEK) == b"seen"
    assert server.recv(100, socket.MSG_PEEK) == b"seen"
    assert server.recv(100) == b"seen"


def test_a_duplicate_that_reads_for_us(used):
    client, server = used
    short_read(client, server)
    with server.dup() as duplicate:
        client.sendall(b"for the duplicate")
        assert duplicate.recv(100) == b"for the duplicate"
        client.sendall(b"for us")
        assert server.recv(100) == b"for us"


def test_closing_ends_the_wait_after_a_short_read(used):
    client, server = used
    short_read(client, server)

    def read_twice():
        client.sendall(b"x")
        assert server.recv(100) == b"x"
        return server.recv(100)

    reader = gevent.spawn(read_twice)
    settle()
    server.close()
    with pytest.raises(OSError) as caught:
        reader.get(timeout=GUARD)
    assert caught.value.errno == errno.EBADF


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_on(used):
    client, server = used
    short_read(client, server)
    client.sendall(b"to the child")
    child = gevent.os.fork()
    if child == 0:
        status = 1
        try:
            with gevent.Timeout(GUARD):
                first = server.recv(100)
                client.sendall(b"again")
                if (first, server.recv(100)) == (b"to the child", b"again"):
                    status = 0
        finally:
            os._exit(status)
    assert gevent.os.waitpid(child, 0)[1] == 0
    client.sendall(b"to the parent")
    assert server.recv(100) == b"to the parent"


def test_messages_of_a_unix_socket_with_descriptors_between(pair):
    first, second = pair
    reader = gevent.spawn(second.recv, 100)
    gevent.sleep(0)
    first.sendall(b"x")
    assert reader.get(timeout=GUARD) == b"x"
    socket.send_fds(first, [b"one"], [0])
    first.sendall(b"two")
    settle()
    received = b""
    while len(received) < 6:
        received += second.recv(100)
    assert received == b"onetwo"

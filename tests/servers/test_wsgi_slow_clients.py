"""Clients that send their requests slowly, or never to the end, do not keep others waiting."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from gevent import socket
from wsgi_support import GUARD, Client, read_response

SLOW = 2_000
PIECES = 10
#: After each piece.
FRESH = 20
REQUEST = b"GET /slow HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Lets this process have both ends of the connections of a test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * SLOW + 500
    if wanted > before[1] != resource.RLIM_INFINITY:
        pytest.skip(f"the system allows {before[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


@pytest.mark.usefixtures("many_descriptors")
def test_fresh_clients_are_served_beside_thousands_of_slow_ones(serve: Callable[..., Any]) -> None:
    server = serve(application, header_timeout=None, backlog=SLOW)
    with ExitStack() as stack:
        slow = []
        for _ in range(SLOW):
            client = stack.enter_context(socket.create_connection(server.address, GUARD))
            client.sendall(REQUEST[:1])
            slow.append(client)
        for position in range(1, PIECES):
            # So that the server has to look at what there is of their requests, again and again.
            for client in slow:
                client.sendall(REQUEST[position : position + 1])
            for _ in range(FRESH):
                with Client(server) as fresh:
                    assert fresh.get("/fresh").body == b"/fresh"
        assert server._core.connection_count >= SLOW
        assert server._core.request_count == FRESH * (PIECES - 1)
        # Nothing was lost of what they have sent.
        for client in slow:
            client.sendall(REQUEST[PIECES:])
        for client in slow:
            with client.makefile("rb") as stream:
                assert read_response(stream).body == b"/slow"

"""Fixtures of the tests of servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgi_support import serve_asgi
from wsgi_support import errors, serve, start

__all__ = ["errors", "serve", "serve_asgi", "start", "start_server"]


@pytest.fixture
def start_server() -> Iterator[Callable[..., Any]]:
    """Starts a server, which is stopped after the test."""
    servers: list[Any] = []

    def start(server: Any) -> Any:
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(timeout=0)

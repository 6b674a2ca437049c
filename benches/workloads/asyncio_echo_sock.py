"""The echo server on event loops, by `sock_recv` and `sock_sendall`. As echo_server."""

from __future__ import annotations

import asyncio
import os
import socket

from benches.harness import Bench, Metrics, main, raise_descriptor_limit
from benches.workloads.echo_server import BACKLOG, LEAST_BUFFER, load, until_reported


async def loops(bench: Bench) -> Metrics:
    raise_descriptor_limit(bench.size + 64)
    buffer = max(bench.parameter, LEAST_BUFFER)
    loop = asyncio.get_running_loop()

    async def handle(connection: socket.socket) -> None:
        with connection:
            while data := await loop.sock_recv(connection, buffer):
                await loop.sock_sendall(connection, data)

    async def accept(listener: socket.socket, handlers: set[asyncio.Task[None]]) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handler = loop.create_task(handle(connection))
            handlers.add(handler)
            handler.add_done_callback(handlers.discard)

    handlers: set[asyncio.Task[None]] = set()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        accepting = loop.create_task(accept(listener, handlers))
        with load(bench, listener.getsockname()[1], os.getpid()) as client:
            metrics = await until_reported(bench, client)
        accepting.cancel()
        await asyncio.wait({accepting, *handlers})
    return metrics


if __name__ == "__main__":
    main(loops=loops, size=100, parameter=1024)

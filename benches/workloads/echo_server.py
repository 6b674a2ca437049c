"""A TCP echo server with `size` connections, for messages of `parameter` bytes.

Each connection has a greenlet that calls `recv` and `sendall`, or a task that reads and writes
streams, or a protocol. The load comes from a native program on another CPU, which also counts the
messages and reads the server's CPU clock, so the server has no code but its own. CPU time a message
is the figure to trust: wall time includes waiting for the load generator.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, check, main, raise_descriptor_limit

if TYPE_CHECKING:
    import asyncio
    import ssl

    import gevent.socket

# Starts the load generator against the server with a port and a process number. It reports when
# it is done.
Load = Callable[[Bench, int, int], Companion]

BACKLOG = 4096
LEAST_BUFFER = 4096


def load_arguments(bench: Bench, port: int, pid: int) -> list[object]:
    warm_up, seconds = (0.3, 0.7) if bench.quick else (1.0, 2.0)
    arguments: list[object] = ["--port", port, "--pid", pid]
    arguments += ["--connections", bench.size, "--bytes", bench.parameter]
    return [*arguments, "--warm-up", warm_up, "--seconds", seconds]


def load(bench: Bench, port: int, pid: int) -> Companion:
    arguments = load_arguments(bench, port, pid)
    return Companion("echo_load", *arguments, cpu=bench.companion_cpu, native=True)


def result(bench: Bench, client: Companion) -> Metrics:
    """What the load generator has seen, for each message."""
    seen = client.read()
    messages = seen["messages"]
    check(messages >= bench.size, f"only {messages} messages")
    return {"time": seen["seconds"] / messages, "cpu": seen["cpu"] / messages}


def serve_greenlets(
    bench: Bench, load: Load, tls: Callable[[], ssl.SSLContext] | None = None
) -> Metrics:
    """Serve with a greenlet for each connection, with TLS if a context is given."""
    from gevent import socket, spawn

    raise_descriptor_limit(bench.size + 64)
    buffer = max(bench.parameter, LEAST_BUFFER)
    context = tls() if tls is not None else None

    def handle(connection: gevent.socket.socket) -> None:
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            while data := connection.recv(buffer):
                connection.sendall(data)

    def accept(listener: gevent.socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            spawn(handle, connection)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        accepting = spawn(accept, listener)
        with load(bench, listener.getsockname()[1], os.getpid()) as client:
            socket.wait_read(client.output)
            metrics = result(bench, client)
        accepting.kill()
    return metrics


async def serve_tasks(
    bench: Bench, load: Load, tls: Callable[[], ssl.SSLContext] | None = None
) -> Metrics:
    """Serve with a task for each connection, with TLS if a context is given."""
    import asyncio

    raise_descriptor_limit(bench.size + 64)
    buffer = max(bench.parameter, LEAST_BUFFER)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(buffer):
            writer.write(data)
            await writer.drain()
        writer.close()

    context = tls() if tls is not None else None
    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    with load(bench, server.sockets[0].getsockname()[1], os.getpid()) as client:
        metrics = await until_reported(bench, client)
    server.close()
    return metrics


async def until_reported(bench: Bench, client: Companion) -> Metrics:
    """Let others serve until the load generator reports."""
    import asyncio

    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_reader(client.output, end.set)
    await end.wait()
    loop.remove_reader(client.output)
    return result(bench, client)


def greenlets(bench: Bench) -> Metrics:
    return serve_greenlets(bench, load)


async def tasks(bench: Bench) -> Metrics:
    return await serve_tasks(bench, load)


async def serve_protocols(
    bench: Bench, load: Load, tls: Callable[[], ssl.SSLContext] | None = None
) -> Metrics:
    """Serve with a protocol for each connection, with TLS if a context is given."""
    import asyncio

    raise_descriptor_limit(bench.size + 64)

    class Echo(asyncio.Protocol):
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # A uvloop transport is none of asyncio's by class.
            self.transport = transport  # type: ignore[assignment]

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    loop = asyncio.get_running_loop()
    context = tls() if tls is not None else None
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    with load(bench, server.sockets[0].getsockname()[1], os.getpid()) as client:
        metrics = await until_reported(bench, client)
    server.close()
    return metrics


async def protocols(bench: Bench) -> Metrics:
    return await serve_protocols(bench, load)


def native(bench: Bench) -> Metrics:
    buffer = max(bench.parameter, LEAST_BUFFER)
    # It stays on the CPU of this process, which only waits.
    with (
        Companion("echo_server", "--bytes", buffer, cpu=None, native=True) as server,
        load(bench, server.read()["port"], server.pid) as client,
    ):
        return result(bench, client)


if __name__ == "__main__":
    main(
        greenlets=greenlets,
        tasks=tasks,
        protocols=protocols,
        native=native,
        size=100,
        parameter=1024,
    )

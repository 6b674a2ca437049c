"""An echo server with `size` connections, a greenlet or task each; the load is another process's.

The server counts messages itself: the first rounds connect and warm up, the rest is measured. CPU
time a message is the figure to trust: wall time includes waiting for the load generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, cpu_seconds, main, raise_descriptor_limit

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    import gevent.socket

WARM_UP_ROUNDS = 3


class Meter:
    """Counts messages; takes the time over those after the warm-up."""

    def __init__(self, bench: Bench, on_end: Callable[[], object]) -> None:
        self.rounds = 10 if bench.quick else 30
        self._first = WARM_UP_ROUNDS * bench.size
        self._last = (WARM_UP_ROUNDS + self.rounds) * bench.size
        self._count = 0
        self._on_end = on_end
        self._start = (0.0, 0.0)
        self.metrics: Metrics = {}

    def message(self) -> None:
        self._count += 1
        if self._count == self._first:
            self._start = (time.perf_counter(), cpu_seconds())
        elif self._count == self._last:
            messages = self._last - self._first
            self.metrics = {
                "time": (time.perf_counter() - self._start[0]) / messages,
                "cpu": (cpu_seconds() - self._start[1]) / messages,
            }
            self._on_end()


def load(bench: Bench, meter: Meter, port: int) -> Companion:
    arguments = ["--port", port, "--connections", bench.size]
    arguments += ["--messages", WARM_UP_ROUNDS + meter.rounds]
    return Companion("echo_client", *arguments, cpu=bench.companion_cpu)


def greenlets(bench: Bench) -> Metrics:
    from gevent import socket, spawn
    from gevent.event import Event

    raise_descriptor_limit(bench.size + 64)
    end = Event()
    meter = Meter(bench, end.set)

    def handle(connection: gevent.socket.socket) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)
                meter.message()

    def accept(listener: gevent.socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            spawn(handle, connection)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        accepting = spawn(accept, listener)
        with load(bench, meter, listener.getsockname()[1]):
            end.wait()
        accepting.kill()
    return meter.metrics


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Event, start_server

    raise_descriptor_limit(bench.size + 64)
    end = Event()
    meter = Meter(bench, end.set)

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
            meter.message()
        writer.close()

    server = await start_server(handle, "127.0.0.1", 0, backlog=1024)
    with load(bench, meter, server.sockets[0].getsockname()[1]):
        await end.wait()
    server.close()
    return meter.metrics


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=1_000)

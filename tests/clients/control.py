"""What a check in another process tells the servers of these tests: gates, and a cable to cut.

A gate holds calls at the server until it is opened. So a check can wait until so many calls are
under way at once, by the server's count, and no clock decides anything. The check names gates and
asks over a connection of its own, in lines:

    held KEY      how many calls wait at the gate KEY
    open KEY      let them go on, and all that come later
    wait KEY      what a server that is a process of its own says; answered once the gate is open
    cut           break all connections that go through the proxy
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
# Seconds until a gate that nobody opens lets calls go on all the same. A hang guard.
GATE_TIMEOUT = 100.0


class Gates:
    """Gates by name. They are closed until they are opened."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: Counter[str] = Counter()
        self._open: set[str] = set()

    def wait(self, key: str) -> None:
        """Wait, in a native thread, until the gate is open."""
        with self._changed:
            self._held[key] += 1
            try:
                self._changed.wait_for(lambda: key in self._open, GATE_TIMEOUT)
            finally:
                self._held[key] -= 1

    def held(self, key: str) -> int:
        with self._changed:
            return self._held[key]

    def open(self, key: str) -> None:
        with self._changed:
            self._open.add(key)
            self._changed.notify_all()


class Proxy:
    """Passes connections on to a port, until they are cut. It runs in a thread of its own.

    With a TLS context its clients speak TLS. The server does not.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        # Towards the client, and towards the server.
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, HOST, 0, backlog=200, ssl=tls)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(HOST, self._target)
        pair = (writer, there_writer)
        self._pairs.append(pair)
        try:
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        finally:
            self._pairs.remove(pair)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Break all connections, in both directions. New ones are passed on as before.

        One client sees the end of its connection, the next one ECONNRESET, and so on in turns.
        """

        async def close() -> None:
            for number, pair in enumerate(self._pairs):
                if number % 2:
                    linger = struct.pack("ii", 1, 0)
                    # It may be closed already, by its other end.
                    with contextlib.suppress(OSError):
                        pair[0].get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, linger
                        )
                for writer in pair:
                    writer.transport.abort()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result()

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class _Handler(socketserver.StreamRequestHandler):
    server: ControlServer

    def handle(self) -> None:
        for line in self.rfile:
            command, _, key = line.decode().strip().partition(" ")
            answer = "done"
            if command == "held":
                answer = str(self.server.gates.held(key))
            elif command == "open":
                self.server.gates.open(key)
            elif command == "wait":
                self.server.gates.wait(key)
            elif command == "cut":
                assert self.server.proxy is not None
                self.server.proxy.cut()
            else:
                answer = f"what is {command}?"
            self.wfile.write(f"{answer}\n".encode())


class ControlServer(socketserver.ThreadingTCPServer):
    """Takes what checks tell."""

    daemon_threads = True
    # A connection that does not fit in the queue is tried again after seconds, more each time.
    request_queue_size = 200

    def __init__(self, gates: Gates) -> None:
        super().__init__((HOST, 0), _Handler)
        self.gates = gates
        self.proxy: Proxy | None = None


@contextmanager
def serving(*servers: socketserver.BaseServer) -> Iterator[None]:
    """Run servers in native threads while the body runs."""
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
        for thread in threads:
            thread.join()
        for server in servers:
            server.server_close()

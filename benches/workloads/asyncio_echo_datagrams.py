"""An echo server of UDP on event loops: one endpoint, and `size` clients. As echo_server.

Each client has one datagram of `parameter` bytes under way.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, main
from benches.workloads.echo_server import load_arguments, until_reported

# A datagram of each client has to have room, or it would be lost. The system gives what it allows.
RECEIVE_BUFFER = 4 << 20


def load(bench: Bench, port: int, pid: int) -> Companion:
    arguments = [*load_arguments(bench, port, pid), "--datagrams", 1]
    return Companion("echo_load", *arguments, cpu=bench.companion_cpu, native=True)


class Echo(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A uvloop transport is none of asyncio's by class.
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def loops(bench: Bench) -> Metrics:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(Echo, sock=sock)
    with load(bench, port, os.getpid()) as client:
        metrics = await until_reported(bench, client)
    transport.close()
    return metrics


if __name__ == "__main__":
    main(loops=loops, size=100, parameter=1024)

"""What the tests of datagram transports share."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

SENDS_EMPTY = sys.version_info >= (3, 13)
HEADER = 8 if SENDS_EMPTY else 0

HERE = ("127.0.0.1", 0)


class Recorder(asyncio.DatagramProtocol):
    """Notes what it is called for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.lost: asyncio.Future[BaseException | None] = asyncio.Future()
        self.changed = asyncio.Event()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def until_received(self, count: int) -> list[tuple[bytes, Any]]:
        await self.until(lambda: len(self.received) >= count)
        return self.received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.note("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self.note("received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("lost")
        self.lost.set_result(exc)


@asynccontextmanager
async def endpoint(protocol: Recorder | None = None, **options: Any) -> AsyncIterator[Any]:
    """A transport, by default of a socket with an address on this machine."""
    loop = asyncio.get_running_loop()
    if not options:
        options["local_addr"] = HERE
    transport, made = await loop.create_datagram_endpoint(
        lambda: Recorder() if protocol is None else protocol, **options
    )
    try:
        yield transport
    finally:
        if not transport.is_closing():
            transport.abort()
        await made.lost


@asynccontextmanager
async def unix_pair(
    folder: Path, protocol: Recorder | None = None
) -> AsyncIterator[tuple[Any, socket.socket]]:
    """A transport that is connected to a socket, which makes it wait after a few datagrams."""
    here, there = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    with here, there:
        for sock, name in ((here, "here"), (there, "there")):
            sock.setblocking(False)
            sock.bind(str(folder / name))
        here.connect(str(folder / "there"))
        async with endpoint(protocol, sock=here) as transport:
            yield transport, there


def name_of(transport: Any) -> Any:
    return transport.get_extra_info("sockname")


def send_until_waiting(transport: Any, data: bytes) -> int:
    """Sends until something waits to be sent: how many were sent."""
    sent = 0
    while not transport.get_write_buffer_size():
        transport.sendto(data)
        sent += 1
    return sent


async def receive(there: socket.socket, count: int) -> list[bytes]:
    loop = asyncio.get_running_loop()
    return [await loop.sock_recv(there, 100_000) for _ in range(count)]


@asynccontextmanager
async def noting_problems() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told in the block."""
    problems: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    yield problems
    loop.set_exception_handler(None)

"""TLS over our transports, and over asyncio's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trustme
from loop_support import Run, serving

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


class Peer:
    """The other end of a connection with TLS, byte for byte under the test's control."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.layer = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def send(self) -> None:
        data = self.outgoing.read()
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def go_on(self, step: Any) -> Any:
        """What a step of the TLS layer returns, once it has all that it wants."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self.send()
                data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.setblocking(False)
    with here, there:
        yield here, there


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    """A server's context, and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def connected(
    contexts: Contexts, protocol: Callable[[], asyncio.BaseProtocol]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Streams to a server whose connections have such protocols."""
    loop = asyncio.get_running_loop()
    async with serving(loop.create_server(protocol, "127.0.0.1", 0, ssl=contexts[0])) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        try:
            yield reader, writer
        finally:
            writer.close()


class Collecting(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.calls: list[str] = []
        self.lost: asyncio.Future[BaseException | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        if self.received.endswith(b"!"):
            self.answer()

    def answer(self) -> None:
        self.transport.write(bytes(self.received))  # type: ignore[attr-defined]
        self.received.clear()

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: BaseException | None) -> None:
        assert self.lost is not None
        self.lost.set_result(error)


def test_messages_of_all_sizes(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        protocol = Collecting()
        async with connected(contexts, lambda: protocol) as (reader, writer):
            assert writer.get_extra_info("cipher") is not None
            assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
            for size in (1, 100, 16_383, 16_384, 16_385, 65_536, 1_000_000):
                message = bytes([size % 251]) * size + b"!"
                writer.write(message)
                await writer.drain()
                assert await reader.readexactly(len(message)) == message
            writer.write(memoryview(b"abc"))  # type: ignore[arg-type]
            writer.write(b"")
            writer.write(bytearray(b"!"))
            assert await reader.read(100) == b"abc!"
            with pytest.raises(TypeError):
                writer.write("text")  # type: ignore[arg-type]
            writer.close()
            await writer.wait_closed()
            assert protocol.lost is not None
            assert await protocol.lost is None
            assert protocol.calls.count("eof") == 1

    run(main())


def test_the_end_behind_a_message(run: Run, contexts: Contexts) -> None:
    """What closes the connection comes with the last message."""

    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"last words")
            writer.close()

        start = asyncio.start_server(handle, "127.0.0.1", 0, ssl=contexts[0])
        async with serving(start) as address:
            for _ in range(10):
                reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
                assert await reader.read() == b"last words"
                writer.close()
                await writer.wait_closed()

    run(main())


def test_flow_control(run: Run, contexts: Contexts) -> None:
    size = 8 << 20

    async def main() -> None:
        loop = asyncio.get_running_loop()
        go_on = asyncio.Event()
        total = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal total
            await go_on.wait()
            while data := await reader.read(100_000):
                total += len(data)
            writer.close()

        start = asyncio.start_server(handle, "127.0.0.1", 0, ssl=contexts[0])
        async with serving(start) as address:
            transport, protocol = await loop.create_connection(
                Collecting, *address, ssl=contexts[1], server_hostname="127.0.0.1"
            )
            for _ in range(8):
                transport.write(bytes(size // 8))
            assert protocol.calls == ["pause"]
            assert transport.get_write_buffer_size() > 0
            go_on.set()
            transport.close()
            assert protocol.lost is not None
            assert await protocol.lost is None
            while total < size:
                await asyncio.sleep(0.001)
            assert total == size

    run(main())


def test_reading_can_be_paused(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        protocol = Collecting()
        async with connected(contexts, lambda: protocol) as (reader, writer):
            writer.write(b"a!")
            assert await reader.read(10) == b"a!"
            protocol.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"b!")
            await asyncio.sleep(0.02)
            assert protocol.received == b""
            protocol.transport.resume_reading()  # type: ignore[attr-defined]
            assert await reader.read(10) == b"b!"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_protocols_with_memory_of_their_own(run: Run, contexts: Contexts) -> None:
    class Filling(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.memory = bytearray(1000)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.memory

        def buffer_updated(self, nbytes: int) -> None:
            self.transport.write(self.memory[:nbytes])  # type: ignore[attr-defined]

    async def main() -> None:
        async with connected(contexts, Filling) as (reader, writer):
            for size in (1, 999, 1000, 1001, 50_000):
                writer.write(b"x" * size)
                assert await reader.readexactly(size) == b"x" * size
            writer.close()
            await writer.wait_closed()

    run(main())


def test_starting_tls_on_a_connection(run: Run, contexts: Contexts) -> None:
    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"hello\n"
            writer.write(b"go on\n")
            await writer.drain()
            await writer.start_tls(contexts[0])
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()

        async with serving(asyncio.start_server(handle, "127.0.0.1", 0)) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"hello\n")
            assert await reader.readline() == b"go on\n"
            await writer.start_tls(contexts[1], server_hostname="127.0.0.1")
            assert writer.get_extra_info("sslcontext") is contexts[1]
            for size in (1, 1000, 100_000):
                writer.write(b"x" * size)
                await writer.drain()
                assert await reader.readexactly(size) == b"x" * size
            writer.close()
            await writer.wait_closed()

    run(main())


def test_errors_of_protocols_end_the_connection(run: Run, contexts: Contexts) -> None:
    class Failing(Collecting):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        reports = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: reports.append(report))
        async with connected(contexts, Failing) as (reader, writer):
            writer.write(b"x")
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
            writer.close()
            assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
            assert reports[0]["message"] == "Fatal error on SSL protocol"

    run(main())


def test_garbage_ends_the_connection(run: Run, contexts: Contexts) -> None:
    """In the middle, when all has gone well so far."""

    async def main() -> None:
        reports = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: reports.append(report))
        async with connected(contexts, Collecting) as (reader, writer):
            writer.write(b"abc!")
            assert await reader.read(10) == b"abc!"
            below = socket.socket(fileno=writer.get_extra_info("socket").dup().detach())
            with below:
                below.setblocking(False)
                below.send(b"\x17\x03\x03\x00\x10" + b"garbage and more of it")
            try:
                assert await reader.read() == b""
            except (ConnectionResetError, ssl.SSLError):
                pass

    run(main())


def test_the_first_bytes_come_after_who_waits_was_told(run_ours: Run, contexts: Contexts) -> None:
    """Though they have come with the last of the handshake."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (here, there):
            peer = Peer(there, contexts[0])

            async def serve() -> None:
                def begin() -> None:
                    peer.layer.do_handshake()
                    peer.layer.write(b"abc")

                await peer.go_on(begin)
                await peer.send()

            serving = asyncio.ensure_future(serve())
            transport, protocol = await loop.create_connection(
                Collecting, sock=here, ssl=contexts[1], server_hostname="127.0.0.1"
            )
            assert protocol.received == b""
            while not protocol.received:
                await asyncio.sleep(0)
            assert protocol.received == b"abc"
            await serving
            transport.abort()
            await asyncio.sleep(0.01)

    run_ours(main())


def test_bytes_behind_what_closes_are_no_error(run_ours: Run, contexts: Contexts) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (here, there):
            peer = Peer(there, contexts[0])
            serving = asyncio.ensure_future(peer.go_on(peer.layer.do_handshake))
            transport, protocol = await loop.create_connection(
                Collecting, sock=here, ssl=contexts[1], server_hostname="127.0.0.1"
            )
            await serving
            await peer.send()
            transport.close()
            # What has not seen that yet goes on.
            peer.layer.write(b"late")
            await peer.send()
            assert await peer.go_on(peer.layer.read) == b""
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.layer.unwrap()
            await peer.send()
            assert protocol.lost is not None
            assert await protocol.lost is None
            assert protocol.received == b""

    run_ours(main())


def test_protocols_are_called_in_the_context_that_the_connection_was_made_in(
    run_ours: Run, contexts: Contexts
) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    class Noting(Collecting):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[str, str]] = []

        def data_received(self, data: bytes) -> None:
            self.seen.append(("data", variable.get()))

        def eof_received(self) -> None:
            self.seen.append(("eof", variable.get()))

        def pause_writing(self) -> None:
            self.seen.append(("pause", variable.get()))

        def resume_writing(self) -> None:
            self.seen.append(("resume", variable.get()))

        def connection_lost(self, error: BaseException | None) -> None:
            self.seen.append(("lost", variable.get()))
            super().connection_lost(error)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"x")
            await reader.read()
            writer.close()

        start = asyncio.start_server(handle, "127.0.0.1", 0, ssl=contexts[0])
        async with serving(start) as address:
            variable.set("made")
            transport, protocol = await loop.create_connection(Noting, *address, ssl=contexts[1])
            variable.set("outside")
            transport.pause_reading()
            await asyncio.sleep(0.02)
            transport.resume_reading()
            for _ in range(8):
                transport.write(bytes(1 << 20))
            while ("resume", "made") not in protocol.seen:
                await asyncio.sleep(0.001)
            transport.close()
            assert protocol.lost is not None
            await protocol.lost
            assert {value for _, value in protocol.seen} == {"made"}
            assert {name for name, _ in protocol.seen} >= {"data", "pause", "resume", "lost"}

    run_ours(main())


def test_protocols_with_memory_need_no_base_class(run_ours: Run, contexts: Contexts) -> None:
    class Filling:
        memory = bytearray(10)
        received = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            pass

        def connection_lost(self, error: BaseException | None) -> None:
            pass

        def get_buffer(self, size: int) -> bytearray:
            return self.memory

        def buffer_updated(self, count: int) -> None:
            self.received += self.memory[:count]

        def eof_received(self) -> None:
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"abc" * 10)
            writer.close()

        start = asyncio.start_server(handle, "127.0.0.1", 0, ssl=contexts[0])
        async with serving(start) as address:
            _, protocol = await loop.create_connection(
                Filling,  # type: ignore[arg-type]
                *address,
                ssl=contexts[1],
            )
            while len(protocol.received) < 30:  # type: ignore[attr-defined]
                await asyncio.sleep(0.001)
            assert protocol.received == b"abc" * 10  # type: ignore[attr-defined]

    run_ours(main())

"""asyncio's streams over our transports, and over asyncio's own."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from loop_support import Run, serving


@asynccontextmanager
async def connected() -> AsyncIterator[
    tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]
]:
    """A pair of streams, and the socket at the other end."""
    here, there = socket.socketpair()
    there.setblocking(False)
    with there:
        reader, writer = await asyncio.open_connection(sock=here)
        try:
            yield reader, writer, there
        finally:
            writer.close()
            await asyncio.sleep(0)


async def send(there: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(there, data)


async def rounds(count: int = 5) -> None:
    """Have the loop look for events some times."""
    for _ in range(count):
        await asyncio.sleep(0.001)


def test_read_returns_what_comes_and_keeps_what_is_too_much(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = asyncio.ensure_future(reader.read(4))
            await asyncio.sleep(0)
            await send(there, b"abcdef")
            assert await reading == b"abcd"
            assert await reader.read(100) == b"ef"
            # There before it is asked for.
            await send(there, b"ghi")
            await rounds()
            assert await reader.read(2) == b"gh"
            assert await reader.read(2) == b"i"
            assert await reader.read(0) == b""
            there.shutdown(socket.SHUT_WR)
            assert await reader.read(2) == b""
            assert reader.at_eof()

    run(main())


def test_what_comes_behind_what_was_too_much_stays_behind(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = asyncio.ensure_future(reader.read(1))
            await asyncio.sleep(0)
            # Both are received before the reading task has its turn.
            reader.feed_data(b"abc")
            reader.feed_data(b"def")
            assert await reading == b"a"
            assert await reader.readexactly(5) == b"bcdef"
            await send(there, b"g\nh")
            assert await reader.readline() == b"g\n"
            assert await reader.read(5) == b"h"

    run(main())


def test_a_cancelled_read_takes_nothing(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = asyncio.ensure_future(reader.read(10))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            # Cancelled when bytes are on their way to it.
            reading = asyncio.ensure_future(reader.read(10))
            await asyncio.sleep(0)
            reader.feed_data(b"abc")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            reader.feed_data(b"def")
            assert await reader.read(10) == b"abcdef"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(10), 0.01)
            await send(there, b"ghi")
            assert await asyncio.wait_for(reader.read(10), 30) == b"ghi"

    run(main())


def test_one_coroutine_reads_at_a_time(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = asyncio.ensure_future(reader.read(10))
            await asyncio.sleep(0)
            for read in (reader.read(10), reader.readline()):
                with pytest.raises(RuntimeError, match="another coroutine is already waiting"):
                    await read
            await send(there, b"abc")
            assert await reading == b"abc"

    run(main())


def test_read_is_awaited_once(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            await send(there, b"abc")
            reading = reader.read(1)
            assert await reading == b"a"
            with pytest.raises(RuntimeError):
                await reading
            assert await reader.read(10) == b"bc"

    run(main())


def test_read_and_drain_make_tasks(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, writer, there):
            task = asyncio.get_running_loop().create_task(reader.read(10))
            await send(there, b"abc")
            assert await task == b"abc"
            assert await asyncio.gather(writer.drain(), writer.drain()) == [None, None]

    run(main())


def test_read_until_the_end(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            await send(there, b"abc")
            reading = asyncio.ensure_future(reader.read())
            await rounds()
            await send(there, b"def")
            there.shutdown(socket.SHUT_WR)
            assert await reading == b"abcdef"
            assert await reader.read(-1) == b""

    run(main())


def test_a_reset_is_raised_by_read_and_drain(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            there, _ = listener.accept()
            reading = asyncio.ensure_future(reader.read(10))
            await asyncio.sleep(0)
            # Closing resets then.
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            there.close()
            with pytest.raises(ConnectionResetError):
                await reading
            with pytest.raises(ConnectionResetError):
                await reader.read(10)
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            writer.close()

    run(main())


def test_much_is_left_to_the_system_until_it_is_read(run: Run) -> None:
    size = 4 << 20

    async def main() -> None:
        async with connected() as (reader, _, there):
            sending = asyncio.ensure_future(send(there, b"a" * size))
            await rounds(20)
            assert not sending.done()
            received = 0
            while received < size:
                received += len(await reader.read(10_000))
            assert received == size
            await sending

    run(main())


def test_drain_waits_while_too_much_is_unsent(run: Run) -> None:
    size = 4 << 20

    async def main() -> None:
        async with connected() as (_, writer, there):
            await writer.drain()
            writer.write(b"a" * size)
            draining = asyncio.ensure_future(writer.drain())
            await rounds()
            assert not draining.done()
            received = 0
            while received < size:
                received += len(await asyncio.get_running_loop().sock_recv(there, 1 << 20))
            await draining
            with pytest.raises(TypeError):
                writer.write("text")  # type: ignore[arg-type]

    run(main())


def test_servers_have_streams(run: Run) -> None:
    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert isinstance(reader, asyncio.StreamReader)
            assert isinstance(writer, asyncio.StreamWriter)
            assert "StreamReader" in repr(reader)
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def ask(number: int, address: tuple[str, int]) -> None:
            reader, writer = await asyncio.open_connection(*address)
            for i in range(20):
                line = b"%d %d\n" % (number, i)
                writer.write(line)
                await writer.drain()
                assert await reader.readline() == line
            whole = bytes([number]) * 300_000
            writer.write(whole)
            writer.write_eof()
            assert await reader.read() == whole
            writer.close()
            await writer.wait_closed()

        async with serving(asyncio.start_server(handle, "127.0.0.1", 0)) as address:
            await asyncio.gather(*[ask(number, address) for number in range(10)])

    run(main())


def test_derived_readers_are_left_alone(run: Run) -> None:
    class Counting(asyncio.StreamReader):
        fed = 0

        def feed_data(self, data: bytes) -> None:
            self.fed += len(data)
            super().feed_data(data)

    async def main() -> None:
        here, there = socket.socketpair()
        with there:
            loop = asyncio.get_running_loop()
            reader = Counting(loop=loop)
            transport, _ = await loop.create_connection(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=here
            )
            there.sendall(b"abc")
            assert await reader.read(10) == b"abc"
            assert reader.fed == 3
            assert type(reader) is Counting
            transport.close()
            await asyncio.sleep(0)

    run(main())


def test_a_reader_that_is_dropped_lets_the_connection_close(run: Run) -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        there.setblocking(False)
        with there:
            reader, writer = await asyncio.open_connection(sock=here)
            del reader
            writer.close()
            await writer.wait_closed()
            del writer
            gc.collect()
            assert await asyncio.get_running_loop().sock_recv(there, 1) == b""

    run(main())

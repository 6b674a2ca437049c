"""The methods of a stream's reader, on our loop and on asyncio's."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from loop_support import Run


@asynccontextmanager
async def connected(
    limit: int = 1 << 16,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]]:
    """A pair of streams, and the blocking socket at the other end."""
    here, there = socket.socketpair()
    with there:
        reader, writer = await asyncio.open_connection(sock=here, limit=limit)
        try:
            yield reader, writer, there
        finally:
            writer.close()
            await asyncio.sleep(0)


async def begin(reading: object) -> asyncio.Task[bytes]:
    """Have a coroutine wait in a task of its own."""
    task = asyncio.ensure_future(reading)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def rounds(count: int = 5) -> None:
    """Have the loop look for events some times."""
    for _ in range(count):
        await asyncio.sleep(0.001)


def test_readexactly(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            # Just as much as is waited for; less, then the rest and more; there already.
            reading = await begin(reader.readexactly(3))
            there.sendall(b"abc")
            assert await reading == b"abc"
            reading = await begin(reader.readexactly(6))
            there.sendall(b"de")
            await rounds()
            assert not reading.done()
            there.sendall(b"fghij")
            assert await reading == b"defghi"
            assert await reader.readexactly(1) == b"j"
            assert await reader.readexactly(0) == b""
            with pytest.raises(ValueError, match="less than zero"):
                await reader.readexactly(-1)
            reading = await begin(reader.readexactly(5))
            there.sendall(b"kl")
            there.shutdown(socket.SHUT_WR)
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reading
            assert (raised.value.partial, raised.value.expected) == (b"kl", 5)
            assert reader.at_eof()
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reader.readexactly(1)
            assert raised.value.partial == b""

    run(main())


def test_more_is_received_than_the_limit_if_it_is_asked_for(run: Run) -> None:
    async def main() -> None:
        async with connected(limit=100) as (reader, writer, there):
            reading = await begin(reader.readexactly(1_000_000))
            loop = asyncio.get_running_loop()
            sending = loop.run_in_executor(None, there.sendall, b"a" * 1_000_000 + b"b" * 1000)
            assert await reading == b"a" * 1_000_000
            assert await reader.readexactly(1000) == b"b" * 1000
            await sending
            # Reading was resumed.
            assert writer.transport.is_reading()  # type: ignore[attr-defined]

    run(main())


def test_readline_and_iteration(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = await begin(reader.readline())
            there.sendall(b"one")
            await rounds()
            assert not reading.done()
            there.sendall(b"\ntwo\n\nthr")
            assert await reading == b"one\n"
            assert await reader.readline() == b"two\n"
            assert await reader.readline() == b"\n"
            there.sendall(b"ee\nfour\nfive")
            there.shutdown(socket.SHUT_WR)
            assert [line async for line in reader] == [b"three\n", b"four\n", b"five"]
            assert await reader.readline() == b""

    run(main())


def test_readuntil(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            # The separator comes in pieces, after what might have been its beginning.
            reading = await begin(reader.readuntil(b"--x"))
            for piece in (b"a-", b"-", b"-", b"x--xtail"):
                there.sendall(piece)
                await rounds(2)
            assert await reading == b"a---x"
            assert await reader.readuntil(b"--x") == b"--x"
            assert await reader.readuntil(separator=b"l") == b"tail"
            there.sendall(b"\n")
            assert await reader.readuntil() == b"\n"
            with pytest.raises(ValueError, match="at least one-byte"):
                await reader.readuntil(b"")
            there.sendall(b"rest")
            there.shutdown(socket.SHUT_WR)
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reader.readuntil(b";")
            assert (raised.value.partial, raised.value.expected) == (b"rest", None)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="added in CPython 3.13")
def test_readuntil_one_of_several_separators(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = await begin(reader.readuntil((b";", b"\r\n")))  # type: ignore[arg-type]
            there.sendall(b"a\r")
            await rounds()
            assert not reading.done()
            there.sendall(b"\nb;")
            assert await reading == b"a\r\n"
            assert await reader.readuntil((b";", b"\r\n")) == b"b;"  # type: ignore[arg-type]

    run(main())


def test_lines_above_the_limit(run: Run) -> None:
    async def main() -> None:
        async with connected(limit=8) as (reader, _, there):
            # Its end is there: the line is dropped; is not there yet: what there is.
            there.sendall(b"123456789\nab\n")
            await rounds()
            with pytest.raises(ValueError, match="Separator is found, but chunk is longer"):
                await reader.readline()
            assert await reader.readline() == b"ab\n"
            reading = await begin(reader.readline())
            there.sendall(b"123456789")
            with pytest.raises(ValueError, match="Separator is not found, and chunk exceed"):
                await reading
            there.sendall(b"cd\n")
            assert await reader.readline() == b"cd\n"
            # Of just the limit it may be.
            there.sendall(b"12345678\n")
            assert await reader.readline() == b"12345678\n"

    run(main())


def test_separators_beyond_the_limit(run: Run) -> None:
    async def main() -> None:
        async with connected(limit=8) as (reader, _, there):
            there.sendall(b"123456789;ab")
            await rounds()
            with pytest.raises(asyncio.LimitOverrunError, match="found, but") as raised:
                await reader.readuntil(b";")
            assert raised.value.consumed == 9
            # Nothing was taken.
            assert await reader.readexactly(12) == b"123456789;ab"
            reading = await begin(reader.readuntil(b";!"))
            there.sendall(b"1234567890")
            with pytest.raises(asyncio.LimitOverrunError, match="not found") as raised:
                await reading
            assert raised.value.consumed == 9
            assert await reader.read(100) == b"1234567890"

    run(main())


def test_a_cancelled_method_takes_nothing(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            for method in (lambda: reader.readexactly(4), reader.readline):
                reading = await begin(method())
                reader.feed_data(b"a")
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            reading = await begin(reader.readexactly(5))
            # It has what it waits for, and does not get to take it.
            reader.feed_data(b"bcd")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            there.sendall(b"\n")
            assert await reader.readline() == b"aabcd\n"

    run(main())


def test_a_task_that_is_dropped_while_it_waits_lets_others_read(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):

            async def wait() -> None:
                await reader.readexactly(3)

            waiting = wait()
            # Begun, and never gone on with.
            waiting.send(None)
            waiting.close()
            del waiting
            gc.collect()
            there.sendall(b"abc")
            assert await reader.readexactly(3) == b"abc"

    run(main())


def test_methods_called_while_another_waits(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, there):
            reading = await begin(reader.readline())
            for name, other in (
                ("read", reader.read(1)),
                ("readexactly", reader.readexactly(1)),
                ("readuntil", reader.readline()),
                ("readuntil", reader.readuntil(b"x")),
            ):
                with pytest.raises(RuntimeError, match=rf"{name}\(\) called while another"):
                    await other
            there.sendall(b"x\n")
            assert await reading == b"x\n"

    run(main())


def test_what_is_fed_by_the_program(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, _there):
            reading = await begin(reader.read(10))
            reader.feed_data(bytearray(b"ab"))  # type: ignore[arg-type]
            assert await reading == b"ab"
            reading = await begin(reader.readexactly(4))
            reader.feed_data(b"")
            reader.feed_data(memoryview(b"cd"))  # type: ignore[arg-type]
            reader.feed_data(b"ef")
            assert await reading == b"cdef"
            error = OSError("broken")
            reading = await begin(reader.readline())
            reader.set_exception(error)
            for one in (reading, reader.read(1), reader.readexactly(1), reader.readuntil(b"x")):
                with pytest.raises(OSError, match="broken"):
                    await one
            assert reader.exception() is error

    run(main())


def test_nothing_is_fed_after_the_end(run: Run) -> None:
    async def main() -> None:
        async with connected() as (reader, _, _there):
            reading = await begin(reader.read(10))
            reader.feed_eof()
            assert await reading == b""
            with pytest.raises(AssertionError):
                reader.feed_data(b"late")

    run(main())


def test_what_a_reader_says_of_itself(run: Run) -> None:
    async def main() -> None:
        async with connected(limit=10) as (reader, _, _there):
            reader.feed_data(b"abc")
            text = repr(reader)
            assert "StreamReader 3 bytes limit=10" in text
            reading = await begin(reader.readexactly(5))
            assert "waiter=<Future pending" in repr(reader)
            reading.cancel()
            await asyncio.wait([reading])
            reader.feed_eof()
            assert "3 bytes eof" in repr(reader)
            assert not reader.at_eof()
            assert await reader.read() == b"abc"
            assert reader.at_eof()

    run(main())


def test_results_stay_with_who_has_got_them(run: Run) -> None:
    """What is used again inside is not what a program has kept."""

    async def main() -> None:
        async with connected() as (reader, _, there):
            there.sendall(b"abcd")
            await rounds()
            ends = []
            for _ in range(4):
                with pytest.raises(StopIteration) as raised:
                    reader.read(1).__await__().__next__()
                ends.append(raised.value)
            assert [end.value for end in ends] == [b"a", b"b", b"c", b"d"]
            futures = []
            for text in (b"x", b"y", b"z"):
                reading = reader.read(10)
                future = reading.send(None)
                futures.append(future)
                reader.feed_data(text)
                with pytest.raises(StopIteration) as raised:
                    reading.send(None)
                assert raised.value.value == text
            assert len(set(map(id, futures))) == 3
            assert all(future.done() for future in futures)

    run(main())


def test_tasks_are_woken_one_after_the_other(run: Run) -> None:
    """In the order in which bytes have come for them."""

    async def main() -> None:
        order = []

        async def wait(name: str, reader: asyncio.StreamReader) -> None:
            await reader.readexactly(1)
            order.append(name)

        async with connected() as (one, _, _a), connected() as (two, _, _b):
            tasks = [asyncio.ensure_future(wait("one", one))]
            tasks += [asyncio.ensure_future(wait("two", two))]
            await asyncio.sleep(0)
            two.feed_data(b"x")
            asyncio.get_running_loop().call_soon(order.append, "between")
            one.feed_data(b"x")
            await asyncio.gather(*tasks)
        assert order == ["two", "between", "one"]

    run(main())

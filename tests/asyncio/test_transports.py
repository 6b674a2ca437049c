"""Transports of stream sockets, as asyncio documents them: on asyncio's own loop, and on ours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from loop_support import Run

#: More than the system takes at once for a socket pair.
MUCH = 8 << 20


class Recorder(asyncio.Protocol):
    """Notes what it is called for."""

    def __init__(self, keeps_open: bool = False) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.keeps_open = keeps_open
        self.lost: asyncio.Future[BaseException | None] = asyncio.Future()
        self.changed = asyncio.Event()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.note("lost")
        self.lost.set_result(error)


@asynccontextmanager
async def connected(
    protocol: asyncio.BaseProtocol,
) -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport with the protocol, and the socket at the other end."""
    here, there = socket.socketpair()
    there.setblocking(False)
    with here, there:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, sock=here)
        try:
            yield transport, there  # type: ignore[misc]
        finally:
            if not transport.is_closing():
                transport.abort()
            await asyncio.sleep(0)


async def receive(there: socket.socket, size: int) -> bytes:
    """Receive so many bytes, or all there are."""
    received = bytearray()
    while len(received) < size:
        data = await asyncio.get_running_loop().sock_recv(there, 1 << 16)
        if not data:
            break
        received += data
    return bytes(received)


async def send(there: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(there, data)


def test_bytes_arrive_in_both_directions_and_in_order(run: Run) -> None:
    sent = b"".join(i.to_bytes(4, "big") for i in range(MUCH // 4))

    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            transport.write(sent)
            assert await receive(there, len(sent)) == sent
            sending = asyncio.ensure_future(send(there, sent))
            await protocol.until(lambda: len(protocol.data) == len(sent))
            await sending
            assert protocol.data == sent

    run(main())


@pytest.mark.parametrize("size", [64 << 10, (64 << 10) + 1, 150_000])
def test_more_arrives_than_the_last_message_let_expect(run: Run, size: int) -> None:
    first, second = b"1" * (40 << 10), bytes(i % 251 for i in range(size))

    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (_, there):
            there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            for data in (first, second, first, second[:5]):
                protocol.data.clear()
                # At once: the loop does not run in between.
                assert there.send(data) == len(data)
                await protocol.until(lambda data=data: len(protocol.data) >= len(data))  # type: ignore[misc]
                assert protocol.data == data

    run(main())


def test_what_is_written_follows_what_waits(run: Run) -> None:
    async def main() -> None:
        async with connected(Recorder()) as (transport, there):
            transport.write(b"a" * MUCH)
            transport.write(b"b")
            transport.writelines([b"c", bytearray(b"d"), b"", memoryview(b"e")])
            transport.write(memoryview(b"xfx")[1:2])
            assert (await receive(there, MUCH + 5))[MUCH - 1 :] == b"abcdef"

    run(main())


def test_writelines_sends_many_pieces(run: Run) -> None:
    pieces = [bytes([i % 251]) * (i % 1500) for i in range(3000)]

    async def main() -> None:
        async with connected(Recorder()) as (transport, there):
            transport.writelines(pieces)
            whole = b"".join(pieces)
            assert await receive(there, len(whole)) == whole
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_what_was_written_may_be_changed_afterwards(run_ours: Run) -> None:
    async def main() -> None:
        async with connected(Recorder()) as (transport, there):
            data = bytearray(b"a" * MUCH)
            transport.write(data)
            data[:] = b"b" * len(data)
            data.clear()  # and nothing holds its memory
            assert await receive(there, MUCH) == b"a" * MUCH

    run_ours(main())


@pytest.mark.parametrize("data", ["text", 7, None, [b"a"]])
def test_only_bytes_are_written(run: Run, data: object) -> None:
    async def main() -> None:
        async with connected(Recorder()) as (transport, _):
            with pytest.raises(TypeError, match="data argument must be "):
                transport.write(data)  # type: ignore[arg-type]

    run(main())


def test_protocol_is_paused_above_the_high_mark_and_resumed_at_the_low_one(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            transport.write(b"a" * MUCH)
            assert protocol.calls == ["made", "pause"]
            waiting = transport.get_write_buffer_size()
            assert 0 < waiting < MUCH
            transport.write(b"b" * 10)
            assert transport.get_write_buffer_size() == waiting + 10
            assert protocol.calls == ["made", "pause"]
            await receive(there, MUCH + 10)
            await protocol.until(lambda: "resume" in protocol.calls)
            assert protocol.calls == ["made", "pause", "resume"]
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_marks_can_be_set(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, _):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits(low=1, high=2)
            assert transport.get_write_buffer_limits() == (1, 2)
            for low, high in ((2, 1), (-1, 1), (-2, -1)):
                with pytest.raises(ValueError, match="must be >="):
                    transport.set_write_buffer_limits(low=low, high=high)
            transport.set_write_buffer_limits(high=2 * MUCH)
            transport.write(b"a" * MUCH)
            assert protocol.calls == ["made"]
            # More waits than may, from now on.
            transport.set_write_buffer_limits(high=0)
            assert protocol.calls == ["made", "pause"]

    run(main())


def test_paused_reading_leaves_bytes_to_the_system(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            await send(there, b"a")
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert protocol.data == b""
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.data == b"a")

    run(main())


def test_reading_can_be_paused_as_the_connection_is_made(run: Run) -> None:
    class Paused(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async def main() -> None:
        protocol = Paused()
        async with connected(protocol) as (transport, there):
            await send(there, b"a")
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.until(lambda: protocol.data == b"a")

    run(main())


def test_end_of_stream_closes_unless_the_protocol_keeps_it_open(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            there.shutdown(socket.SHUT_WR)
            assert await protocol.lost is None
            assert protocol.calls == ["made", "eof", "lost"]
            assert transport.is_closing()
        protocol = Recorder(keeps_open=True)
        async with connected(protocol) as (transport, there):
            there.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "eof" in protocol.calls)
            assert not transport.is_closing()
            transport.write(b"answer")
            assert await receive(there, 6) == b"answer"
            assert protocol.calls == ["made", "eof"]
            transport.close()
            assert await protocol.lost is None

    run(main())


def test_write_eof_comes_after_what_was_written(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            assert transport.can_write_eof()
            transport.write(b"a" * MUCH)
            transport.write_eof()
            transport.write_eof()
            with pytest.raises(RuntimeError, match=r"write\(\) after write_eof"):
                transport.write(b"b")
            with pytest.raises(RuntimeError, match=r"write(lines)?\(\) after write_eof"):
                transport.writelines([b"b"])
            assert len(await receive(there, MUCH + 1)) == MUCH
            await send(there, b"answer")
            await protocol.until(lambda: protocol.data == b"answer")

    run(main())


def test_close_sends_what_waits_and_tells_once(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            transport.write(b"a" * MUCH)
            transport.close()
            transport.close()
            assert transport.is_closing()
            assert not transport.is_reading()
            assert len(await receive(there, MUCH + 1)) == MUCH
            assert await protocol.lost is None
            transport.close()
            await asyncio.sleep(0)
            assert protocol.calls.count("lost") == 1
            # There is nothing left to abort, and asyncio's fails then.
            if type(transport).__name__ == "_SelectorSocketTransport":
                return
            transport.abort()
            await asyncio.sleep(0)
            assert protocol.calls.count("lost") == 1

    run(main())


def test_abort_drops_what_waits(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            transport.write(b"a" * MUCH)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            # Called by the loop, and not from here.
            assert "lost" not in protocol.calls
            assert await protocol.lost is None
            assert 0 < len(await receive(there, MUCH)) < MUCH

    run(main())


def test_a_reset_is_told_and_not_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            loop = asyncio.get_running_loop()
            protocol = Recorder()
            await loop.create_connection(lambda: protocol, *listener.getsockname())
            there, _ = listener.accept()
            # Closing resets then.
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            there.close()
            assert isinstance(await protocol.lost, ConnectionResetError)
            assert "eof" not in protocol.calls

    run(main())
    assert not caplog.records


def test_a_failing_write_ends_the_connection(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            transport.pause_reading()
            there.close()
            transport.write(b"a")
            assert transport.is_closing()
            assert isinstance(await protocol.lost, BrokenPipeError)

    run(main())


def test_writes_to_a_lost_connection_are_logged_when_there_are_many(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with connected(Recorder()) as (transport, _):
            transport.abort()
            for _ in range(3):
                transport.write(b"a")
            assert not caplog.records
            for _ in range(10):
                transport.write(b"a")

    run(main())
    assert {record.message for record in caplog.records} == {"socket.send() raised exception."}


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_errors_of_protocols_end_the_connection(run: Run, method: str) -> None:
    async def main() -> None:
        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))
        error = RuntimeError("wrong")

        def fail(*_: object) -> None:
            raise error

        protocol = Recorder()
        setattr(protocol, method, fail)
        async with connected(protocol) as (transport, there):
            if method == "eof_received":
                there.shutdown(socket.SHUT_WR)
            else:
                await send(there, b"a")
            assert await protocol.lost is error
            assert len(told) == 1
            assert told[0]["exception"] is error
            assert told[0]["message"] == f"Fatal error: protocol.{method}() call failed."
            assert (told[0]["transport"], told[0]["protocol"]) == (transport, protocol)

    run(main())


def test_errors_of_pause_writing_are_told_and_end_nothing(run: Run) -> None:
    async def main() -> None:
        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))

        class Failing(Recorder):
            def pause_writing(self) -> None:
                raise RuntimeError("wrong")

        async with connected(Failing()) as (transport, there):
            transport.write(b"a" * MUCH)
            assert [context["message"] for context in told] == ["protocol.pause_writing() failed"]
            assert len(await receive(there, MUCH)) == MUCH

    run(main())


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.updates: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost: asyncio.Future[BaseException | None] = asyncio.Future()

    def get_buffer(self, sizehint: int) -> Any:
        assert sizehint == -1
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.updates.put_nowait(bytes(self.buffer[:nbytes]))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


def test_buffered_protocols_have_their_own_memory_filled(run: Run) -> None:
    async def main() -> None:
        protocol = Buffered(bytearray(4))
        async with connected(protocol) as (_, there):
            await send(there, b"abcdefg")
            assert await protocol.updates.get() == b"abcd"
            assert await protocol.updates.get() == b"efg"
            # The memory is not held between reads.
            protocol.buffer.extend(b"1234")
            there.shutdown(socket.SHUT_WR)
            assert await protocol.lost is None

    run(main())


def test_protocols_with_memory_need_no_base_class(run_ours: Run) -> None:
    class Bare:
        connection_made = connection_lost = eof_received = lambda *_: None

        def __init__(self) -> None:
            self.buffer = bytearray(10)
            self.updates: asyncio.Queue[bytes] = asyncio.Queue()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.updates.put_nowait(bytes(self.buffer[:nbytes]))

    async def main() -> None:
        protocol = Bare()
        async with connected(protocol) as (_, there):  # type: ignore[arg-type]
            await send(there, b"abc")
            assert await protocol.updates.get() == b"abc"

    run_ours(main())


@pytest.mark.parametrize("buffer", [bytearray(), b"read-only", "text"])
def test_faulty_buffers_end_the_connection(run: Run, buffer: object) -> None:
    async def main() -> None:
        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))
        protocol = Buffered(buffer)
        async with connected(protocol) as (_, there):
            await send(there, b"a")
            assert await protocol.lost is not None
            assert len(told) == 1

    run(main())


def test_the_protocol_can_be_exchanged(run: Run) -> None:
    async def main() -> None:
        first, second = Recorder(), Buffered(bytearray(10))
        async with connected(first) as (transport, there):
            assert transport.get_protocol() is first
            await send(there, b"a")
            await first.until(lambda: first.data == b"a")
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            await send(there, b"b")
            assert await second.updates.get() == b"b"
            third = Recorder()
            transport.set_protocol(third)
            await send(there, b"c")
            await third.until(lambda: third.data == b"c")
            transport.close()
            assert await third.lost is None
        assert first.calls == ["made"]

    run(main())


def test_protocols_are_called_in_the_context_that_the_connection_was_made_in(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> None:
        seen: list[str] = []

        class Looking(Recorder):
            def note(self, call: str) -> None:
                seen.append(f"{call} {variable.get()}")
                super().note(call)

            def data_received(self, data: bytes) -> None:
                seen.append(f"data {variable.get()}")
                super().data_received(data)

        variable.set("connect")
        protocol = Looking()
        async with connected(protocol) as (_, there):
            variable.set("later")
            await send(there, b"a")
            await protocol.until(lambda: protocol.data == b"a")
            there.close()
            await protocol.lost
        assert seen == ["made connect", "data connect", "eof connect", "lost connect"]

    run(main())


def test_a_protocol_is_paused_in_its_own_context(run_ours: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> None:
        seen: list[str] = []

        class Looking(Recorder):
            def pause_writing(self) -> None:
                seen.append(f"pause {variable.get()}")

            def resume_writing(self) -> None:
                seen.append(f"resume {variable.get()}")
                self.note("resume")

        variable.set("connect")
        protocol = Looking()
        async with connected(protocol) as (transport, there):
            variable.set("write")
            transport.write(b"a" * MUCH)
            await receive(there, MUCH)
            await protocol.until(lambda: "resume" in protocol.calls)
        assert seen == ["pause connect", "resume connect"]
        assert variable.get() == "write"

    run_ours(main())


def test_what_is_known_of_a_connection(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
            with listener.accept()[0] as there:
                assert transport.get_extra_info("sockname") == there.getpeername()
                assert transport.get_extra_info("peername") == there.getsockname()
                assert transport.get_extra_info("socket").fileno() > 0
                assert transport.get_extra_info("cipher") is None
                assert transport.get_extra_info("cipher", "none") == "none"
                nodelay = transport.get_extra_info("socket").getsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NODELAY
                )
                assert nodelay
                transport.close()
                await protocol.lost
                assert "closed" in repr(transport)

    run(main())


def test_server_connections(run: Run) -> None:
    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        while len(made) < 20 or not all(one.data for one in made):
            await asyncio.sleep(0.001)
        assert sorted(int(one.data) for one in made) == list(range(20))
        server.close()
        for client in clients:
            client.close()
        assert [await one.lost for one in made] == [None] * 20
        await server.wait_closed()

    run(main())


def test_a_file_is_sent(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            loop = asyncio.get_running_loop()
            protocol = Recorder()
            transport, _ = await loop.create_connection(lambda: protocol, *listener.getsockname())
            there = listener.accept()[0]
            there.setblocking(False)
            with there, path.open("rb") as file:
                transport.write(b"head")
                reading = asyncio.ensure_future(receive(there, 4 + 1_000_000 + 4))
                assert await loop.sendfile(transport, file) == 1_000_000
                transport.write(b"tail")
                received = await reading
                assert received == b"head" + path.read_bytes() + b"tail"
            transport.close()
            await protocol.lost

    run(main())


def test_a_transport_that_is_dropped_is_warned_of(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with connected(Recorder()) as (transport, _):
            transport.close()
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, sock=here)
        del here
        transport.pause_reading()  # the loop does not hold it
        left = [transport, protocol]
        del transport, protocol

        def drop() -> None:
            left.clear()
            gc.collect()

        problems: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", problems.append)
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            drop()
        assert not problems
        assert there.recv(1) == b""
        there.close()

    with warnings.catch_warnings():
        run(main())


def test_debug_mode_logs(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        protocol = Recorder()
        async with connected(protocol) as (transport, there):
            transport.pause_reading()
            transport.resume_reading()
            there.close()
            await protocol.lost

    run(main())
    for what in ("pauses reading", "resumes reading", "received EOF"):
        assert any(what in record.message for record in caplog.records)

"""Transports of datagrams, as asyncio documents them: on asyncio's own loop, and on ours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import subprocess
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from loop_support import Run

#: From 3.13 on datagrams without bytes are sent, and each that waits counts for 8 bytes more.
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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_come_with_their_senders(run: Run, host: str) -> None:
    async def main() -> None:
        options = {"local_addr": (host, 0)}
        async with endpoint(**options) as one, endpoint(**options) as two:
            here, there = one.get_protocol(), two.get_protocol()
            one.sendto(b"a", name_of(two))
            two.sendto(b"b", name_of(two))
            one.sendto(b"c", name_of(two))
            received = await there.until_received(3)
            assert received == [(b"a", name_of(one)), (b"b", name_of(two)), (b"c", name_of(one))]
            for data, sender in received:
                assert type(sender) is tuple
                two.sendto(data + b"!", sender)
            assert await here.until_received(2) == [(b"a!", name_of(two)), (b"c!", name_of(two))]
            assert await there.until_received(4) == [*received[:3], (b"b!", name_of(two))]
            # As large as the protocol allows.
            data = bytes(range(256)) * 255
            one.sendto(data, name_of(two))
            assert (await there.until_received(5))[4] == (data, name_of(one))

    run(main())


def test_addresses_of_ipv6_may_be_short(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("::1", 0)) as transport:
            port = name_of(transport)[1]
            for address in (("::1", port), ("::1", port, 5), ("::1", port, 0, 0)):
                transport.sendto(b"a", address)
            assert len(await transport.get_protocol().until_received(3)) == 3

    run(main())


def test_hosts_may_have_names(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as transport:
            port = name_of(transport)[1]
            transport.sendto(b"a", ("localhost", port))
            transport.sendto(b"b", (b"127.0.0.1", port))
            received = await transport.get_protocol().until_received(2)
            assert [data for data, _ in received] == [b"a", b"b"]

    run(main())


def test_unix_addresses(run: Run, tmp_path: Path) -> None:
    paths: list[Any] = [str(tmp_path / "one"), str(tmp_path / "zwö"), b"\0greenloop-\xff-test"]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for path in paths:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.bind(path)
                nameless.connect(path)
                async with endpoint(sock=sock) as transport:
                    spellings = [path] if isinstance(path, bytes) else [path, path.encode()]
                    for spelling in spellings:
                        transport.sendto(b"a", spelling)
                    nameless.send(b"b")
                    received = await transport.get_protocol().until_received(len(spellings) + 1)
                    assert received == [(b"a", path)] * len(spellings) + [(b"b", None)]
        transport, protocol = await loop.create_datagram_endpoint(
            Recorder, local_addr=str(tmp_path / "local"), family=socket.AF_UNIX
        )
        async with endpoint(remote_addr=str(tmp_path / "local"), family=socket.AF_UNIX) as other:
            other.sendto(b"c")
            other.sendto(b"d", str(tmp_path / "local"))
            assert await protocol.until_received(2) == [(b"c", None), (b"d", None)]
            with pytest.raises(ValueError, match="Invalid address"):
                other.sendto(b"e", str(tmp_path / "one"))
        # A path of no socket, one that is too long.
        transport.sendto(b"f", str(tmp_path / "none"))
        transport.sendto(b"g", "x" * 200)
        assert isinstance(protocol.errors[0], FileNotFoundError)
        assert "too long" in str(protocol.errors[1])
        transport.close()
        await protocol.lost

    run(main())


def test_a_connected_endpoint_sends_to_its_peer_only(run: Run) -> None:
    async def main() -> None:
        async with (
            endpoint() as server,
            endpoint(remote_addr=name_of(server)) as client,
            endpoint() as stranger,
        ):
            client.sendto(b"a")
            client.sendto(b"b", None)
            client.sendto(b"c", name_of(server))
            client.sendto(b"d", addr=name_of(server))
            with pytest.raises(ValueError, match="Invalid address: must be None or "):
                client.sendto(b"e", name_of(stranger))
            received = await server.get_protocol().until_received(4)
            assert received == [(data, name_of(client)) for data in (b"a", b"b", b"c", b"d")]
            stranger.sendto(b"from a stranger", name_of(client))
            server.sendto(b"answer", name_of(client))
            answers = await client.get_protocol().until_received(1)
            assert answers == [(b"answer", name_of(server))]
            assert client.get_extra_info("peername") == name_of(server)
            assert server.get_extra_info("peername") is None
            # For a socket that was connected by the program, an address means nothing.
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(name_of(server))
            async with endpoint(sock=sock) as third:
                third.sendto(b"f", name_of(stranger))
                assert (await server.get_protocol().until_received(5))[4][0] == b"f"

    run(main())


def test_the_only_address_of_an_endpoint_that_may_broadcast(run: Run) -> None:
    async def main() -> None:
        async with (
            endpoint() as server,
            endpoint(remote_addr=name_of(server), allow_broadcast=True) as client,
        ):
            sock = client.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert client.get_extra_info("peername") is None
            client.sendto(b"a")
            client.sendto(b"b", name_of(server))
            with pytest.raises(ValueError, match="Invalid address"):
                client.sendto(b"c", ("127.0.0.1", 9))
            received = await server.get_protocol().until_received(2)
            assert [data for data, _ in received] == [b"a", b"b"]

    run(main())


@pytest.mark.parametrize("data", ["text", None, 5, [1], object()])
def test_only_bytes_are_sent(run: Run, data: object) -> None:
    async def main() -> None:
        async with endpoint() as transport:
            with pytest.raises(TypeError, match="data argument must be a bytes-like object, not"):
                transport.sendto(data, name_of(transport))
            for right in (b"a", bytearray(b"b"), memoryview(b"c")):
                transport.sendto(right, name_of(transport))
            received = await transport.get_protocol().until_received(3)
            assert [data for data, _ in received] == [b"a", b"b", b"c"]

    run(main())


def test_arguments(run_ours: Run) -> None:
    async def main() -> None:
        async with endpoint() as transport:
            transport.sendto(data=b"a", addr=name_of(transport))
            with pytest.raises(TypeError):
                transport.sendto()
            with pytest.raises(TypeError):
                transport.sendto(b"a", name_of(transport), 3)
            with pytest.raises(TypeError):
                transport.sendto(b"a", address=name_of(transport))
            assert len(await transport.get_protocol().until_received(1)) == 1

    run_ours(main())


def test_empty_datagrams(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as server, endpoint(remote_addr=name_of(server)) as client:
            server.sendto(b"", name_of(server))
            client.sendto(b"")
            client.sendto(memoryview(b""))
            client.sendto(b"end")
            count = 4 if SENDS_EMPTY else 1
            received = await server.get_protocol().until_received(count)
            assert [data for data, _ in received] == [b""] * (count - 1) + [b"end"]
            # They are received in any case.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"", name_of(server))
            assert (await server.get_protocol().until_received(count + 1))[count][0] == b""

    run(main())


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (None, TypeError),
        ("127.0.0.1", TypeError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", "http"), TypeError),
        (("127.0.0.1", 65536), OverflowError),
        (("127.0.0.1", -1), OverflowError),
        (("ä" * 300, 1), TypeError),
    ],
)
def test_addresses_that_are_none_end_the_endpoint(
    run: Run, address: Any, kind: type[Exception]
) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with noting_problems() as problems, endpoint(protocol) as transport:
            transport.sendto(b"a", address)
            assert transport.is_closing()
            assert isinstance(await protocol.lost, kind)
            (problem,) = problems
            assert problem["message"] == "Fatal write error on datagram transport"
            assert problem["transport"] is transport
            assert problem["protocol"] is protocol
            assert isinstance(problem["exception"], kind)
            assert not protocol.errors

    run(main())


def test_addresses_of_ipv6_that_are_none_end_the_endpoint(run: Run) -> None:
    async def main() -> None:
        for wrong in ((1 << 20, 0), (-1, 0), (0, 0, 0)):
            protocol = Recorder()
            async with (
                noting_problems() as problems,
                endpoint(protocol, local_addr=("::1", 0)) as transport,
            ):
                transport.sendto(b"a", (*name_of(transport)[:2], *wrong))
                assert isinstance(await protocol.lost, (OverflowError, TypeError))
                assert len(problems) == 1

    run(main())


def test_memory_in_pieces_is_refused(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with noting_problems() as problems, endpoint(protocol) as transport:
            transport.sendto(memoryview(b"abcd")[::2], name_of(transport))
            assert isinstance(await protocol.lost, BufferError)
            assert len(problems) == 1

    run(main())


def test_errors_of_the_system_are_told(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with endpoint(protocol) as transport:
            transport.sendto(bytes(70_000), name_of(transport))
            (error,) = protocol.errors
            assert isinstance(error, OSError)
            assert not transport.is_closing()
            transport.sendto(b"a", name_of(transport))
            await protocol.until_received(1)

    run(main())


def test_a_peer_that_is_not_there_is_told_of_and_may_come(run: Run) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as later:
            later.bind(HERE)
            peer = later.getsockname()
            protocol = Recorder()
            async with endpoint(protocol, remote_addr=peer) as transport:
                later.close()
                transport.sendto(b"nobody")
                # What the other side's system answers is there when it is received.
                await protocol.until(lambda: bool(protocol.errors))
                assert type(protocol.errors[0]) is ConnectionRefusedError
                transport.sendto(b"nobody")
                transport.sendto(b"nobody")
                assert type(protocol.errors[1]) is ConnectionRefusedError
                assert not transport.is_closing()
                async with endpoint(local_addr=peer) as server:
                    transport.sendto(b"lost or not")
                    transport.sendto(b"somebody")
                    there = server.get_protocol()
                    await there.until(lambda: (b"somebody", name_of(transport)) in there.received)
                    server.sendto(b"yes", name_of(transport))
                    assert await protocol.until_received(1) == [(b"yes", peer)]

    run(main())


@pytest.mark.parametrize("method", ["datagram_received", "error_received"])
def test_errors_of_protocols_end_nothing(run: Run, method: str) -> None:
    class Failing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if method == "datagram_received":
                raise ZeroDivisionError(data)

        def error_received(self, exc: Exception) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        protocol = Failing()
        async with noting_problems() as problems, endpoint(protocol) as transport:
            if method == "error_received":
                with pytest.raises(ZeroDivisionError):
                    transport.sendto(bytes(70_000), name_of(transport))
                return
            for data in (b"a", b"b", b"c"):
                transport.sendto(data, name_of(transport))
            await protocol.until_received(3)
            await asyncio.sleep(0)
            assert [data for data, _ in protocol.received] == [b"a", b"b", b"c"]
            assert [type(problem["exception"]) for problem in problems] == [ZeroDivisionError] * 3
            assert not transport.is_closing()

    run(main())


def test_exits_go_through(run: Run) -> None:
    class Leaving(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            raise SystemExit(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Leaving, local_addr=HERE)
        transport.sendto(b"a", name_of(transport))
        try:
            await asyncio.sleep(60)
        finally:
            transport.abort()

    with pytest.raises(SystemExit):
        run(main())


def test_what_waits_is_sent_in_order(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with unix_pair(tmp_path) as (transport, there):
            sent = send_until_waiting(transport, b"first")
            memory = bytearray(b"second")
            transport.sendto(memory)
            memory[:] = b"change"
            transport.sendto(memoryview(b"third")[1:])
            transport.sendto(memoryview(b"f-o-u-r")[::2])
            size = len(b"first" + b"second" + b"hird" + b"four") + 4 * HEADER
            assert transport.get_write_buffer_size() == size
            expected = [b"first"] * sent + [b"second", b"hird", b"four"]
            assert await receive(there, len(expected)) == expected
            transport.sendto(b"fifth")
            assert await receive(there, 1) == [b"fifth"]
            assert "write=<idle" in repr(transport)

    run(main())


def test_nothing_is_left_of_what_was_sent(run_ours: Run, tmp_path: Path) -> None:
    # asyncio has counted the headers of datagrams that were sent in some releases of 3.13.
    async def main() -> None:
        async with unix_pair(tmp_path) as (transport, there):
            for _ in range(3):
                sent = send_until_waiting(transport, b"a")
                transport.sendto(b"bc")
                assert transport.get_write_buffer_size() == 3 + 2 * HEADER
                await receive(there, sent + 1)
                while transport.get_write_buffer_size():
                    await asyncio.sleep(0)

    run_ours(main())


def test_protocol_is_paused_above_the_high_mark_and_resumed_at_the_low_one(
    run: Run, tmp_path: Path
) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with unix_pair(tmp_path, protocol) as (transport, there):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            data = bytes(1024 - HEADER)
            sent = send_until_waiting(transport, data)
            for _ in range(63):
                transport.sendto(data)
            assert transport.get_write_buffer_size() == 64 * 1024
            assert "pause" not in protocol.calls
            transport.sendto(b"a")
            transport.sendto(b"b")
            assert protocol.calls.count("pause") == 1
            sizes: list[int] = []
            protocol.resume_writing = lambda: (  # type: ignore[method-assign]
                sizes.append(transport.get_write_buffer_size()),
                protocol.note("resume"),
            )[1]
            await receive(there, sent + 63 + 2)
            await protocol.until(lambda: "resume" in protocol.calls)
            assert protocol.calls.count("resume") == 1
            assert sizes[0] <= 16 * 1024

    run(main())


def test_marks_can_be_set(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with unix_pair(tmp_path, protocol) as (transport, there):
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits(high=10, low=5)
            assert transport.get_write_buffer_limits() == (5, 10)
            for wrong in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}):
                with pytest.raises(ValueError, match="must be >= low"):
                    transport.set_write_buffer_limits(**wrong)
            transport.set_write_buffer_limits()
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            sent = send_until_waiting(transport, b"abc")
            assert "pause" not in protocol.calls
            transport.set_write_buffer_limits(high=1, low=1)
            assert protocol.calls.count("pause") == 1
            # Some releases of asyncio have the header of what was sent stay in the count.
            transport.set_write_buffer_limits(high=100, low=HEADER + 2)
            await receive(there, sent)
            await protocol.until(lambda: "resume" in protocol.calls)

    run(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_errors_of_flow_control_are_told_and_end_nothing(
    run: Run, tmp_path: Path, method: str
) -> None:
    class Failing(Recorder):
        def fail(self, which: str) -> None:
            self.note(which)
            if which == method:
                raise ZeroDivisionError

        def pause_writing(self) -> None:
            self.fail("pause_writing")

        def resume_writing(self) -> None:
            self.fail("resume_writing")

    async def main() -> None:
        protocol = Failing()
        async with noting_problems() as problems, unix_pair(tmp_path, protocol) as pair:
            transport, there = pair
            transport.set_write_buffer_limits(high=8, low=8)
            sent = send_until_waiting(transport, b"some bytes")
            await receive(there, sent)
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            (problem,) = problems
            assert problem["message"] == f"protocol.{method}() failed"
            assert isinstance(problem["exception"], ZeroDivisionError)
            assert not transport.is_closing()

    run(main())


def test_close_sends_what_waits_and_tells_once(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with unix_pair(tmp_path, protocol) as (transport, there):
            sent = send_until_waiting(transport, b"a")
            transport.sendto(b"b")
            transport.close()
            transport.close()
            assert transport.is_closing()
            assert "closing" in repr(transport)
            # What is sent until it is closed goes after the rest.
            transport.sendto(b"c")
            await asyncio.sleep(0.01)
            assert not protocol.lost.done()
            assert await receive(there, sent + 2) == [b"a"] * sent + [b"b", b"c"]
            assert await protocol.lost is None
            assert protocol.calls.count("lost") == 1
            assert "closed" in repr(transport)
            assert transport.is_closing()
            transport.close()

    run(main())


def test_close_without_anything_that_waits(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with endpoint() as other, endpoint(protocol) as transport:
            other.sendto(b"too late", name_of(transport))
            transport.close()
            assert "lost" not in protocol.calls
            # The socket is there until the protocol is told.
            transport.sendto(b"last", name_of(other))
            assert await protocol.lost is None
            assert protocol.calls == ["made", "lost"]
            await other.get_protocol().until_received(1)

    run(main())


def test_abort_drops_what_waits(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with unix_pair(tmp_path, protocol) as (transport, there):
            sent = send_until_waiting(transport, b"a")
            transport.abort()
            assert transport.is_closing()
            assert await protocol.lost is None
            assert await receive(there, sent - 1) == [b"a"] * (sent - 1)
            with pytest.raises(BlockingIOError):
                there.recv(10)

    run(main())


def test_a_peer_that_goes_away_while_something_waits(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        protocol = Recorder()
        async with unix_pair(tmp_path, protocol) as (transport, there):
            send_until_waiting(transport, b"a")
            transport.sendto(b"b")
            there.close()
            await protocol.until(lambda: len(protocol.errors) == 2)
            assert isinstance(protocol.errors[0], ConnectionRefusedError)
            assert not transport.is_closing()
            transport.close()
            assert await protocol.lost is None

    run(main())


def test_what_is_sent_in_vain_is_logged_when_there_is_much(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with endpoint() as server, endpoint(remote_addr=name_of(server)) as transport:
            transport.abort()
            for _ in range(4):
                transport.sendto(b"a")
            assert not caplog.records
            await transport.get_protocol().lost
            for _ in range(3):
                transport.sendto(b"a")
            with pytest.raises(ValueError, match="Invalid address"):
                transport.sendto(b"a", ("127.0.0.1", 1))

    run(main())
    assert [record.message for record in caplog.records] == ["socket.send() raised exception."] * 3


def test_sending_without_a_peer_after_the_end(
    run_ours: Run, caplog: pytest.LogCaptureFixture
) -> None:
    # asyncio raises AttributeError.
    async def main() -> None:
        protocol = Recorder()
        async with endpoint(protocol) as transport:
            name = name_of(transport)
            transport.close()
            await protocol.lost
            for _ in range(5):
                transport.sendto(b"a", name)

    run_ours(main())
    assert [record.message for record in caplog.records] == ["socket.send() raised exception."]


def test_paused_reading_leaves_datagrams_to_the_system(run: Run) -> None:
    class Pausing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"pause":
                self.transport.pause_reading()  # type: ignore[attr-defined]

    async def main() -> None:
        protocol = Pausing()
        async with endpoint(protocol) as transport:
            assert transport.is_reading()
            for data in (b"a", b"pause", b"b", b"c"):
                transport.sendto(data, name_of(transport))
            await protocol.until_received(2)
            await asyncio.sleep(0.01)
            assert [data for data, _ in protocol.received] == [b"a", b"pause"]
            assert not transport.is_reading()
            assert "read=idle" in repr(transport)
            transport.pause_reading()
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            received = await protocol.until_received(4)
            assert [data for data, _ in received[2:]] == [b"b", b"c"]

    run(main())


def test_reading_can_be_paused_as_the_endpoint_is_made(run: Run) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        protocol = Pausing()
        async with endpoint(protocol) as transport:
            transport.sendto(b"a", name_of(transport))
            await asyncio.sleep(0.01)
            assert not protocol.received
            transport.resume_reading()
            await protocol.until_received(1)

    run(main())


@pytest.mark.parametrize("method", ["close", "abort"])
def test_nothing_is_received_after_the_end(run: Run, method: str) -> None:
    class Closing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, method)()

    async def main() -> None:
        protocol = Closing()
        async with endpoint(protocol) as transport:
            for _ in range(3):
                transport.sendto(b"a", name_of(transport))
            assert await protocol.lost is None
            assert protocol.calls == ["made", "received", "lost"]

    run(main())


def test_the_protocol_can_be_exchanged(run: Run) -> None:
    async def main() -> None:
        second = Recorder()

        class First(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                self.transport.set_protocol(second)

        first = First()
        async with endpoint(first) as transport:
            assert transport.get_protocol() is first
            for data in (b"a", b"b"):
                transport.sendto(data, name_of(transport))
            assert await second.until_received(1) == [(b"b", name_of(transport))]
            assert [data for data, _ in first.received] == [b"a"]
            assert transport.get_protocol() is second
            transport.close()
            assert await second.lost is None
            assert "lost" not in first.calls
            first.lost.set_result(None)

    run(main())


@pytest.mark.parametrize("connected", [False, True])
def test_methods_of_a_class_of_sockets_are_called(run: Run, connected: bool) -> None:
    class Marking(socket.socket):
        """Has a mark before each datagram, as a proxy's header."""

        def send(self, data: Any, *flags: Any) -> int:
            return super().send(b"send " + data)

        def sendto(self, data: Any, *rest: Any) -> int:
            return super().sendto(b"sendto " + data, *rest)

        def recvfrom(self, *args: Any) -> tuple[bytes, Any]:
            data, sender = super().recvfrom(*args)
            return b"recvfrom " + data, sender

    async def main() -> None:
        with Marking(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(HERE)
            name = sock.getsockname()
            if connected:
                sock.connect(name)
            protocol = Recorder()
            async with endpoint(protocol, sock=sock) as transport:
                transport.sendto(b"data", None if connected else name)
                data = b"recvfrom send data" if connected else b"recvfrom sendto data"
                assert await protocol.until_received(1) == [(data, name)]

    run(main())


def test_others_run_among_many_datagrams(run: Run) -> None:
    async def main() -> None:
        protocol = Recorder()
        ticks: list[int] = []

        def tick() -> None:
            ticks.append(len(protocol.received))
            if ticks[-1] < 100:
                loop.call_soon(tick)

        loop = asyncio.get_running_loop()
        async with endpoint(protocol) as transport:
            for _ in range(100):
                transport.sendto(b"a", name_of(transport))
            tick()
            await protocol.until_received(100)
            # It is not called once before all of them, and once after.
            assert len({count for count in ticks if 0 < count < 100}) >= 2

    run(main())


def test_a_blocking_protocol_holds_up_nobody(run_ours: Run) -> None:
    import greenloop

    class Sleeping(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data == b"sleep":
                greenloop.sleep(0.02)
            super().datagram_received(data, addr)

    async def main() -> None:
        protocol = Sleeping()
        async with endpoint() as other, endpoint(protocol) as transport:
            for data in (b"sleep", b"a", b"sleep", b"b"):
                transport.sendto(data, name_of(transport))
            await asyncio.sleep(0.005)
            assert not protocol.received
            other.sendto(b"meanwhile", name_of(other))
            await other.get_protocol().until_received(1)
            assert not protocol.received
            received = await protocol.until_received(4)
            assert [data for data, _ in received] == [b"sleep", b"a", b"sleep", b"b"]

    run_ours(main())


def test_protocols_are_called_in_the_context_that_the_endpoint_was_made_in(
    run_ours: Run, tmp_path: Path
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    class Looking(Recorder):
        def note(self, call: str) -> None:
            super().note(f"{call} {variable.get()}")

    async def main() -> None:
        variable.set("made")
        protocol = Looking()
        async with unix_pair(tmp_path, protocol) as (transport, there):
            variable.set("later")
            there.connect(transport.get_extra_info("sockname"))
            there.send(b"a")
            await protocol.until_received(1)
            transport.sendto(bytes(1 << 20))
            transport.set_write_buffer_limits(high=0)
            sent = send_until_waiting(transport, b"a")
            await receive(there, sent)
            await protocol.until(lambda: "resume made" in protocol.calls)
            transport.close()
            await protocol.lost
        calls = ("made", "received", "error", "pause", "resume", "lost")
        assert protocol.calls == [f"{call} made" for call in calls]
        assert variable.get() == "later"

    run_ours(main())


def test_what_is_known_of_an_endpoint(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as server, endpoint(remote_addr=name_of(server)) as transport:
            sock = transport.get_extra_info("socket")
            assert sock.getsockname() == name_of(transport)
            assert sock.type == socket.SOCK_DGRAM
            assert sock.fileno() > 0
            assert transport.get_extra_info("peername") == name_of(server)
            assert transport.get_extra_info("cipher") is None
            assert transport.get_extra_info("cipher", "none") == "none"
            assert isinstance(transport, asyncio.BaseTransport)
            assert "read=polling" in repr(transport)
            assert "write=<idle, bufsize=0>" in repr(transport)

    run(main())


def test_it_is_a_transport_of_datagrams(run_ours: Run) -> None:
    # asyncio's own are from 3.13 on.
    async def main() -> None:
        async with endpoint() as transport:
            assert isinstance(transport, asyncio.DatagramTransport)
            assert type(transport).__name__ == "DatagramTransport"
            assert repr(transport).startswith("<DatagramTransport fd=")
            with pytest.raises(NotImplementedError):
                transport.__reduce__()

    run_ours(main())


def test_a_socket_has_one_transport(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with endpoint() as transport:
            fd = transport.get_extra_info("socket").fileno()
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(fd, print)

    run(main())


def test_a_transport_that_is_dropped_is_warned_of(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Recorder, local_addr=HERE)
        name = name_of(transport)
        transport.pause_reading()  # the loop does not hold it
        left = [transport, protocol]
        del transport, protocol

        def drop() -> None:
            left.clear()
            gc.collect()

        problems: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", problems.append)
        with pytest.warns(ResourceWarning, match="unclosed transport <.*DatagramTransport"):
            drop()
        assert not problems
        # The socket is closed.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(name)

    with warnings.catch_warnings():
        run(main())


def test_addresses_of_what_waits_are_collected(run: Run, tmp_path: Path) -> None:
    class Address(str):
        transport: Any

    left: list[Any] = []

    async def main() -> None:
        here, there = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        for sock, name in ((here, "here"), (there, "there")):
            sock.setblocking(False)
            sock.bind(str(tmp_path / name))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=here)
        address = Address(tmp_path / "there")
        while not transport.get_write_buffer_size():
            transport.sendto(bytes(1000), address)
        address.transport = transport
        left.extend((there, weakref.ref(address), weakref.ref(transport)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The loop is closed before everything has been sent.
        run(main())
        gc.collect()
    there, *dropped = left
    there.close()
    assert [ref() for ref in dropped] == [None, None]


def test_debug_mode_logs(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")

    class Slow(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            end = time.monotonic() + 0.01
            while time.monotonic() < end:
                pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.005
        async with endpoint(Slow()) as transport:
            transport.pause_reading()
            transport.resume_reading()
            transport.sendto(b"a", name_of(transport))
            await transport.get_protocol().until_received(1)
            await asyncio.sleep(0)

    run(main())
    messages = [record.message for record in caplog.records]
    for what in ("pauses reading", "resumes reading"):
        assert any(what in message for message in messages)
    assert any("took" in message and "seconds" in message for message in messages)


@pytest.mark.parametrize("loop", ["asyncio.SelectorEventLoop", "greenloop.asyncio.new_event_loop"])
def test_sending_is_audited(loop: str) -> None:
    program = f"""if True:
        import asyncio, sys, greenloop.asyncio
        seen = []
        def note(event, arguments):
            if event == "socket.sendto":
                seen.append(arguments[1])
                if arguments[1][1] == 1:
                    raise ZeroDivisionError
        sys.addaudithook(note)
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: print(repr(context["exception"])))
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            transport.sendto(b"a", transport.get_extra_info("sockname"))
            transport.sendto(b"a", ("127.0.0.1", 1))
            assert seen == [transport.get_extra_info("sockname"), ("127.0.0.1", 1)], seen
            assert transport.is_closing()
        with asyncio.Runner(loop_factory={loop}) as runner:
            runner.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ZeroDivisionError()\n"

"""Datagrams that wait to be sent, and the end of transports: on asyncio's loop, and on ours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from datagram_support import (
    HEADER,
    Recorder,
    endpoint,
    name_of,
    noting_problems,
    receive,
    send_until_waiting,
    unix_pair,
)
from loop_support import Run


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

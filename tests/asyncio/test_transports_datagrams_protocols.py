"""Datagram transports and their protocols, sockets and the loop: on asyncio's loop, and on ours."""

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
from pathlib import Path
from typing import Any

import pytest
from datagram_support import (
    HERE,
    Recorder,
    endpoint,
    name_of,
    receive,
    send_until_waiting,
    unix_pair,
)
from loop_support import Run


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

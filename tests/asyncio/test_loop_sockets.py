"""`sock_recv`, `sock_sendall` and their like."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from loop_support import LOOPS, Run

import greenloop.asyncio
from greenloop import socket as cooperative


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, the first for the loop."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """As `pair`, connected by TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    here.setblocking(False)
    with here, there:
        yield here, there


async def waiting(call: object) -> asyncio.Task[object]:
    """A task that waits in a call."""
    task = asyncio.ensure_future(call)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not task.done()
    return task


@pytest.mark.parametrize("connected", [pair, tcp_pair])
def test_receiving(run: Run, connected: object) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with connected() as (here, there):  # type: ignore[operator]
            for text in (b"a", b"bc", b"def") * 10:
                receiving = await waiting(loop.sock_recv(here, 100))
                there.sendall(text)
                assert await receiving == text
            # There already, and more of it than is asked for.
            there.sendall(b"ghi")
            await asyncio.sleep(0.01)
            assert await loop.sock_recv(here, 2) == b"gh"
            assert await loop.sock_recv(here, 2) == b"i"
            assert await loop.sock_recv(here, 0) == b""
            receiving = await waiting(loop.sock_recv(here, 2))
            there.close()
            assert await receiving == b""
            assert await loop.sock_recv(here, 2) == b""

    run(main())


@pytest.mark.parametrize("connected", [pair, tcp_pair])
def test_the_end_behind_bytes_is_found(run: Run, connected: object) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with connected() as (here, there):  # type: ignore[operator]
            receiving = await waiting(loop.sock_recv(here, 100))
            there.sendall(b"last")
            there.close()
            assert await receiving == b"last"
            assert await loop.sock_recv(here, 100) == b""

    run(main())


def test_receiving_into_memory(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (here, there):
            memory = bytearray(4)
            receiving = await waiting(loop.sock_recv_into(here, memory))
            there.sendall(b"abcdef")
            assert await receiving == 4
            assert memory == b"abcd"
            assert await loop.sock_recv_into(here, memoryview(memory)[1:]) == 2
            assert await loop.sock_recv_into(here, bytearray()) == 0
            assert memory == b"aefd"
            with pytest.raises(TypeError):
                await loop.sock_recv_into(here, b"constant")  # type: ignore[arg-type]

    run(main())


def test_sending_more_than_the_system_takes(run: Run) -> None:
    size = 4 << 20

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for data in (bytes(size), bytearray(size), memoryview(bytes(size))):
            with tcp_pair() as (here, there):
                there.setblocking(False)
                # As large as they may grow, buffers would take it all.
                here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
                there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
                sending = await waiting(loop.sock_sendall(here, data))
                received = 0
                while received < size:
                    received += len(await loop.sock_recv(there, 1 << 20))
                assert await sending is None
                assert await loop.sock_sendall(here, b"") is None

    run(main())


def test_datagrams(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        ):
            for sock in (one, two):
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
            receiving = await waiting(loop.sock_recvfrom(one, 100))
            assert await loop.sock_sendto(two, b"abc", one.getsockname()) == 3
            assert await receiving == (b"abc", two.getsockname())
            memory = bytearray(10)
            receiving = await waiting(loop.sock_recvfrom_into(one, memory))
            await loop.sock_sendto(two, b"defg", one.getsockname())
            assert await receiving == (4, two.getsockname())
            assert memory[:4] == b"defg"
            await loop.sock_sendto(two, b"xyz", one.getsockname())
            assert await loop.sock_recvfrom_into(one, memory, 2) == (2, two.getsockname())
            assert memory[:4] == b"xyfg"
            with pytest.raises(ValueError, match="greater than"):
                await loop.sock_recvfrom_into(one, memory, 11)

    run(main())


def test_cancelled_calls_take_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tcp_pair() as (here, there):
            for _ in range(3):
                receiving = await waiting(loop.sock_recv(here, 10))
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(here, 10), 0.01)
            there.sendall(b"abc")
            assert await loop.sock_recv(here, 10) == b"abc"
            # Cancelled when it has been woken already.
            receiving = await waiting(loop.sock_recv(here, 10))
            there.sendall(b"def")
            loop.call_later(0.01, receiving.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                assert await receiving == b"def"

    run(main())


def test_both_directions_at_once(run: Run) -> None:
    size = 4 << 20

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tcp_pair() as (here, there):
            sending = await waiting(loop.sock_sendall(here, bytes(size)))
            receiving = await waiting(loop.sock_recv(here, 10))
            there.sendall(b"abc")
            assert await receiving == b"abc"
            assert not sending.done()
            there.setblocking(False)
            received = 0
            while received < size:
                received += len(await loop.sock_recv(there, 1 << 20))
            await sending

    run(main())


def test_beside_a_reader(run: Run) -> None:
    """A program that watches the descriptor itself, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tcp_pair() as (here, there), tcp_pair() as (other, far):
            seen = []
            loop.add_reader(other, lambda: seen.append(other.recv(10)))
            receiving = await waiting(loop.sock_recv(here, 10))
            far.sendall(b"x")
            while not seen:
                await asyncio.sleep(0.001)
            there.sendall(b"abc")
            assert await receiving == b"abc"
            assert loop.remove_reader(other)
            # Now with a call on the same one.
            receiving = await waiting(loop.sock_recv(other, 10))
            far.sendall(b"def")
            assert await receiving == b"def"
            assert seen == [b"x"]

    run(main())


def test_errors(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tcp_pair() as (here, there):
            with pytest.raises(ValueError, match="negative buffersize"):
                await loop.sock_recv(here, -1)
            with pytest.raises(TypeError):
                await loop.sock_recv(here, "many")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await loop.sock_sendall(here, "text")  # type: ignore[arg-type]
            receiving = await waiting(loop.sock_recv(here, 10))
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            there.close()
            with pytest.raises(ConnectionResetError):
                await receiving
            here.close()
            for call in (loop.sock_recv(here, 10), loop.sock_sendall(here, b"abc")):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await call

    run(main())


def test_a_descriptor_of_a_transport_is_refused(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with there:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(here, 10)
            transport.close()
            await asyncio.sleep(0)

    run(main())


def test_debug_mode_refuses_blocking_sockets(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        here, there = socket.socketpair()
        with here, there:
            for call in (loop.sock_recv(here, 10), loop.sock_sendall(here, b"abc")):
                with pytest.raises(ValueError, match="must be non-blocking"):
                    await call
        loop.set_debug(False)

    run(main())


def test_derived_sockets_have_their_methods_called(run: Run) -> None:
    class Counting(socket.socket):
        calls = 0

        def recv(self, *arguments: int) -> bytes:
            self.calls += 1
            return super().recv(*arguments)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (here, there), Counting(fileno=here.detach()) as derived:
            derived.setblocking(False)
            receiving = await waiting(loop.sock_recv(derived, 10))
            there.sendall(b"abc")
            assert await receiving == b"abc"
            assert derived.calls >= 1

    run(main())


def test_numbers_of_closed_sockets_are_used_again(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        numbers = set()
        for text in (b"a", b"b", b"c", b"d"):
            with tcp_pair() as (here, there):
                numbers.add(here.fileno())
                receiving = await waiting(loop.sock_recv(here, 10))
                there.sendall(text)
                assert await receiving == text
        assert len(numbers) < 4

    run(main())


def test_a_socket_that_is_waited_for_stays_open_until_that_is_over(run_ours: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tcp_pair() as (here, there):
            receiving = await waiting(loop.sock_recv(here, 10))
            here.close()
            assert here.fileno() >= 0
            there.sendall(b"abc")
            assert await receiving == b"abc"
            assert here.fileno() == -1
        with tcp_pair() as (here, _):
            receiving = await waiting(loop.sock_recv(here, 10))
            here.close()
            receiving.cancel()
            await asyncio.wait([receiving])
            assert here.fileno() == -1
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepting = await waiting(loop.sock_accept(listener))
            address = listener.getsockname()
            listener.close()
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                connection, _ = await accepting
                connection.close()
            assert listener.fileno() == -1

    run_ours(main())


def test_a_number_that_was_taken_away_is_let_go(run_ours: Run) -> None:
    """Who waits for a socket is told when its number is waited for by another one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tcp_pair() as (here, _), tcp_pair() as (source, far):
            receiving = await waiting(loop.sock_recv(here, 10))
            number = here.detach()
            os.dup2(source.fileno(), number)
            with socket.socket(fileno=number) as other:
                other.setblocking(False)
                second = await waiting(loop.sock_recv(other, 10))
                far.sendall(b"abc")
                assert await second == b"abc"
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await receiving

    run_ours(main())


def test_closing_a_cooperative_socket_wakes_who_waits_for_it(run_ours: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = cooperative.socketpair()
        with here, there:
            here.setblocking(False)
            receiving = await waiting(loop.sock_recv(here, 10))
            greenloop.spawn(there.sendall, b"abc")
            assert await receiving == b"abc"
            receiving = await waiting(loop.sock_recv(here, 10))
            here.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                await receiving

    run_ours(main())


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_goes_to_another_thread_takes_its_waits_along(name: str) -> None:
    loop = LOOPS[name]()
    with tcp_pair() as (here, there):

        async def begin() -> asyncio.Task[object]:
            return await waiting(loop.sock_recv(here, 10))

        receiving = loop.run_until_complete(begin())
        results = []

        def go_on() -> None:
            asyncio.set_event_loop(loop)
            results.append(loop.run_until_complete(receiving))
            asyncio.set_event_loop(None)

        thread = threading.Thread(target=go_on)
        thread.start()
        there.sendall(b"abc")
        thread.join(60)
        assert results == [b"abc"]
    loop.close()


def test_a_loop_is_closed_while_something_waits(run_ours: Run) -> None:
    loop = greenloop.asyncio.new_event_loop()
    with tcp_pair() as (here, there):

        async def begin() -> asyncio.Task[object]:
            return await waiting(loop.sock_recv(here, 10))

        receiving = loop.run_until_complete(begin())
        loop.close()
        there.sendall(b"abc")

        async def again() -> bytes:
            return await asyncio.get_running_loop().sock_recv(here, 10)

        # Another loop has the descriptor now.
        assert run_ours(again()) == b"abc"
        receiving._log_destroy_pending = False  # type: ignore[attr-defined]


def test_datagrams_between_sockets_without_names(run_ours: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        there.setblocking(False)
        with there:
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=here)
            transport.sendto(b"abc")
            assert await loop.sock_recv(there, 10) == b"abc"
            assert transport.get_extra_info("peername") == ""
            transport.close()
            transport.sendto(b"def")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            transport.sendto(b"ghi")

    run_ours(main())


def test_datagram_protocols_are_called_in_one_context(run_ours: Run) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    class Noting(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.seen: list[tuple[str, str]] = []
            self.lost = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.seen.append(("made", variable.get()))

        def datagram_received(self, data: bytes, address: object) -> None:
            self.seen.append(("received", variable.get()))

        def connection_lost(self, error: BaseException | None) -> None:
            self.seen.append(("lost", variable.get()))
            self.lost.set_result(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        variable.set("inside")
        transport, protocol = await loop.create_datagram_endpoint(
            Noting, local_addr=("127.0.0.1", 0)
        )
        variable.set("outside")
        transport.sendto(b"abc", transport.get_extra_info("sockname"))
        while len(protocol.seen) < 2:
            await asyncio.sleep(0.001)
        transport.close()
        await protocol.lost
        assert protocol.seen == [("made", "inside"), ("received", "inside"), ("lost", "inside")]

    run_ours(main())

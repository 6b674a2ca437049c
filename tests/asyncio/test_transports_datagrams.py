"""Sending and receiving datagrams, as asyncio documents it: on asyncio's own loop, and on ours."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from datagram_support import HERE, SENDS_EMPTY, Recorder, endpoint, name_of, noting_problems
from loop_support import Run


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

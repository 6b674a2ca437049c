"""Libraries for asyncio, as released, on `greenloop.asyncio`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from library_checks import SIZE, LocalGate, check, greenlets_go_on
from uvicorn_support import served

import greenloop
import greenloop.asyncio
from greenloop.asyncio import wait

HOST = "127.0.0.1"


# --- uvicorn and Starlette


@pytest.fixture(params=["command", "patched program"])
def uvicorn_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where uvicorn serves `asgi_site.py`."""
    pytest.importorskip("starlette")
    with served("asgi_site", as_program=request.param != "command") as port:
        yield port


def test_uvicorn_and_starlette(uvicorn_port: int) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    url = f"http://{HOST}:{uvicorn_port}"

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def get(path: str) -> Any:
                async with session.get(url + path) as response:
                    assert response.status == 200
                    return json.loads(await response.text())

            class SiteGate:
                async def held(self) -> int:
                    return int((await get("/state"))["held"])

                async def open(self) -> None:
                    await get("/open")

            state = await get("/state")
            assert state["loop"] == "greenloop.asyncio._event_loop.EventLoop"
            await check(lambda number: get(f"/hold/{number}"), SiteGate())
            numbers = list(range(SIZE))
            for path in ("block", "hold_thread"):
                found = await asyncio.gather(*[get(f"/{path}/{number}") for number in numbers])
                assert found == numbers
            assert (await get("/state"))["ticks"] > state["ticks"]

            async with session.get(url + "/stream") as response:
                parts = b"".join([part async for part in response.content.iter_any()])
            assert parts == b"".join(b"%d " % number * 1000 for number in range(50))
            text = "text" * 100_000
            async with session.post(url + "/form", json={"text": text}) as response:
                assert await response.json() == len(text)

            async def converse(number: int) -> None:
                async with session.ws_connect(url + "/echo") as websocket:
                    for turn in range(10):
                        await websocket.send_str(f"{number} {turn}")
                        assert await websocket.receive_str() == f"{number} {turn}"

            await asyncio.gather(*[converse(number) for number in numbers])

    greenloop.asyncio.run(main())


# --- aiohttp


@asynccontextmanager
async def aiohttp_site(gate: LocalGate) -> AsyncIterator[tuple[Any, str]]:
    """A client's session and the address of a server that holds requests."""
    aiohttp = pytest.importorskip("aiohttp")
    from aiohttp import web

    async def hold(request: Any) -> Any:
        await gate.hold()
        return web.Response(text=request.match_info["number"])

    async def block(request: Any) -> Any:
        greenloop.sleep(0.002)
        return web.Response(text=request.match_info["number"])

    app = web.Application()
    app.router.add_get("/hold/{number}", hold)
    app.router.add_get("/block/{number}", block)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session, f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_aiohttp() -> None:
    async def main() -> None:
        gate = LocalGate()
        async with aiohttp_site(gate) as (session, url):

            async def get(path: str) -> int:
                async with session.get(url + path) as response:
                    return int(await response.text())

            await check(lambda number: get(f"/hold/{number}"), gate)
            numbers = list(range(SIZE))
            # Blocking calls in handlers stop neither the server nor its clients.
            assert await asyncio.gather(*[get(f"/block/{number}") for number in numbers]) == numbers

    greenloop.asyncio.run(main())


def test_synchronous_code_over_aiohttp() -> None:
    """A library for both worlds: functions that wait for coroutines, called from coroutines, from
    greenlets, and from runs inside of runs."""

    async def main() -> None:
        gate = LocalGate()
        loop = asyncio.get_running_loop()
        async with aiohttp_site(gate) as (session, url):

            async def fetch(number: int) -> int:
                async with session.get(f"{url}/hold/{number}") as response:
                    return int(await response.text())

            def fetch_now(number: int) -> int:
                return wait(fetch(number), loop=loop)

            async def in_a_task(number: int) -> int:
                return fetch_now(number)

            async def in_a_greenlet(number: int) -> int:
                return await greenloop.spawn(fetch_now, number)

            async def in_a_run(number: int) -> int:
                async def inner() -> int:
                    await asyncio.sleep(0.001)
                    assert asyncio.get_running_loop() is not loop
                    return fetch_now(number)

                return await greenloop.spawn(greenloop.asyncio.run, inner())

            ways: list[Callable[[int], Coroutine[Any, Any, int]]] = [
                in_a_task,
                in_a_greenlet,
                in_a_run,
            ]
            calls = [asyncio.create_task(way(number)) for number in range(8) for way in ways]
            while gate.count != len(calls):
                await asyncio.sleep(0.001)
            await greenlets_go_on()
            for task in (calls[1], calls[2]):
                task.cancel()
            await asyncio.wait([calls[1]])
            # The run inside is over when its task is, which is in a blocking call.
            await gate.open()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in found[1:3]] == [asyncio.CancelledError] * 2
            assert [found[0], *found[3:]] == [number for number in range(8) for _ in ways][2:]

    greenloop.asyncio.run(main())


# --- websockets


class Gateway:
    """A server as those of chat services: it greets, is told who there is, sends numbered events,
    and wants heartbeats. Who comes back is sent what he has missed."""

    EVENTS = 30

    def __init__(self) -> None:
        self.heartbeats = 0
        self.gate = LocalGate()
        self.broken: set[str] = set()

    async def serve(self, websocket: Any) -> None:
        await websocket.send(json.dumps({"op": "hello", "interval": 0.002}))
        who = json.loads(await websocket.recv())
        events = asyncio.create_task(self.send(websocket, who))
        try:
            async for text in websocket:
                assert json.loads(text)["op"] == "heartbeat"
                self.heartbeats += 1
                await websocket.send(json.dumps({"op": "heard"}))
        finally:
            events.cancel()

    async def send(self, websocket: Any, who: dict[str, Any]) -> None:
        for number in range(who["after"], self.EVENTS):
            if number == 10:
                await self.gate.hold()
            if number == 20 and who["name"] not in self.broken:
                self.broken.add(who["name"])
                await websocket.close(4000, "come back")
                return
            await websocket.send(json.dumps({"op": "event", "number": number}))
        await websocket.close(1000, "over")


def test_websockets() -> None:
    pytest.importorskip("websockets")
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    def beat(websocket: Any, interval: float, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a greenlet."""
        while True:
            greenloop.sleep(interval)
            wait(websocket.send(json.dumps({"op": "heartbeat"})), loop=loop)

    async def client(name: str, url: str, seen: list[int]) -> str:
        loop = asyncio.get_running_loop()
        while True:
            async with connect(url, compression="deflate") as websocket:
                hello = json.loads(await websocket.recv())
                await websocket.send(json.dumps({"name": name, "after": len(seen)}))
                heart = greenloop.spawn(beat, websocket, hello["interval"], loop)
                try:
                    async for text in websocket:
                        message = json.loads(text)
                        if message["op"] == "event":
                            seen.append(message["number"])
                except ConnectionClosed as error:
                    assert error.rcvd is not None
                    assert error.rcvd.code == 4000
                    continue
                finally:
                    heart.kill()
                return name

    async def main() -> None:
        gateway = Gateway()
        async with serve(gateway.serve, HOST, 0) as server:
            url = f"ws://{HOST}:{server.sockets[0].getsockname()[1]}"
            seen: dict[int, list[int]] = {number: [] for number in range(SIZE)}
            clients = [
                asyncio.create_task(client(str(number), url, seen[number])) for number in seen
            ]
            while gateway.gate.count != SIZE or gateway.heartbeats < 5 * SIZE:
                await asyncio.sleep(0.001)
            # Some are given up in the middle, and come back later.
            for task in clients[:5]:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(task, 0.001)
            await gateway.gate.open()
            again = [client(str(number), url, seen[number]) for number in range(5)]
            names = await asyncio.gather(*again, *clients[5:])
            assert names == [str(number) for number in range(SIZE)]
            assert set(map(tuple, seen.values())) == {tuple(range(Gateway.EVENTS))}

    greenloop.asyncio.run(main())


# --- AsyncSSH


def test_asyncssh() -> None:
    asyncssh = pytest.importorskip("asyncssh")

    async def main() -> None:
        gate = LocalGate()
        key = asyncssh.generate_private_key("ssh-ed25519")

        class Server(asyncssh.SSHServer):  # type: ignore[misc]
            def begin_auth(self, username: str) -> bool:
                return False

        async def process(started: Any) -> None:
            line = await started.stdin.readline()
            await gate.hold()
            started.stdout.write(f"{started.command} {line}")
            started.exit(0)

        acceptor = await asyncssh.listen(
            HOST, 0, server_factory=Server, server_host_keys=[key], process_factory=process
        )
        async with acceptor:
            port = acceptor.get_port()
            async with asyncssh.connect(HOST, port, known_hosts=None, config=None) as connection:

                async def call(number: int) -> int:
                    result = await connection.run("answer", input=f"{number}\n", check=True)
                    command, answer = result.stdout.split()
                    assert command == "answer"
                    return int(answer)

                await check(call, gate, 10)

                async def tunnel(number: int) -> None:
                    reader, writer = await connection.open_connection(HOST, echo_port)
                    writer.write(b"%d\n" % number)
                    assert await reader.readline() == b"%d\n" % number
                    writer.close()

                async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    writer.write(await reader.readline())
                    writer.close()

                async with await asyncio.start_server(echo, HOST, 0) as echo_server:
                    echo_port = echo_server.sockets[0].getsockname()[1]
                    Server.connection_requested = lambda *_: True
                    await asyncio.gather(*[tunnel(number) for number in range(10)])

    greenloop.asyncio.run(main())

"""What programs do with anyio, on our loop. As a script it runs all of it patched."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import Any

if __name__ == "__main__":
    from greenloop import monkey

    monkey.patch_all()

import anyio
import pytest
from anyio import from_thread, to_thread
from library_checks import SIZE, LocalGate, check, greenlets_go_on

import greenloop
import greenloop.asyncio
from greenloop.asyncio import wait

HOST = "127.0.0.1"


async def serve(client: Any, gate: LocalGate) -> None:
    async with client:
        try:
            while True:
                data = await client.receive()
                await gate.hold()
                await client.send(data)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


async def sockets() -> None:
    gate = LocalGate()
    listener = await anyio.create_tcp_listener(local_host=HOST, backlog=200)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def call(number: int) -> int:
        async with await anyio.connect_tcp(HOST, port) as stream:
            await stream.send(b"%d" % number)
            return int(await stream.receive())

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, lambda client: serve(client, gate))
        await check(call, gate)
        group.cancel_scope.cancel()


async def scopes() -> None:
    seen: list[str] = []

    async def sleeps(name: str, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        try:
            task_status.started(name)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
                await greenloop.spawn(greenloop.sleep, 0.001)
            seen.append(name)

    async with anyio.create_task_group() as group:
        for name in ("one", "two", "three"):
            assert await group.start(sleeps, name) == name
        with anyio.move_on_after(0.005) as scope:
            await greenloop.spawn(greenloop.sleep, 60)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.005):
            await anyio.sleep_forever()
        group.cancel_scope.cancel()
    assert sorted(seen) == ["one", "three", "two"]
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(sleeps, "four")
            await greenloop.spawn(greenloop.sleep, 0.001)
            raise ValueError("reason")
    assert caught.group_contains(ValueError, match="reason")
    assert seen[-1] == "four"


async def threads() -> None:
    here = threading.get_ident()
    gate = threading.Barrier(SIZE + 1)

    async def where() -> int:
        await anyio.sleep(0)
        return threading.get_ident()

    def work(number: int) -> int:
        assert threading.get_ident() != here
        assert from_thread.run(where) == here
        assert from_thread.run_sync(threading.get_ident) == here
        gate.wait()
        return number

    calls = [asyncio.create_task(to_thread.run_sync(work, number)) for number in range(SIZE)]
    while gate.n_waiting != SIZE:
        await anyio.sleep(0.001)
    await greenlets_go_on()
    gate.wait()
    assert await asyncio.gather(*calls) == list(range(SIZE))


async def others() -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    async with anyio.create_task_group() as group, send, receive:
        # A greenlet that is one end of a stream of anyio's.
        loop = asyncio.get_running_loop()

        def produce() -> None:
            for number in range(5):
                wait(send.send(number), loop=loop)

        greenlet = greenloop.spawn(produce)
        assert [await receive.receive() for _ in range(5)] == list(range(5))
        await greenlet
        group.start_soon(anyio.lowlevel.checkpoint)
    result = await anyio.run_process([sys.executable, "-c", "print(input())"], input=b"text\n")
    assert result.stdout == b"text\n"
    with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
        signal.raise_signal(signal.SIGUSR1)
        async for number in signals:
            assert number == signal.SIGUSR1
            break


async def files() -> None:
    """Files of anyio's are read and written by threads."""
    async with anyio.TemporaryDirectory() as directory:
        path = anyio.Path(directory) / "file"

        async def write(number: int) -> None:
            async with await anyio.open_file(str(path) + str(number), "w") as file:
                await file.write(str(number) * 10_000)

        async with anyio.create_task_group() as group:
            for number in range(SIZE):
                group.start_soon(write, number)
        found = [child.name async for child in path.parent.iterdir()]
        assert len(found) == SIZE
        assert await (path.parent / "file7").read_text() == "7" * 10_000


async def limits() -> None:
    """Locks and limits that tasks and greenlets take in turn."""
    loop = asyncio.get_running_loop()
    lock = anyio.Lock()
    limiter = anyio.CapacityLimiter(2)
    inside: list[int] = []
    most: list[int] = []

    async def use(number: int) -> None:
        async with limiter:
            inside.append(number)
            most.append(len(inside))
            async with lock:
                await anyio.sleep(0)
            inside.remove(number)

    async with anyio.create_task_group() as group:
        for number in range(SIZE):
            group.start_soon(use, number)
        await asyncio.gather(
            *[greenloop.spawn(wait, use(number), loop=loop) for number in range(SIZE)]
        )
    assert max(most) == 2


async def main() -> None:
    assert isinstance(asyncio.get_running_loop(), greenloop.asyncio.EventLoop)
    for part in (sockets, scopes, threads, files, limits, others):
        await part()


def run() -> None:
    options = {"loop_factory": greenloop.asyncio.new_event_loop}
    anyio.run(main, backend="asyncio", backend_options=options)
    with from_thread.start_blocking_portal("asyncio", options) as portal:
        portal.call(sockets)


if __name__ == "__main__":
    run()
    print("done")

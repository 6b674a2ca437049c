"""A 64-byte message to and fro over a socket pair, both ends cooperative and in one thread."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, main

MESSAGE = b"m" * 64


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, socket, spawn

    here, there = socket.socketpair()

    def ask(count: int) -> None:
        for _ in repeat(None, count):
            here.sendall(MESSAGE)
            here.recv(64)

    def echo(count: int) -> None:
        for _ in repeat(None, count):
            there.sendall(there.recv(64))

    def batch(ops: int) -> None:
        joinall([spawn(ask, ops), spawn(echo, ops)], raise_error=True)

    with here, there:
        return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    import socket
    from asyncio import gather, get_running_loop

    loop = get_running_loop()
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)

    async def ask(count: int) -> None:
        for _ in repeat(None, count):
            await loop.sock_sendall(here, MESSAGE)
            await loop.sock_recv(here, 64)

    async def echo(count: int) -> None:
        for _ in repeat(None, count):
            await loop.sock_sendall(there, await loop.sock_recv(there, 64))

    async def batch(ops: int) -> None:
        await gather(ask(ops), echo(ops))

    with here, there:
        return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

"""Two greenlets or tasks that wake each other in turn through two `Event`s."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, spawn
    from gevent.event import Event

    def serve(ping: Event, pong: Event, count: int) -> None:
        for _ in repeat(None, count):
            ping.set()
            pong.wait()
            pong.clear()

    def answer(ping: Event, pong: Event, count: int) -> None:
        for _ in repeat(None, count):
            ping.wait()
            ping.clear()
            pong.set()

    def batch(ops: int) -> None:
        ping, pong = Event(), Event()
        jobs = [spawn(serve, ping, pong, ops), spawn(answer, ping, pong, ops)]
        joinall(jobs, raise_error=True)

    return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Event, gather

    async def serve(ping: Event, pong: Event, count: int) -> None:
        for _ in repeat(None, count):
            ping.set()
            await pong.wait()
            pong.clear()

    async def answer(ping: Event, pong: Event, count: int) -> None:
        for _ in repeat(None, count):
            await ping.wait()
            ping.clear()
            pong.set()

    async def batch(ops: int) -> None:
        ping, pong = Event(), Event()
        await gather(serve(ping, pong, ops), answer(ping, pong, ops))

    return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

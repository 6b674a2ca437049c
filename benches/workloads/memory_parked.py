"""Resident memory of `size` greenlets or tasks that wait for one event, bytes each.

The function each runs, the list that holds them and what the scheduler keeps for them count too.
"""

from __future__ import annotations

from benches.harness import Bench, Metrics, check, main, resident

WARM_UP = 100


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, sleep, spawn
    from gevent.event import Event

    parked = 0

    def park(event: Event) -> None:
        nonlocal parked
        parked += 1
        event.wait()

    def park_many(size: int) -> float:
        nonlocal parked
        parked = 0
        event = Event()
        before = resident()
        jobs = [spawn(park, event) for _ in range(size)]
        while parked < size:
            sleep(0)
        grown = resident() - before
        check(not any(job.ready() for job in jobs), "a greenlet did not park")
        event.set()
        joinall(jobs)
        check(all(job.successful() for job in jobs), "a parked greenlet failed")
        return grown / size

    park_many(WARM_UP)
    return {"memory": park_many(bench.size)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Event, create_task, gather, sleep

    parked = 0

    async def park(event: Event) -> None:
        nonlocal parked
        parked += 1
        await event.wait()

    async def park_many(size: int) -> float:
        nonlocal parked
        parked = 0
        event = Event()
        before = resident()
        jobs = [create_task(park(event)) for _ in range(size)]
        while parked < size:
            await sleep(0)
        grown = resident() - before
        check(not any(job.done() for job in jobs), "a task did not park")
        event.set()
        await gather(*jobs)
        return grown / size

    await park_many(WARM_UP)
    return {"memory": await park_many(bench.size)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=50_000)

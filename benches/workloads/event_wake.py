"""`size` greenlets or tasks wait for one `Event`; setting it wakes all. Per waiter and wake-up."""

from __future__ import annotations

from itertools import repeat

from benches.harness import Bench, Metrics, check, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, sleep, spawn
    from gevent.event import Event

    woken = 0

    def worker(events: list[Event]) -> None:
        nonlocal woken
        for event in events:
            event.wait()
            woken += 1

    def batch(ops: int) -> None:
        nonlocal woken
        woken = 0
        events = [Event() for _ in range(ops)]
        jobs = [spawn(worker, events) for _ in repeat(None, bench.size)]
        # Everybody waits for the first by then; those who are woken go on to the next.
        sleep(0)
        for event in events:
            event.set()
            sleep(0)
        joinall(jobs, raise_error=True)
        check(woken == ops * bench.size, "a waiter was not woken")

    return {"time": bench.seconds_per_op(batch) / bench.size}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Event, create_task, gather, sleep

    woken = 0

    async def worker(events: list[Event]) -> None:
        nonlocal woken
        for event in events:
            await event.wait()
            woken += 1

    async def batch(ops: int) -> None:
        nonlocal woken
        woken = 0
        events = [Event() for _ in range(ops)]
        jobs = [create_task(worker(events)) for _ in repeat(None, bench.size)]
        await sleep(0)
        for event in events:
            event.set()
            # A future of asyncio's wakes its task in the round after the one it is set in.
            await sleep(0)
            await sleep(0)
        await gather(*jobs)
        check(woken == ops * bench.size, "a waiter was not woken")

    return {"time": await bench.seconds_per_op_async(batch) / bench.size}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=1_000)

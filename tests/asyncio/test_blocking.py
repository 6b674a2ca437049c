"""Greenlets beside a loop, and blocking calls in its callbacks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from loop_support import running_loop

import greenloop
import greenloop.asyncio
from greenloop.event import Event
from greenloop.queue import Queue


def test_greenlets_go_on_while_a_loop_runs() -> None:
    seen: list[int] = []

    def count() -> None:
        while True:
            seen.append(1)
            greenloop.sleep(0)

    counter = greenloop.spawn(count)

    async def main() -> None:
        while len(seen) < 10:
            await asyncio.sleep(0)
        before = len(seen)
        await asyncio.sleep(0.001)
        assert len(seen) > before

    greenloop.asyncio.run(main())
    counter.kill()


def test_several_loops_run_at_once() -> None:
    async def main(number: int) -> int:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            await asyncio.sleep(0.0001)
            assert asyncio.get_running_loop() is loop
        return number

    jobs = [greenloop.spawn(greenloop.asyncio.run, main(number)) for number in range(10)]
    assert [job.get() for job in jobs] == list(range(10))
    assert running_loop() is None


def test_a_blocking_call_stops_only_its_own_task() -> None:
    gate = Event()
    seen: list[Any] = []

    async def blocked(number: int) -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        gate.wait()
        assert asyncio.current_task() is task
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        return number

    async def main() -> None:
        tasks = [asyncio.create_task(blocked(number)) for number in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        seen.append([task.done() for task in tasks])
        gate.set()
        seen.append(await asyncio.gather(*tasks))

    greenloop.asyncio.run(main())
    assert seen == [[False] * 3, [0, 1, 2]]


def test_a_task_that_is_alone_may_block() -> None:
    async def main() -> str:
        greenloop.sleep(0.001)
        await asyncio.sleep(0)
        greenloop.sleep(0)
        return "done"

    assert greenloop.asyncio.run(main()) == "done"


def test_a_run_ends_while_a_task_blocks() -> None:
    gate = Event()
    seen: list[str] = []
    tasks = []

    async def blocked() -> None:
        try:
            gate.wait()
            seen.append("went on")
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        tasks.append(asyncio.create_task(blocked()))
        await asyncio.sleep(0.001)
        greenloop.spawn_later(0.01, gate.set)

    greenloop.asyncio.run(main())
    assert seen == ["went on", "cancelled"]


def test_a_queue_between_greenlets_and_tasks() -> None:
    queue: Queue[int] = Queue()

    def produce() -> None:
        for number in range(5):
            queue.put(number)
            greenloop.sleep(0)

    async def main() -> list[int]:
        greenloop.spawn(produce)
        return [queue.get() for _ in range(5)]

    assert greenloop.asyncio.run(main()) == list(range(5))


def test_a_kill_ends_the_run_and_cancels_its_tasks() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    job = greenloop.spawn(greenloop.asyncio.run, main())
    greenloop.sleep(0.001)
    job.kill()
    assert isinstance(job.value, greenloop.GreenletExit)
    assert seen == ["cancelled"]


def test_a_timeout_ends_the_run() -> None:
    with pytest.raises(greenloop.Timeout), greenloop.Timeout(0.005):
        greenloop.asyncio.run(asyncio.sleep(60))


def test_a_timeout_does_not_hit_the_task_that_blocks() -> None:
    gate = Event()
    seen: list[str] = []

    async def main() -> None:
        gate.wait()
        seen.append("went on")

    greenloop.spawn_later(0.02, gate.set)
    with pytest.raises(greenloop.Timeout), greenloop.Timeout(0.005):
        greenloop.asyncio.run(main())
    assert seen == ["went on"]


def test_a_reader_that_blocks_is_not_called_twice() -> None:
    from greenloop import socket

    one, two = socket.socketpair()
    gate = Event()
    running = []

    def read() -> None:
        running.append(1)
        assert len(running) == 1
        gate.wait()
        one.recv(1)
        running.pop()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        two.send(b"ab")
        loop.add_reader(one, read)
        for _ in range(3):
            await asyncio.sleep(0.001)
        assert running == [1]
        gate.set()
        while two.send(b"c") and running:
            await asyncio.sleep(0.001)
        loop.remove_reader(one)

    with one, two:
        greenloop.asyncio.run(main())


def test_blocking_calls_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    def helper() -> None:
        greenloop.sleep(0.001)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, greenloop.asyncio.EventLoop)
        assert not loop.warns_of_blocking
        helper()
        loop.warns_of_blocking = True
        await asyncio.sleep(0.001)
        helper()

    greenloop.asyncio.run(main())
    [record] = caplog.records
    line = main.__code__.co_firstlineno + 7
    assert record.getMessage() == (f"Blocking call in {main.__qualname__} at {__file__}:{line}")

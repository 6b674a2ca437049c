"""An item and its answer through two `Queue`s, between two greenlets or tasks."""

from __future__ import annotations

from typing import Any

from benches.harness import Bench, Metrics, check, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, spawn
    from gevent.queue import Queue

    def ask(questions: Any, answers: Any, count: int) -> int:
        value = 0
        for _ in range(count):
            questions.put(value)
            value = answers.get()
        return value

    def reply(questions: Any, answers: Any, count: int) -> None:
        for _ in range(count):
            answers.put(questions.get() + 1)

    def batch(ops: int) -> None:
        questions: Any = Queue()
        answers: Any = Queue()
        asking, replying = (
            spawn(ask, questions, answers, ops),
            spawn(reply, questions, answers, ops),
        )
        joinall([asking], raise_error=True)
        joinall([replying], raise_error=True)
        check(asking.value == ops, "an item was lost")

    return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Queue, gather

    async def ask(questions: Queue[int], answers: Queue[int], count: int) -> int:
        value = 0
        for _ in range(count):
            await questions.put(value)
            value = await answers.get()
        return value

    async def reply(questions: Queue[int], answers: Queue[int], count: int) -> None:
        for _ in range(count):
            await answers.put(await questions.get() + 1)

    async def batch(ops: int) -> None:
        questions: Queue[int] = Queue()
        answers: Queue[int] = Queue()
        value, _ = await gather(ask(questions, answers, ops), reply(questions, answers, ops))
        check(value == ops, "an item was lost")

    return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

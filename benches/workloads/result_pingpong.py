"""Question and answer through a new `AsyncResult`, or asyncio future, each way."""

from __future__ import annotations

from typing import Any

from benches.harness import Bench, Metrics, check, main


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, spawn
    from gevent.event import AsyncResult

    def batch(ops: int) -> None:
        exchanges: list[tuple[Any, Any]] = [(AsyncResult(), AsyncResult()) for _ in range(ops)]

        def ask() -> int:
            value = 0
            for question, answer in exchanges:
                question.set(value)
                value = answer.get()
            return value

        def reply() -> None:
            for question, answer in exchanges:
                answer.set(question.get() + 1)

        asking, replying = spawn(ask), spawn(reply)
        joinall([asking], raise_error=True)
        joinall([replying], raise_error=True)
        check(asking.value == ops, "an answer was lost")

    return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import gather, get_running_loop

    new_future = get_running_loop().create_future

    async def batch(ops: int) -> None:
        exchanges = [(new_future(), new_future()) for _ in range(ops)]

        async def ask() -> int:
            value = 0
            for question, answer in exchanges:
                question.set_result(value)
                value = await answer
            return value

        async def reply() -> None:
            for question, answer in exchanges:
                answer.set_result(await question + 1)

        value, _ = await gather(ask(), reply())
        check(value == ops, "an answer was lost")

    return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

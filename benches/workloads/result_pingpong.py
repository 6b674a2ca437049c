"""Question and answer through a new `AsyncResult`, or asyncio future, each way.

At most `EXCHANGES` of each are alive at a time, whoever is measured: with as many as a batch has
operations, the fastest would have the most work for the garbage collector.
"""

from __future__ import annotations

from typing import Any

from benches.harness import Bench, Metrics, check, main

EXCHANGES = 1_000


def portions(ops: int) -> list[int]:
    """`ops` in portions of `EXCHANGES`, and the rest."""
    whole, rest = divmod(ops, EXCHANGES)
    return [EXCHANGES] * whole + [rest] * (rest > 0)


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, spawn
    from gevent.event import AsyncResult

    def exchange(count: int) -> None:
        exchanges: list[tuple[Any, Any]] = [(AsyncResult(), AsyncResult()) for _ in range(count)]

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
        check(asking.value == count, "an answer was lost")

    def batch(ops: int) -> None:
        for count in portions(ops):
            exchange(count)

    return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import gather, get_running_loop

    new_future = get_running_loop().create_future

    async def exchange(count: int) -> None:
        exchanges = [(new_future(), new_future()) for _ in range(count)]

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
        check(value == count, "an answer was lost")

    async def batch(ops: int) -> None:
        for count in portions(ops):
            await exchange(count)

    return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

"""One producer and one consumer on a bounded `Queue`."""

from __future__ import annotations

from typing import Any

from benches.harness import Bench, Metrics, check, main

BOUND = 100


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, spawn
    from gevent.queue import Queue

    def produce(queue: Any, count: int) -> None:
        put = queue.put
        for i in range(count):
            put(i)

    def consume(queue: Any, count: int) -> int:
        get = queue.get
        return sum(get() for _ in range(count))

    def batch(ops: int) -> None:
        queue: Any = Queue(BOUND)
        producer, consumer = spawn(produce, queue, ops), spawn(consume, queue, ops)
        joinall([producer], raise_error=True)
        joinall([consumer], raise_error=True)
        check(consumer.value == ops * (ops - 1) // 2, "an item was lost")

    return {"time": bench.seconds_per_op(batch)}


async def tasks(bench: Bench) -> Metrics:
    from asyncio import Queue, gather

    async def produce(queue: Queue[int], count: int) -> None:
        put = queue.put
        for i in range(count):
            await put(i)

    async def consume(queue: Queue[int], count: int) -> int:
        get = queue.get
        total = 0
        for _ in range(count):
            total += await get()
        return total

    async def batch(ops: int) -> None:
        queue: Queue[int] = Queue(BOUND)
        _, total = await gather(produce(queue, ops), consume(queue, ops))
        check(total == ops * (ops - 1) // 2, "an item was lost")

    return {"time": await bench.seconds_per_op_async(batch)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks)

"""Producers and consumers around a queue that holds only a few items.

    python -m greenloop examples/producer_consumer.py

A full queue makes the producers wait, an empty one the consumers: nothing piles up. When all is
produced, one end mark for each consumer follows.
"""

import gevent
from gevent.queue import Queue

PRODUCERS, CONSUMERS, ITEMS, ROOM = 2, 3, 20, 4


def produce(name: int, queue: Queue) -> None:
    for number in range(ITEMS):
        queue.put((name, number))


def consume(queue: Queue) -> list[tuple[int, int]]:
    taken = []
    while (item := queue.get()) is not None:
        taken.append(item)
        gevent.sleep(0.001)  # what a real consumer would wait for
    return taken


def main() -> None:
    queue: Queue = Queue(maxsize=ROOM)
    producers = [gevent.spawn(produce, name, queue) for name in range(PRODUCERS)]
    consumers = [gevent.spawn(consume, queue) for _ in range(CONSUMERS)]
    gevent.joinall(producers, raise_error=True)
    for _ in consumers:
        queue.put(None)
    taken = [item for consumer in consumers for item in consumer.get()]
    complete = sorted(taken) == [(p, n) for p in range(PRODUCERS) for n in range(ITEMS)]
    print(f"{len(taken)} items consumed, each exactly once: {complete}")
    print(f"left in the queue: {queue.qsize()}")


if __name__ == "__main__":
    main()

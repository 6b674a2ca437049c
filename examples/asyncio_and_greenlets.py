"""Coroutines and greenlets in one program: each waits for the other, in one thread.

python -m greenloop examples/asyncio_and_greenlets.py [SECONDS]

Greenlets order fruit from a server on asyncio's streams, over coroutines; the server leaves prices
to a function that blocks, in a greenlet for each. Needs greenloop: `wait` and `to_async` are its
own.
"""

import asyncio
import sys

import gevent
from gevent.queue import Queue

from greenloop.asyncio import run, to_async, wait

PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 0.2
ORDERS = {"apples": 3, "pears": 2, "plums": 12}


together = 0
most_together = 0


def price(kind: str, count: int) -> int:
    """Blocks, as a driver of a database would."""
    global together, most_together
    together += 1
    most_together = max(most_together, together)
    gevent.sleep(PAUSE)
    together -= 1
    return len(kind) * count


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    kind, count = (await reader.readline()).split()
    # A coroutine waits for a greenlet.
    total = await to_async(price)(kind.decode(), int(count))
    writer.write(b"%d\n" % total)
    writer.close()


async def ask(port: int, kind: str, count: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{kind} {count}\n".encode())
    answer = int(await reader.readline())
    writer.close()
    return answer


def buy(port: int, kind: str, count: int, bought: Queue) -> None:
    # A greenlet waits for a coroutine.
    bought.put((kind, count, wait(ask(port, kind, count))))


def order_all(port: int, bought: Queue) -> None:
    buyers = [gevent.spawn(buy, port, kind, count, bought) for kind, count in ORDERS.items()]
    gevent.joinall(buyers, raise_error=True)
    bought.put(None)


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bought: Queue = Queue()
    async with server:
        orders = gevent.spawn(order_all, port, bought)
        lines = []
        # A blocking call in a coroutine: the server goes on meanwhile.
        while (order := bought.get()) is not None:
            lines.append("{1} {0}: {2}".format(*order))
        await orders
    print(*sorted(lines), sep="\n")
    print(f"prices asked for at once: {most_together}")

    try:
        async with asyncio.timeout(PAUSE / 10):
            await gevent.spawn(price, "cherries", 100)
    except TimeoutError:
        print("too late for cherries")
    try:
        wait(asyncio.sleep(PAUSE), timeout=PAUSE / 10)
    except TimeoutError:
        print("too late for a coroutine")


if __name__ == "__main__":
    run(main())

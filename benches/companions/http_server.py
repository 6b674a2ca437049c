"""An HTTP server that answers every request after a fixed delay.

Plain asyncio, without parsing what the benchmark does not send: it must have capacity to spare.
It writes its port at the start, and the requests it answered and the CPU seconds it used when
its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time

BODY = b"hello from the benchmark server\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests have no body."""

    answered = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        self._loop = loop
        self._delay = delay
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            _, _, self._received = self._received.partition(b"\r\n\r\n")
            self._loop.call_later(self._delay, self._answer)

    def _answer(self) -> None:
        Connection.answered += 1
        if self._transport is not None:
            self._transport.write(RESPONSE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None


async def serve(delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(loop, delay), "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    cpu = time.process_time()

    input_closed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), input_closed.set)
    await input_closed.wait()
    used = time.process_time() - cpu
    print(json.dumps({"requests": Connection.answered, "cpu": used}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, required=True, help="seconds before each answer")
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    asyncio.run(serve(options.delay))


if __name__ == "__main__":
    main()

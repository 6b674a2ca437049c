"""Clients of HTTP servers that wrk cannot be: `http_clients.py idle|slow|pipeline --port PORT`.

idle: connections that have had one request answered, and then do nothing.
slow: connections that send the head of a request a byte at a time, and never all of it. Beside them
    fresh clients connect one after the other, ask for something and are answered.
pipeline: a connection that sends 100 requests at once, again and again, and looks at the order of
    the answers.

Each writes lines of JSON about what it has seen, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator

from benches.harness import raise_descriptor_limit

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Seconds for an answer: a guard, no statement about speed.
PATIENCE = 60.0
#: Each slow client sends a byte in so many seconds.
SLOW_SECONDS = 0.5
PIPELINED = 100


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


class Answers:
    """Reads answers of a known length from a connection."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._data = b""

    def __next__(self) -> bytes:
        """The body of the next answer."""
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        if lines[0].split(b" ")[1] != b"200":
            raise ConnectionError(f"the server answers {lines[0]!r}")
        fields = dict(line.lower().split(b":", 1) for line in lines[1:])
        length = int(fields[b"content-length"])
        while len(self._data) < length:
            self._more()
        body, self._data = self._data[:length], self._data[length:]
        return body

    def _more(self) -> None:
        data = self._client.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._data += data


def report(**seen: float) -> None:
    print(json.dumps(seen), flush=True)


def told_to_end(seconds: float = 0.0) -> bool:
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def idle(port: int, count: int, seconds: float) -> None:
    clients = []
    for _ in range(count):
        client = connect(port)
        client.sendall(REQUEST)
        next(Answers(client))
        clients.append(client)
    report(answered=len(clients))
    sys.stdin.read()


def _drip() -> Iterator[bytes]:
    """The head of a request that never ends, byte by byte."""
    yield from (bytes([byte]) for byte in REQUEST[:-2])
    while True:
        yield from (bytes([byte]) for byte in b"X: y\r\n")


def slow(port: int, count: int, seconds: float) -> None:
    clients = [(connect(port), _drip()) for _ in range(count)]
    for client, drip in clients:
        client.sendall(next(drip))
    report(connected=count)
    times: list[float] = []
    sent = 0
    begin = time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds and not told_to_end():
        # What is due by now, spread evenly over the clients and the time.
        for turn in range(sent, int(passed / SLOW_SECONDS * count)):
            client, drip = clients[turn % count]
            client.sendall(next(drip))
            sent += 1
        start = time.perf_counter()
        with connect(port) as fresh:
            fresh.sendall(REQUEST)
            next(Answers(fresh))
        times.append(time.perf_counter() - start)
    times.sort()
    report(
        answered=len(times),
        bytes=sent,
        median=times[len(times) // 2],
        p99=times[int(len(times) * 0.99)],
        worst=times[-1],
    )


def pipeline(port: int, count: int, seconds: float) -> None:
    paths = [b"/%d" % number for number in range(PIPELINED)]
    requests = b"".join(REQUEST.replace(b"/", path, 1) for path in paths)
    answered = 0
    begin = time.perf_counter()
    with connect(port) as client:
        answers = Answers(client)
        while (passed := time.perf_counter() - begin) < seconds and not told_to_end():
            client.sendall(requests)
            for path in paths:
                if (body := next(answers)) != path:
                    raise ConnectionError(f"asked for {path!r}, was answered {body!r}")
            answered += PIPELINED
    report(answered=answered, seconds=passed)


KINDS = {"idle": idle, "slow": slow, "pipeline": pipeline}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    raise_descriptor_limit(options.connections + 64)
    KINDS[options.kind](options.port, options.connections, options.seconds)


if __name__ == "__main__":
    main()

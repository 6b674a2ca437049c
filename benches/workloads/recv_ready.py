"""`recv` of 64 bytes that are there already, so that nobody has to wait.

Beside greenlets: the same call of the standard library's socket, blocking, in a plain thread.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

from benches.harness import Bench, Metrics, check, main

BYTES = 64
# What is put there at once: below what a socket's buffer holds.
CALLS_PER_FILL = 512


def measure(bench: Bench, make_connection: Callable[[], tuple[Any, Any]]) -> Metrics:
    here, there = make_connection()
    fill = b"m" * (BYTES * CALLS_PER_FILL)

    def batch(ops: int) -> None:
        fills = -(-ops // CALLS_PER_FILL)
        calls = ops // fills
        for _ in repeat(None, fills):
            there.sendall(fill)
            for _ in repeat(None, calls):
                here.recv(BYTES)
            left = len(fill) - calls * BYTES
            while left:
                left -= len(here.recv(left))

    with here, there:
        there.sendall(fill[:BYTES])
        check(here.recv(4096) == fill[:BYTES], "the bytes did not come whole")
        return {"time": bench.seconds_per_op(batch)}


def greenlets(bench: Bench) -> Metrics:
    from gevent import socket

    return measure(bench, socket.socketpair)


def blocking(bench: Bench) -> Metrics:
    import socket

    return measure(bench, socket.socketpair)


if __name__ == "__main__":
    main(greenlets=greenlets, blocking=blocking)

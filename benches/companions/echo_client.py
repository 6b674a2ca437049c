"""A load generator for echo servers: each connection sends a message when the last came back.

It ends by itself when every connection has sent all its messages.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys

from benches.harness import raise_descriptor_limit

MESSAGE = b"m" * 64


def run(port: int, connections: int, messages: int) -> None:
    """Open `connections` and send `messages` on each. Raises ConnectionError if one is cut."""
    raise_descriptor_limit(connections + 64)
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    received: dict[int, int] = {}
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[client.fileno()] = client
        received[client.fileno()] = 0
        epoll.register(client.fileno(), select.EPOLLIN)
    # The end of standard input: the worker is gone.
    epoll.register(sys.stdin.fileno(), select.EPOLLIN)
    for client in sockets.values():
        client.sendall(MESSAGE)

    size, total = len(MESSAGE), len(MESSAGE) * messages
    unfinished = connections
    while unfinished:
        for descriptor, _ in epoll.poll():
            if descriptor not in sockets:
                return
            data = sockets[descriptor].recv(size)
            if not data:
                raise ConnectionError("the echo server closed a connection")
            received[descriptor] += len(data)
            if received[descriptor] == total:
                unfinished -= 1
            elif received[descriptor] % size == 0:
                sockets[descriptor].sendall(MESSAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True, help="on each connection")
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    run(options.port, options.connections, options.messages)


if __name__ == "__main__":
    main()

"""A load generator for TLS echo servers: each connection sends its message when the last came back.

After a warm-up it counts messages for some seconds, and reads the server's CPU clock at both ends
of them. Then it closes, and writes one line of JSON. It ends early when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import ssl
import sys
import time

from benches.harness import raise_descriptor_limit


def connect(port: int, count: int) -> dict[int, ssl.SSLSocket]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    clients = {}
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = context.wrap_socket(plain)
        client.setblocking(False)
        clients[client.fileno()] = client
    return clients


def run(clients: dict[int, ssl.SSLSocket], size: int, seconds: float) -> int | None:
    """Have messages echoed for so long; return how many, None if the program has to end.

    All connections are idle before and after.
    """
    message = b"m" * size
    missing = {}
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    for descriptor, client in clients.items():
        poll.register(descriptor, select.EPOLLIN)
        client.write(message)
        missing[descriptor] = size
    end = time.perf_counter() + seconds
    busy, echoed = len(clients), 0
    while busy:
        for descriptor, _ in poll.poll():
            if descriptor not in clients:
                return None
            client = clients[descriptor]
            try:
                data = client.read(size)
            except ssl.SSLWantReadError:
                continue
            if not data:
                raise ConnectionError("the echo server closed a connection")
            missing[descriptor] -= len(data)
            if missing[descriptor] == 0:
                echoed += 1
                if time.perf_counter() < end:
                    client.write(message)
                    missing[descriptor] = size
                else:
                    busy -= 1
    return echoed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True, help="of a message; a TLS record's")
    parser.add_argument("--warm-up", type=float, required=True, help="seconds")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    raise_descriptor_limit(options.connections + 64)
    # The number that Linux gives to the CPU clock of another process.
    clock = (~options.pid << 3) | 2
    clients = connect(options.port, options.connections)
    if run(clients, options.bytes, options.warm_up) is None:
        return
    start, cpu = time.perf_counter(), time.clock_gettime(clock)
    messages = run(clients, options.bytes, options.seconds)
    if messages is None:
        return
    cpu, seconds = time.clock_gettime(clock) - cpu, time.perf_counter() - start
    for client in clients.values():
        client.close()
    print(json.dumps({"messages": messages, "seconds": seconds, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()

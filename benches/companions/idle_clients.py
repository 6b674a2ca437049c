"""Clients of an echo server that send one byte each, have it back, and then do nothing.

Writes a line of JSON when all have been answered, and closes them when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys

from benches.harness import raise_descriptor_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    raise_descriptor_limit(options.connections + 64)
    address = ("127.0.0.1", options.port)
    clients = [socket.create_connection(address) for _ in range(options.connections)]
    for client in clients:
        client.sendall(b"m")
    for client in clients:
        if client.recv(1) != b"m":
            raise ConnectionError("the echo server closed a connection")
    print(json.dumps({"answered": len(clients)}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""An echo server on plain sockets, one greenlet for each client, and clients that talk to it.

    python -m greenloop examples/echo_server.py [CLIENTS]

CLIENTS is 50 if not given.
"""

import sys

import gevent
from gevent import socket

MESSAGES = 3


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def accept_clients(listener: socket.socket) -> None:
    while True:
        connection, _address = listener.accept()
        gevent.spawn(echo, connection)


def talk(address: tuple[str, int], name: str) -> int:
    """Send some lines and wait for each to come back; return how many did."""
    with socket.create_connection(address) as connection, connection.makefile("rwb") as lines:
        for number in range(MESSAGES):
            line = f"{name} says {number}\n".encode()
            lines.write(line)
            lines.flush()
            assert lines.readline() == line
    return MESSAGES


def main(clients: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        server = gevent.spawn(accept_clients, listener)
        address = listener.getsockname()
        talks = [gevent.spawn(talk, address, f"client {number}") for number in range(clients)]
        echoed = sum(talk.get() for talk in talks)
        server.kill()
    print(f"{clients} clients had {echoed} lines echoed")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)

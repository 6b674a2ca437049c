"""paramiko: commands over ten connections, ten channels in each."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import paramiko
from support import HOST, Where
from support import Library as Base

# It tells of the connections that the checks break.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Gate:
    """A directory of pipes: a call makes one, and reads a line from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ends: list[int] = []

    def held(self) -> int:
        return len(list(self.directory.iterdir()))

    def open(self) -> None:
        for pipe in self.directory.iterdir():
            # With both ends in one descriptor this waits for no reader.
            self.ends.append(os.open(pipe, os.O_RDWR))
            os.write(self.ends[-1], b"go\n")

    def close(self) -> None:
        for end in self.ends:
            os.close(end)


class Library(Base):
    # EOFError: a command may run, and its call be held, before it is known that it was accepted.
    lost = (paramiko.SSHException, EOFError)
    connections = 10

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.directory = Path(tempfile.mkdtemp())
        self.key = paramiko.Ed25519Key.from_private_key_file(f"{where.more['directory']}/user_key")
        self.clients: list[paramiko.SSHClient | None] = [None] * self.connections
        self.gates: list[Gate] = []
        self.connect()

    def connect(self) -> None:
        """Have all connections, and anew those that are lost."""
        for at, client in enumerate(self.clients):
            if client is not None:
                if client.get_transport() is not None and client.get_transport().is_active():
                    continue
                client.close()
            self.clients[at] = client = paramiko.SSHClient()
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            client.connect(
                HOST,
                self.where.port,
                self.where.more["user"],
                pkey=self.key,
                allow_agent=False,
                look_for_keys=False,
            )

    def gate(self) -> Gate:
        self.connect()
        self.gates.append(Gate(Path(tempfile.mkdtemp(dir=self.directory))))
        return self.gates[-1]

    def call(self, gate: Gate, number: int) -> None:
        transport = self.clients[number % self.connections].get_transport()
        with closing(transport.open_session()) as channel:
            pipe = gate.directory / str(number)
            channel.exec_command(f"mkfifo {pipe}; read line < {pipe}; echo $line {number}")
            got = channel.makefile().read()
            if channel.recv_exit_status() == -1:
                # No status is how a channel tells of a lost connection. What is next, raises.
                transport.open_session()
            assert got == f"go {number}\n".encode()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for gate in self.gates:
            gate.close()
        shutil.rmtree(self.directory)

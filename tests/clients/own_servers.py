"""Servers of the tests' own, in the test process on native threads: each holds calls at a gate.

A call carries the name of its gate and a number. The server answers, with the number in it, once
the gate is open.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import socketserver
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from control import HOST, Gates, serving
from mongo_server import MongoHandler


def answer_to(number: int) -> str:
    """What a server says to a call. Long enough to come in pieces."""
    return f"answer {number} " * 20


class GateServer(socketserver.ThreadingTCPServer):
    """A TCP server whose handlers find gates at it."""

    daemon_threads = True
    # Calls that wait at a gate must not keep the server from being closed.
    block_on_close = False
    request_queue_size = 200

    def __init__(self, handler: type[socketserver.BaseRequestHandler], gates: Gates) -> None:
        super().__init__((HOST, 0), handler)
        self.gates = gates

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class HTTPHandler(BaseHTTPRequestHandler):
    """GET /KEY/NUMBER. Odd numbers are held before the headers, even ones within the body.

    It is enough of S3, too: an object's name is its number, its bucket the key.
    """

    protocol_version = "HTTP/1.1"
    server: GateServer

    def do_GET(self) -> None:
        _, key, number = self.path.partition("?")[0].split("/")
        body = answer_to(int(number)).encode()
        early = int(number) % 2 == 1
        if early:
            self.server.gates.wait(key)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(body[:10])
        if not early:
            self.server.gates.wait(key)
        self.wfile.write(body[10:])

    def log_message(self, format: str, *args: Any) -> None:
        pass


class WebSocketHandler(socketserver.StreamRequestHandler):
    """WebSocket: a message "KEY NUMBER", unfragmented, is answered by one message."""

    server: GateServer
    TEXT, CLOSE = 1, 8

    def handle(self) -> None:
        key = ""
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(": ")
            if name.lower() == "sec-websocket-key":
                key = value
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(digest)
        )
        while True:
            kind, payload = self.read_message()
            if kind == self.CLOSE:
                self.write_message(kind, payload)
                return
            gate, _, number = payload.decode().partition(" ")
            self.server.gates.wait(gate)
            self.write_message(self.TEXT, answer_to(int(number)).encode())

    def read_message(self) -> tuple[int, bytes]:
        kind, size = struct.unpack("!BB", self.rfile.read(2))
        assert size & 0x80, "clients have to mask"
        size &= 0x7F
        assert size < 126
        mask = self.rfile.read(4)
        masked = self.rfile.read(size)
        return kind & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))

    def write_message(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        head = struct.pack("!BB", 0x80 | kind, size) if size < 126 else None
        self.wfile.write((head or struct.pack("!BBH", 0x80 | kind, 126, size)) + payload)


class LineHandler(socketserver.StreamRequestHandler):
    """What the older protocols have in common: lines of a command and its arguments."""

    server: GateServer
    greeting = ""

    def handle(self) -> None:
        self.say(self.greeting)
        while line := self.rfile.readline().decode().strip():
            if self.answer(line) is False:
                return

    def answer(self, line: str) -> bool | None:
        raise NotImplementedError

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class SMTPHandler(LineHandler):
    """Takes mail from KEY@..., and answers at its end."""

    greeting = "220 ready"
    sender = ""

    def answer(self, line: str) -> bool | None:
        command = line.upper()
        if command.startswith("MAIL FROM:"):
            self.sender = line.partition("<")[2].partition("@")[0]
        if command == "DATA":
            self.say("354 go on")
            while self.rfile.readline() != b".\r\n":
                pass
            self.server.gates.wait(self.sender)
        self.say("221 bye" if command == "QUIT" else "250 fine")
        return command != "QUIT"


class FTPHandler(LineHandler):
    """RETR KEY/NUMBER, in passive mode."""

    greeting = "220 ready"

    def answer(self, line: str) -> bool | None:
        command, _, argument = line.partition(" ")
        simple = {"USER": "331 whose?", "PASS": "230 hello", "TYPE": "200 fine", "QUIT": "221 bye"}
        if command in ("EPSV", "PASV"):
            self.data = socket.create_server((HOST, 0))
            port = self.data.getsockname()[1]
            if command == "EPSV":
                self.say(f"229 here (|||{port}|)")
            else:
                self.say(f"227 here (127,0,0,1,{port >> 8},{port & 255})")
        elif command == "RETR":
            key, _, number = argument.partition("/")
            self.server.gates.wait(key)
            self.say("150 it comes")
            with self.data, self.data.accept()[0] as connection:
                connection.sendall(answer_to(int(number)).encode())
            self.say("226 that was it")
        else:
            self.say(simple.get(command, "502 what?"))
        return command != "QUIT"


class IMAPHandler(LineHandler):
    """FETCH NUMBER, of a mailbox that is called KEY."""

    greeting = "* OK IMAP4rev1 ready"
    box = ""

    def answer(self, line: str) -> bool | None:
        tag, command, *words = line.split()
        if command == "CAPABILITY":
            self.say("* CAPABILITY IMAP4rev1")
        elif command == "SELECT":
            self.box = words[0].strip('"')
            self.say("* 1 EXISTS")
        elif command == "FETCH":
            self.server.gates.wait(self.box)
            body = answer_to(int(words[0]))
            self.say(f"* {words[0]} FETCH (BODY[] {{{len(body)}}}\r\n{body})")
        elif command == "LOGOUT":
            self.say("* BYE")
        self.say(f"{tag} OK done")
        return command != "LOGOUT"


class POPHandler(LineHandler):
    """RETR NUMBER, by a user who is called KEY."""

    greeting = "+OK ready"
    user = ""

    def answer(self, line: str) -> bool | None:
        command, _, argument = line.partition(" ")
        if command == "USER":
            self.user = argument
        self.say("+OK")
        if command == "RETR":
            self.server.gates.wait(self.user)
            self.say(f"{answer_to(int(argument))}\r\n.")
        return command != "QUIT"


def dns_answer(query: bytes, gates: Gates) -> bytes:
    """The answer to a query for NUMBER.KEY.test: the address 10.0.0.NUMBER."""
    end = query.index(0, 12)
    labels, at = [], 12
    while at < end:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    number, key, _ = labels
    gates.wait(key)
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    record = struct.pack("!HHHIHBBBB", 0xC00C, 1, 1, 60, 4, 10, 0, 0, int(number))
    return head + query[12 : end + 5] + record


class DNSHandler(socketserver.StreamRequestHandler):
    """DNS over TCP."""

    server: GateServer

    def handle(self) -> None:
        while size := self.rfile.read(2):
            answer = dns_answer(self.rfile.read(*struct.unpack("!H", size)), self.server.gates)
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


class DatagramDNSHandler(socketserver.DatagramRequestHandler):
    server: DatagramDNSServer  # type: ignore[assignment]

    def handle(self) -> None:
        self.wfile.write(dns_answer(self.rfile.read(), self.server.gates))


class DatagramDNSServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, gates: Gates) -> None:
        super().__init__((HOST, port), DatagramDNSHandler)
        self.gates = gates


HANDLERS: dict[str, type[socketserver.BaseRequestHandler]] = {
    "ftp": FTPHandler,
    "http": HTTPHandler,
    "imap": IMAPHandler,
    "mongo": MongoHandler,
    "pop": POPHandler,
    "smtp": SMTPHandler,
    "websocket": WebSocketHandler,
}


def dns_servers(gates: Gates) -> list[socketserver.BaseServer]:
    """Servers for TCP and UDP on one port."""
    while True:
        streams = GateServer(DNSHandler, gates)
        try:
            return [streams, DatagramDNSServer(streams.server_address[1], gates)]
        except OSError:  # for datagrams somebody else has the port
            streams.server_close()


@contextmanager
def grpc_server(control: int) -> Iterator[int]:
    """Run grpc_server.py while the body runs; the value is its port."""
    command = [sys.executable, str(Path(__file__).with_name("grpc_server.py")), str(control)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def own_server(name: str, gates: Gates) -> Iterator[int]:
    """Run one of HANDLERS, or "dns", while the body runs; its value is the port."""
    servers = dns_servers(gates) if name == "dns" else [GateServer(HANDLERS[name], gates)]
    with serving(*servers):
        yield servers[0].server_address[1]

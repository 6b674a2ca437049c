"""A name server of the tests' own, on UDP and TCP, in native threads.

It uses the standard library alone: it is also run by scripts, with whatever patched or not.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

A, CNAME, SOA, PTR, TXT, AAAA, OPT = 1, 5, 6, 12, 16, 28, 41
TYPES = {"A": A, "CNAME": CNAME, "PTR": PTR, "TXT": TXT, "AAAA": AAAA}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

# Read from and written to in blocks by the threads of the real standard library.
_socket = socket.socket


def encode_name(name: str) -> bytes:
    """A name as it goes over the wire; labels may have any Latin-1 characters but dots."""
    labels = [label.encode("latin-1") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def reverse_name(address: str) -> str:
    """The name that stands for an address."""
    return ipaddress.ip_address(address).reverse_pointer


@dataclass
class Query:
    """What was asked, and how."""

    name: str
    kind: int
    transport: str
    id: int
    port: int
    edns: bool
    raw: bytes = field(repr=False)

    @property
    def question(self) -> tuple[str, int]:
        return self.name.lower(), self.kind


@dataclass
class Reply:
    """An answer: a code and records `(name, type, ttl, data)`."""

    code: int = NOERROR
    answers: list[tuple[str, int, int, str]] = field(default_factory=list)
    #: The TTL and the minimum of the zone's SOA in the authority section; None for no SOA.
    soa: tuple[int, int] | None = None

    def encode(self, query: Query, limit: int) -> bytes:
        question = query.raw[12 : _question_end(query.raw)]
        body = b"".join(_record(*answer) for answer in self.answers)
        authority = b""
        if self.soa is not None:
            ttl, minimum = self.soa
            data = encode_name("ns.test") + encode_name("root.test")
            data += struct.pack(">5I", 1, 2, 3, 4, minimum)
            authority = encode_name("test") + struct.pack(">HHIH", SOA, 1, ttl, len(data)) + data
        flags = 0x8180 | self.code
        counts = (1, len(self.answers), int(self.soa is not None), 0)
        if 12 + len(question) + len(body) + len(authority) > limit:
            flags, counts, body, authority = flags | 0x0200, (1, 0, 0, 0), b"", b""
        return struct.pack(">HH4H", query.id, flags, *counts) + question + body + authority


def _record(name: str, kind: int, ttl: int, data: str) -> bytes:
    if kind in (A, AAAA):
        packed = ipaddress.ip_address(data).packed
    elif kind in (CNAME, PTR):
        packed = encode_name(data)
    else:
        packed = bytes([len(data)]) + data.encode()
    return encode_name(name) + struct.pack(">HHIH", kind, 1, ttl, len(packed)) + packed


def _question_end(message: bytes) -> int:
    at = 12
    while message[at]:
        at += 1 + message[at]
    return at + 5


def parse_query(message: bytes, transport: str, port: int) -> Query:
    end = _question_end(message)
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode("latin-1"))
        at += 1 + message[at]
    (kind,) = struct.unpack(">H", message[end - 4 : end - 2])
    (extra,) = struct.unpack(">H", message[10:12])
    (number,) = struct.unpack(">H", message[:2])
    return Query(".".join(labels), kind, transport, number, port, extra > 0, message)


class Zone:
    """What the server knows: records by name, and names that it has a special way with."""

    def __init__(self) -> None:
        self.records: dict[str, list[tuple[str, int, int, str]]] = {}
        self.codes: dict[str, int] = {}
        self.silent: set[str] = set()
        self.soa: tuple[int, int] | None = None

    def add(self, name: str, kind: str, *data: str, ttl: int = 300) -> None:
        """Add a record for each of the data."""
        entries = self.records.setdefault(name.lower(), [])
        entries += [(name, TYPES[kind], ttl, one) for one in data]

    def answer(self, query: Query) -> Reply | None:
        """What to say; None for nothing."""
        name, kind = query.question
        if name in self.silent:
            return None
        if name in self.codes:
            return Reply(self.codes[name])
        answers: list[tuple[str, int, int, str]] = []
        for _ in range(10):
            if name not in self.records:
                # There are names below it.
                exists = any(other.endswith(f".{name}") for other in self.records)
                return Reply(NOERROR if exists else NXDOMAIN, answers, self.soa)
            alias = [one for one in self.records[name] if one[1] == CNAME]
            if not alias or kind == CNAME:
                break
            answers += alias
            name = alias[0][3].lower()
        answers += [one for one in self.records.get(name, ()) if one[1] == kind]
        found = any(one[1] == kind for one in answers)
        return Reply(NOERROR, answers, None if found else self.soa)


class Server:
    """Answers on a port of a loopback address, any by default.

    `answer` makes the reply to a query: a Reply, bytes to be sent as they are, a list of those, or
    None for nothing.
    """

    def __init__(
        self,
        answer: Callable[[Query], Reply | bytes | Iterable[bytes] | None],
        address: tuple[str, int] = ("127.0.0.1", 0),
        tcp: bool = True,
    ) -> None:
        self.answer = answer
        self.queries: list[Query] = []
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        for _ in range(100):
            self._udp = _socket(family, socket.SOCK_DGRAM)
            self._udp.bind(address)
            self._tcp = _socket(family, socket.SOCK_STREAM)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._tcp.bind(self._udp.getsockname()[:2])
            except OSError:
                # Somebody else has that port of TCP.
                self._udp.close()
                self._tcp.close()
                continue
            break
        self.address, self.port = self._udp.getsockname()[:2]
        host = f"[{self.address}]" if ":" in self.address else self.address
        self.name = f"{host}:{self.port}"
        self._threads = [threading.Thread(target=self._serve_udp, daemon=True)]
        if tcp:
            self._tcp.listen(100)
            self._threads.append(threading.Thread(target=self._serve_tcp, daemon=True))
        for thread in self._threads:
            thread.start()

    def asked(self, name: str, kind: str = "A") -> int:
        """How many times something has been asked."""
        return sum(query.question == (name, TYPES[kind]) for query in self.queries)

    def _replies(self, query: Query, limit: int) -> list[bytes]:
        self.queries.append(query)
        reply = self.answer(query)
        if reply is None:
            return []
        if isinstance(reply, Reply):
            return [reply.encode(query, limit)]
        return [reply] if isinstance(reply, bytes) else list(reply)

    def _serve_udp(self) -> None:
        while True:
            try:
                message, peer = self._udp.recvfrom(65535)
            except OSError:
                return
            if not message:
                return
            # Apart, as one that takes its time must not hold up others.
            threading.Thread(target=self._reply_udp, args=(message, peer), daemon=True).start()

    def _reply_udp(self, message: bytes, peer: Any) -> None:
        query = parse_query(message, "udp", peer[1])
        for reply in self._replies(query, 1232 if query.edns else 512):
            with contextlib.suppress(OSError):
                self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, peer = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._reply_tcp, args=(connection, peer), daemon=True).start()

    def _reply_tcp(self, connection: socket.socket, peer: Any) -> None:
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            while size := file.read(2):
                message = file.read(int.from_bytes(size, "big"))
                for reply in self._replies(parse_query(message, "tcp", peer[1]), 65535):
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)

    def close(self) -> None:
        """Stop answering."""
        # Ends the thread's wait, which closing does not.
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            _socket(self._udp.family, socket.SOCK_DGRAM).sendto(b"", (self.address, self.port))
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

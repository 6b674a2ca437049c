"""What the tests of WebSockets share: frames, and a client that sends and receives them."""

from __future__ import annotations

import os
import struct
from typing import Any

from wsgi_support import Client

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN, COMPRESSED = 0x80, 0x40

#: A request for a WebSocket.
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

#: What ASGI applications accept it with.
ACCEPT = {"type": "websocket.accept"}


def frame(first: int, payload: bytes = b"") -> bytes:
    """A frame as clients send them: masked."""
    mask = os.urandom(4)
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 65536:
        length = struct.pack("!BH", 0x80 | 126, len(payload))
    else:
        length = struct.pack("!BQ", 0x80 | 127, len(payload))
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([first]) + length + mask + masked


def closing(code: int, reason: str = "") -> bytes:
    return frame(FIN | CLOSE, struct.pack("!H", code) + reason.encode())


class Peer(Client):
    """A client that has asked for a WebSocket."""

    def __init__(self, server: Any, *headers: str) -> None:
        super().__init__(server)
        self.answer = self.get(
            "/",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        )

    def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte, and what is in it."""
        first, length = self.stream.read(2)
        assert length < 128, "a server's frames are not masked"
        if length == 126:
            (length,) = struct.unpack("!H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.stream.read(8))
        return first, self.stream.read(length)

    def closed(self) -> int | None:
        """The code of the close frame that comes next, and nothing after that."""
        first, payload = self.frame()
        assert first == FIN | CLOSE
        code = struct.unpack("!H", payload[:2])[0] if payload else None
        self.send(frame(FIN | CLOSE, payload))
        assert self.rest() == b""
        return code


#: What a client does, and the code that it is closed with.
BROKEN = {
    "no mask": (bytes([FIN | TEXT, 1]) + b"a", 1002),
    "reserved bit": (frame(FIN | 0x10 | TEXT), 1002),
    "compression that was not agreed on": (frame(FIN | COMPRESSED | TEXT), 1002),
    "reserved opcode": (frame(FIN | 3), 1002),
    "reserved control opcode": (frame(FIN | 11), 1002),
    "long ping": (frame(FIN | PING, b"x" * 126), 1002),
    "fragmented ping": (frame(PING), 1002),
    "continuation of nothing": (frame(FIN), 1002),
    "message in a message": (frame(TEXT) + frame(FIN | TEXT), 1002),
    "text that is not UTF-8": (frame(FIN | TEXT, b"\xff"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0") + frame(FIN, b"\x80"), 1007),
    "half a character": (frame(FIN | TEXT, b"\xc3"), 1007),
    "too long": (frame(FIN | BINARY, b"x" * 1001), 1009),
    "too long in fragments": (frame(BINARY, b"x" * 1000) + frame(FIN, b"x"), 1009),
    "half a code": (frame(FIN | CLOSE, b"\x03"), 1002),
    "code that must not be sent": (closing(1005), 1002),
    "code that nobody knows": (closing(2999), 1002),
    "reason that is not UTF-8": (frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
}

"""Enough of MongoDB's protocol for pymongo to read documents: Debian has no MongoDB server.

A call is a `find` in a collection that has the name of its gate; its filter has the number.
"""

from __future__ import annotations

import socketserver
import struct
from typing import Any

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


class MongoHandler(socketserver.StreamRequestHandler):
    """A connection, over which commands come one after the other."""

    server: Any

    def handle(self) -> None:
        # pymongo's. Where that is not installed nobody asks for this server.
        import bson

        while head := self.rfile.read(16):
            size, number, _, kind = struct.unpack("<iiii", head)
            body = self.rfile.read(size - 16)
            if kind == OP_QUERY:
                # The first command of a connection, from clients that do not know the server yet.
                # The name of the collection and two numbers come before it.
                at = body.index(0, 4) + 9
                answer = struct.pack("<iqii", 8, 0, 0, 1)
                kind = OP_REPLY
            else:
                at = 5
                answer = struct.pack("<iB", 0, 0)
            (size,) = struct.unpack_from("<i", body, at)
            answer += bson.encode(self.answer(bson.decode(body[at : at + size])))
            self.wfile.write(struct.pack("<iiii", 16 + len(answer), 0, number, kind) + answer)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        name = next(iter(command))
        if name in ("hello", "isMaster", "ismaster"):
            return {
                "isWritablePrimary": True,
                "ismaster": True,
                "helloOk": True,
                "maxBsonObjectSize": 2**24,
                "minWireVersion": 0,
                "maxWireVersion": 21,
                "ok": 1,
            }
        if name == "find":
            key = command["find"]
            self.server.gates.wait(key)
            number = command["filter"]["number"]
            cursor = {
                "id": 0,
                "ns": f"{command['$db']}.{key}",
                "firstBatch": [{"number": number, "answer": f"answer {number} " * 20}],
            }
            return {"cursor": cursor, "ok": 1}
        return {"ok": 1}

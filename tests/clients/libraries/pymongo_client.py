"""pymongo, whose client has a pool, and threads of its own that look after it."""

from __future__ import annotations

import threading

import pymongo
from pymongo.errors import AutoReconnect
from support import HOST, Gate, Where, answer_to
from support import Library as Base


class Library(Base):
    lost = (AutoReconnect,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.client = pymongo.MongoClient(
            HOST,
            where.port,
            directConnection=True,
            maxPoolSize=self.size,
            maxConnecting=self.size,
            retryReads=False,
            serverSelectionTimeoutMS=60_000,
            tls=where.authority is not None,
            tlsCAFile=where.authority,
        )

    def call(self, gate: Gate, number: int) -> None:
        found = self.client.test[gate.key].find_one({"number": number})
        assert found == {"number": number, "answer": answer_to(number)}

    def close(self) -> None:
        self.client.close()
        # That tells the threads that watch the server to end, and does not wait until they have
        # closed their connections.
        for thread in threading.enumerate():
            if thread.name.startswith("pymongo_"):
                thread.join()

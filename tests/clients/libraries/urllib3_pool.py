"""urllib3, with a pool that blocks when it has lent all of its connections."""

from __future__ import annotations

import urllib3
from support import HOST, Gate, Where, answer_to
from support import Library as Base


class Library(Base):
    lost = (urllib3.exceptions.ProtocolError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.pool = urllib3.HTTPConnectionPool(
            HOST, where.port, maxsize=self.size, block=True, retries=False
        )

    def call(self, gate: Gate, number: int) -> None:
        answer = self.pool.request("GET", f"/{gate.key}/{number}")
        assert answer.data.decode() == answer_to(number)

    def close(self) -> None:
        self.pool.close()

"""httpx, the blocking client."""

from __future__ import annotations

import httpx
from support import HOST, Gate, Where, answer_to
from support import Library as Base


class Library(Base):
    lost = (httpx.TransportError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        limits = httpx.Limits(max_connections=self.size, max_keepalive_connections=self.size)
        tls = where.tls()
        self.scheme = "https" if tls else "http"
        self.client = httpx.Client(
            limits=limits, timeout=None, trust_env=False, verify=tls or False
        )

    def call(self, gate: Gate, number: int) -> None:
        answer = self.client.get(f"{self.scheme}://{HOST}:{self.where.port}/{gate.key}/{number}")
        assert answer.text == answer_to(number)

    def close(self) -> None:
        self.client.close()

"""requests, with a session whose pool lets calls wait for a connection."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter
from support import HOST, Gate, Where, answer_to
from support import Library as Base


class Library(Base):
    lost = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.session = requests.Session()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self.size, pool_block=True)
        self.scheme = "https" if where.authority else "http"
        self.session.mount(f"{self.scheme}://", adapter)
        self.session.verify = where.authority
        # The environment may name authorities, which would count instead.
        self.session.trust_env = False

    def call(self, gate: Gate, number: int) -> None:
        answer = self.session.get(f"{self.scheme}://{HOST}:{self.where.port}/{gate.key}/{number}")
        assert answer.text == answer_to(number)

    def close(self) -> None:
        self.session.close()

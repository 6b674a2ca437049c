"""poplib: one message for each connection."""

from __future__ import annotations

import poplib
from contextlib import closing

from support import HOST, Gate, answer_to
from support import Library as Base


class Library(Base):
    # It does not make ECONNRESET an error of its own.
    lost = (poplib.error_proto, ConnectionResetError)

    def call(self, gate: Gate, number: int) -> None:
        with closing(poplib.POP3(HOST, self.where.port)) as client:
            client.user(gate.key)
            _, lines, _ = client.retr(number)
        assert [line.decode() for line in lines] == [answer_to(number)]

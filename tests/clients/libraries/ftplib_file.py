"""ftplib: one file for each connection.

As a context manager a client would say QUIT after an error, and wait for the answer.
"""

from __future__ import annotations

import ftplib
from contextlib import closing

from support import HOST, Gate, answer_to
from support import Library as Base


class Library(Base):
    lost = ftplib.all_errors

    def call(self, gate: Gate, number: int) -> None:
        got: list[bytes] = []
        with closing(ftplib.FTP()) as client:
            client.connect(HOST, self.where.port)
            client.login()
            client.retrbinary(f"RETR {gate.key}/{number}", got.append)
            client.quit()
        assert b"".join(got).decode() == answer_to(number)

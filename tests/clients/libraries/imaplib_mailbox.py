"""imaplib: one message for each connection."""

from __future__ import annotations

import imaplib

from support import HOST, Gate, answer_to
from support import Library as Base


class Library(Base):
    # It does not make ECONNRESET an error of its own.
    lost = (imaplib.IMAP4.abort, ConnectionResetError)

    def call(self, gate: Gate, number: int) -> None:
        where, tls = (HOST, self.where.port), self.where.tls()
        client = imaplib.IMAP4_SSL(*where, ssl_context=tls) if tls else imaplib.IMAP4(*where)
        try:
            client.login("user", "password")
            client.select(gate.key)
            status, ((_, body), _) = client.fetch(str(number), "(BODY[])")
        finally:
            # Not as a context manager: it would say LOGOUT after an error, and wait for the answer.
            client.shutdown()
        assert (status, body.decode()) == ("OK", answer_to(number))

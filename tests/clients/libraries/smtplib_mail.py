"""smtplib: one mail for each connection.

As a context manager a client would say QUIT after an error, and wait for the answer.
"""

from __future__ import annotations

import smtplib
from contextlib import closing

from support import HOST, Gate
from support import Library as Base


class Library(Base):
    lost = (smtplib.SMTPServerDisconnected,)

    def call(self, gate: Gate, number: int) -> None:
        where, tls = (HOST, self.where.port, "localhost"), self.where.tls()
        made = smtplib.SMTP_SSL(*where, context=tls) if tls else smtplib.SMTP(*where)
        with closing(made) as client:
            client.sendmail(f"{gate.key}@test", [f"{number}@test"], f"Subject: {number}\n\nhello")
            client.quit()

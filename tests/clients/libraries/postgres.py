"""What the libraries for PostgreSQL share: a gate made of an advisory lock."""

from __future__ import annotations

from typing import Any

from support import HOST, unique


def dsn(port: int) -> str:
    """What to connect to."""
    return f"host={HOST} port={port} user=postgres dbname=postgres sslmode=disable"


class Gate:
    """An advisory lock, whose number is that of the gate: a call shares it."""

    def __init__(self, connection: Any) -> None:
        self.key = unique()
        self.connection = connection
        self.do("SELECT pg_advisory_lock(%s)", self.key)

    def do(self, statement: str, *args: object) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, args)
            return cursor.fetchone()[0]

    def held(self) -> int:
        return int(
            self.do(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s "
                "AND NOT granted",
                self.key,
            )
        )

    def open(self) -> None:
        assert self.do("SELECT pg_advisory_unlock(%s)", self.key)


#: A call: it is held at the gate with this number, and gives back the other one.
CALL = "SELECT %s FROM (SELECT pg_advisory_xact_lock_shared(%s)) AS held"

"""psycopg 3, with its own pool."""

from __future__ import annotations

import logging

import psycopg
from psycopg_pool import ConnectionPool
from support import Library as Base
from support import Where

from libraries.postgres import CALL, Gate, dsn

# It warns of the connections that the checks break.
logging.getLogger("psycopg").setLevel(logging.ERROR)


class Library(Base):
    lost = (psycopg.OperationalError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.direct = psycopg.connect(dsn(where.direct), autocommit=True)
        self.pool = ConnectionPool(
            dsn(where.port),
            min_size=0,
            max_size=self.size,
            timeout=60.0,
            check=ConnectionPool.check_connection,
            open=True,
        )

    def gate(self) -> Gate:
        return Gate(self.direct)

    def call(self, gate: Gate, number: int) -> None:
        with self.pool.connection() as connection:
            assert connection.execute(CALL, (number, gate.key)).fetchone() == (number,)

    def close(self) -> None:
        self.pool.close()
        self.direct.close()

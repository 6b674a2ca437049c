"""psycopg2, a library in C: it has a hook for what is to be done instead of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.pool import ThreadedConnectionPool
from support import Library as Base
from support import Where, gevent

from libraries.postgres import CALL, Gate, dsn

if gevent.__name__ == "gevent":
    from gevent.socket import wait_read, wait_write
else:
    from greenloop.socket import wait_read, wait_write


def wait(connection: Any) -> None:
    """Wait for a connection as it asks to be waited for."""
    while (state := connection.poll()) != extensions.POLL_OK:
        if state == extensions.POLL_READ:
            wait_read(connection.fileno())
        elif state == extensions.POLL_WRITE:
            wait_write(connection.fileno())
        else:
            raise psycopg2.OperationalError(f"poll() returned {state}")


class Library(Base):
    lost = (psycopg2.OperationalError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        extensions.set_wait_callback(wait)
        self.direct = psycopg2.connect(dsn(where.direct))
        self.direct.autocommit = True
        self.pool = ThreadedConnectionPool(0, self.size, dsn(where.port))

    def gate(self) -> Gate:
        return Gate(self.direct)

    @contextmanager
    def lent(self) -> Iterator[Any]:
        """A connection of the pool. One in whose use something went wrong is not used again."""
        connection = self.pool.getconn()
        wrong = True
        try:
            yield connection
            wrong = False
        finally:
            self.pool.putconn(connection, close=wrong)

    def call(self, gate: Gate, number: int) -> None:
        with self.lent() as connection, connection.cursor() as cursor:
            cursor.execute(CALL, (number, gate.key))
            assert cursor.fetchone() == (number,)

    def close(self) -> None:
        self.pool.closeall()
        self.direct.close()

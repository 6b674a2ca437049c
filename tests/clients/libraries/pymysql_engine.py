"""PyMySQL, in the pool of an SQLAlchemy engine."""

from __future__ import annotations

from typing import Any

import pymysql
import sqlalchemy
from support import HOST, Where, unique
from support import Library as Base


class Gate:
    """A table that is locked: a call reads it."""

    def __init__(self, connection: pymysql.Connection) -> None:
        self.table = f"greenloop.gate{unique()}"
        self.connection = connection
        self.do("CREATE DATABASE IF NOT EXISTS greenloop")
        self.do(f"CREATE TABLE {self.table} (number INT) ENGINE = MEMORY")
        self.do(f"INSERT INTO {self.table} VALUES (1)")
        self.do(f"LOCK TABLES {self.table} WRITE")

    def do(self, statement: str, *args: object) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, args)
            return cursor.fetchall()

    def held(self) -> int:
        ((count,),) = self.do(
            "SELECT count(*) FROM information_schema.processlist "
            "WHERE state = 'Waiting for table metadata lock' AND info LIKE %s",
            f"%{self.table}%",
        )
        return int(count)

    def open(self) -> None:
        self.do("UNLOCK TABLES")


class Library(Base):
    lost = (sqlalchemy.exc.OperationalError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        # Without TLS: every connection would load the machine's certificates anew.
        self.direct = pymysql.connect(
            host=HOST, port=where.direct, user="root", autocommit=True, ssl_disabled=True
        )
        self.engine = sqlalchemy.create_engine(
            f"mysql+pymysql://root@{HOST}:{where.port}/mysql?ssl_disabled=true",
            isolation_level="AUTOCOMMIT",
            pool_size=self.size,
            max_overflow=0,
            pool_timeout=60,
        )

    def gate(self) -> Gate:
        return Gate(self.direct)

    def call(self, gate: Gate, number: int) -> None:
        with self.engine.connect() as connection:
            held = f"SELECT number + %s FROM {gate.table}"
            assert connection.exec_driver_sql(held, (number,)).scalar() == number + 1

    def close(self) -> None:
        self.engine.dispose()
        self.direct.close()

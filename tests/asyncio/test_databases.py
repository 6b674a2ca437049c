"""Clients of databases, as released, on `greenloop.asyncio`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from library_checks import SIZE, check
from scripts import TEST_TIMEOUT

import greenloop
import greenloop.asyncio
from greenloop.asyncio import wait

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))

import servers

# Seconds, as servers are started too.
pytestmark = pytest.mark.timeout(TEST_TIMEOUT + servers.START_TIMEOUT)

WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
LOCK = "select pg_advisory_lock(1)"
UNLOCK = "select pg_advisory_unlock(1)"
#: Ends with the transaction.
SHARED_LOCK = "select pg_advisory_xact_lock_shared(1)"


def running(name: str) -> Iterator[servers.Server]:
    try:
        with servers.running(name) as server:
            yield server
    except servers.ProgramMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def postgres() -> Iterator[servers.Server]:
    yield from running("postgres")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[servers.Server]:
    yield from running("redis")


def test_psycopg(postgres: servers.Server) -> None:
    psycopg = pytest.importorskip("psycopg")
    psycopg_pool = pytest.importorskip("psycopg_pool")

    async def main() -> None:
        async with (
            await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as control,
            psycopg_pool.AsyncConnectionPool(
                postgres.url, min_size=SIZE, max_size=SIZE, open=False
            ) as pool,
        ):

            class LockGate:
                async def held(self) -> int:
                    cursor = await control.execute(WAITING)
                    return int((await cursor.fetchone())[0])

                async def open(self) -> None:
                    await control.execute(UNLOCK)

            async def call(number: int) -> int:
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute(SHARED_LOCK)
                    cursor = await connection.execute("select %s::int", [number])
                    return int((await cursor.fetchone())[0])

            await control.execute(LOCK)
            await check(call, LockGate())

            await control.execute("create temporary table t (number int, text text)")
            async with control.cursor().copy("copy t from stdin") as copy:
                for number in range(1000):
                    await copy.write_row([number, "text" * 10])
            cursor = await control.execute("select number from t order by number")
            assert [row[0] async for row in cursor] == list(range(1000))

            # One sends a notification, another waits for it.
            await control.execute("listen channel")
            async with pool.connection() as connection:
                await connection.execute("notify channel, 'payload'")
            async for note in control.notifies(timeout=TEST_TIMEOUT, stop_after=1):
                assert note.payload == "payload"

    greenloop.asyncio.run(main())


def test_asyncpg(postgres: servers.Server) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        control = await asyncpg.connect(postgres.url)
        async with asyncpg.create_pool(postgres.url, min_size=SIZE, max_size=SIZE) as pool:

            class LockGate:
                async def held(self) -> int:
                    return int(await control.fetchval(WAITING))

                async def open(self) -> None:
                    await control.execute(UNLOCK)

            async def call(number: int) -> int:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute(SHARED_LOCK)
                    return int(await connection.fetchval("select $1::int", number))

            await control.execute(LOCK)
            await check(call, LockGate())

            # Greenlets that have one pool with the tasks.
            calls = [greenloop.spawn(wait, call(number), loop=loop) for number in range(SIZE)]
            assert await asyncio.gather(*calls) == list(range(SIZE))

            await control.execute("create temporary table t (number int, text text)")
            records = [(number, "text" * 10) for number in range(1000)]
            await control.copy_records_to_table("t", records=records)
            async with control.transaction():
                numbers = [
                    record["number"]
                    async for record in control.cursor("select number from t order by number")
                ]
            assert numbers == list(range(1000))

            with pytest.raises(asyncpg.UniqueViolationError):
                await control.execute("create temporary table u (number int primary key)")
                await control.executemany("insert into u values ($1)", [(1,), (1,)])
            with pytest.raises(TimeoutError):
                await control.execute("select pg_sleep(60)", timeout=0.005)
            assert await control.fetchval("select 1") == 1

            # Listeners are called by the loop, and may pass on to greenlets.
            heard: Any = greenloop.queue.Queue()
            await control.add_listener("channel", lambda *call: heard.put(call[-1]))
            for number in range(5):
                await pool.execute(f"notify channel, '{number}'")
            assert await greenloop.spawn(lambda: [heard.get() for _ in range(5)]) == list("01234")
        await control.close()

    greenloop.asyncio.run(main())


def test_sqlalchemy_over_asyncpg(postgres: servers.Server) -> None:
    """SQLAlchemy's own greenlets, in tasks of our loop."""
    pytest.importorskip("asyncpg")
    sqlalchemy_asyncio = pytest.importorskip("sqlalchemy.ext.asyncio")
    from sqlalchemy import text

    async def main() -> None:
        url = postgres.url.replace("postgresql:", "postgresql+asyncpg:")
        engine = sqlalchemy_asyncio.create_async_engine(url, pool_size=SIZE + 1, max_overflow=0)
        async with engine.connect() as control:

            class LockGate:
                async def held(self) -> int:
                    return int((await control.execute(text(WAITING))).scalar_one())

                async def open(self) -> None:
                    await control.execute(text(UNLOCK))

            async def call(number: int) -> int:
                async with engine.begin() as connection:
                    # Sync code of the program, in a greenlet of the library's.
                    return int(await connection.run_sync(in_sync_code, number))

            def in_sync_code(connection: Any, number: int) -> Any:
                connection.execute(text(SHARED_LOCK))
                greenloop.sleep(0)
                query = text("select cast(:number as int)")
                return connection.execute(query, {"number": number}).scalar_one()

            await control.execute(text(LOCK))
            await check(call, LockGate())
        await engine.dispose()

    greenloop.asyncio.run(main())


def test_redis(redis_server: servers.Server) -> None:
    redis_asyncio = pytest.importorskip("redis.asyncio")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with redis_asyncio.from_url(redis_server.url) as client:

            class StreamGate:
                """Readers of a stream wait until there is something in it."""

                async def held(self) -> int:
                    return int((await client.info("clients"))["blocked_clients"])

                async def open(self) -> None:
                    await client.xadd("gate", {"open": 1})

            async def call(number: int) -> int:
                await client.xread({"gate": 0}, block=0)
                return int(await client.echo(str(number)))

            await check(call, StreamGate())

            async def add(number: int) -> list[Any]:
                async with client.pipeline() as pipeline:
                    pipeline.rpush("list", number).incrby("sum", number)
                    found: list[Any] = await pipeline.execute()
                    return found

            # Tasks and greenlets in turn.
            calls = [greenloop.spawn(wait, add(number), loop=loop) for number in range(SIZE)]
            await asyncio.gather(*calls, *map(add, range(SIZE)))
            assert await client.llen("list") == 2 * SIZE
            assert int(await client.get("sum")) == SIZE * (SIZE - 1)

            async with client.pubsub() as channel:
                await channel.subscribe("channel")
                heard = []

                async def listen() -> None:
                    async for message in channel.listen():
                        if message["type"] == "message":
                            heard.append(int(message["data"]))
                            if len(heard) == SIZE:
                                return

                listener = asyncio.create_task(listen())
                calls = [
                    greenloop.spawn(wait, client.publish("channel", number), loop=loop)
                    for number in range(SIZE)
                ]
                await asyncio.gather(*calls)
                await listener
                assert sorted(heard) == list(range(SIZE))

            async def locked(name: str) -> None:
                async with client.lock("lock"):
                    order.append(name)
                    await asyncio.sleep(0.001)
                    order.append(name)

            order: list[str] = []
            await asyncio.gather(*[locked(name) for name in "abc"])
            assert order[::2] == order[1::2]

    greenloop.asyncio.run(main())

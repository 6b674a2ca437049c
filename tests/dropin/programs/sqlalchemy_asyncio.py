"""A program on SQLAlchemy's asyncio extension: python sqlalchemy_asyncio.py DATABASE

SQLAlchemy runs its synchronous code in greenlets of its own, which switch back to the coroutine
for everything that is awaited. Each scenario is a coroutine; what became of it is printed as a
line of JSON: its name, and None or the traceback.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import greenlet
from sqlalchemy import ForeignKey, String, event, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import (
    AsyncAttrs,
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.util import await_only, greenlet_spawn


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    sold: Mapped[int] = mapped_column(default=0)
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


Sessions = async_sessionmaker[AsyncSession]


@asynccontextmanager
async def database(path: str) -> AsyncIterator[tuple[AsyncEngine, Sessions]]:
    """An engine on an empty database, and its sessions."""
    # The time limit is for the lock that a writer takes; sessions below wait for one another.
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 60})

    # A listener is plain code: what it calls on the connection is awaited below it.
    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    try:
        yield engine, async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


async def fill(sessions: Sessions, authors: int = 3, books: int = 4) -> None:
    async with sessions.begin() as session:
        session.add_all(
            Author(name=f"author {a}", books=[Book(title=f"book {a}.{b}") for b in range(books)])
            for a in range(authors)
        )


async def count(connection: AsyncConnection | AsyncSession, entity: type[Base]) -> int:
    found = await connection.scalar(select(func.count()).select_from(entity))
    assert found is not None
    return found


# --- scenarios ---


async def definitions(path: str) -> None:
    """Tables are made, looked at and dropped."""
    async with database(path) as (engine, _):
        async with engine.begin() as connection:
            names = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
            assert names == ["author", "book"]
            keys = await connection.run_sync(lambda plain: inspect(plain).get_foreign_keys("book"))
            assert [key["referred_table"] for key in keys] == ["author"]
            await connection.execute(text("CREATE INDEX by_title ON book (title)"))
            await connection.run_sync(Base.metadata.drop_all)
        async with engine.connect() as connection:
            assert await connection.run_sync(lambda plain: inspect(plain).get_table_names()) == []


async def many_rows(path: str) -> None:
    """Rows are inserted in bulk, changed, and read in every form."""
    async with database(path) as (engine, _):
        async with engine.begin() as connection:
            rows = [{"name": f"author {n}", "sold": n} for n in range(2_000)]
            result = await connection.execute(insert(Author), rows)
            assert result.rowcount == 2_000
            returned = await connection.execute(
                insert(Author).returning(Author.id), [{"name": "x"}, {"name": "y"}]
            )
            assert len(returned.all()) == 2
            changed = await connection.execute(
                update(Author).where(Author.sold >= 1_000).values(sold=Author.sold + 1)
            )
            assert changed.rowcount == 1_000
        async with engine.connect() as connection:
            assert await connection.scalar(select(func.sum(Author.sold))) == 1_999 * 1_000 + 1_000
            first = (await connection.execute(select(Author).order_by(Author.id))).mappings()
            assert first.fetchmany(2)[1]["name"] == "author 1"
            assert (
                await connection.execute(select(Author.id).where(Author.id < 0))
            ).first() is None


async def transactions(path: str) -> None:
    """Commits stay, rollbacks and failed blocks leave nothing, savepoints roll back alone."""
    async with database(path) as (engine, _):
        async with engine.connect() as connection:
            transaction = await connection.begin()
            await connection.execute(insert(Author).values(name="rolled back"))
            assert await count(connection, Author) == 1
            await transaction.rollback()
            assert await count(connection, Author) == 0
            await connection.rollback()

            async with connection.begin():
                await connection.execute(insert(Author).values(name="outer"))
                savepoint = await connection.begin_nested()
                await connection.execute(insert(Author).values(name="inner"))
                await savepoint.rollback()
                async with connection.begin_nested():
                    await connection.execute(insert(Author).values(name="kept"))
        try:
            async with engine.begin() as connection:
                await connection.execute(insert(Author).values(name="lost"))
                raise LookupError
        except LookupError:
            pass
        async with engine.connect() as connection:
            names = await connection.scalars(select(Author.name).order_by(Author.id))
            assert names.all() == ["outer", "kept"]


async def relationships(path: str) -> None:
    """Attributes are loaded when they are asked for: awaited, or in plain code."""
    async with database(path) as (_, sessions):
        await fill(sessions)
        async with sessions() as session:
            authors = (await session.scalars(select(Author).order_by(Author.id))).all()
            titles = [book.title for book in await authors[0].awaitable_attrs.books]
            assert titles == [f"book 0.{b}" for b in range(4)]

            def count_books(plain: Session) -> list[int]:
                return [len(author.books) for author in plain.scalars(select(Author))]

            assert await session.run_sync(count_books) == [4, 4, 4]
            book = await session.get_one(Book, 5)
            assert (await book.awaitable_attrs.author).name == "author 1"
        async with sessions() as session:
            author = await session.get_one(Author, 2)
            # Neither awaited nor in plain code: there is nothing to switch to.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            try:
                author.books  # noqa: B018
            except StatementError as error:
                assert isinstance(error.orig, MissingGreenlet)
            else:
                raise AssertionError("loaded without being awaited")
            await session.refresh(author, ["books"])
            assert len(author.books) == 4


async def streaming(path: str) -> None:
    """Results come as they are read, and reading may be left in the middle."""
    async with database(path) as (engine, sessions):
        async with engine.begin() as connection:
            await connection.execute(
                insert(Author), [{"name": f"author {n}", "sold": n} for n in range(500)]
            )
        async with engine.connect() as connection:
            seen = [row.sold async for row in await connection.stream(select(Author.sold))]
            assert seen == list(range(500))
            options = connection.execution_options(yield_per=64)
            result = await (await options).stream(select(Author.sold))
            sizes = [len(part) async for part in result.partitions()]
            assert sizes == [64] * 7 + [52]
        async with sessions() as session:
            async for author in await session.stream_scalars(select(Author).order_by(Author.id)):
                if author.sold == 10:
                    break
            # Another statement while the rest of the rows is unread.
            assert await count(session, Author) == 500


async def concurrency(path: str) -> None:
    """Many tasks at once, each with its session; their greenlets do not get mixed up."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def work(number: int) -> str:
        name.set(f"author {number}")

        def plain(session: Session) -> str:
            author = Author(name=name.get(), books=[Book(title="only")])
            session.add(author)
            session.flush()
            session.expire(author)
            return author.name + author.books[0].title

        async with sessions.begin() as session:
            told = await session.run_sync(plain)
        await asyncio.sleep(0)
        async with sessions() as session:
            for _ in range(3):
                query = select(Author.name).where(Author.name == name.get())
                assert await session.scalar(query) == f"author {number}"
        return told

    async with database(path) as (engine, sessions):
        told = await asyncio.gather(*(work(number) for number in range(20)))
        assert told == [f"author {number}only" for number in range(20)]
        async with engine.connect() as connection:
            assert await count(connection, Book) == 20


async def errors(path: str) -> None:
    """What goes wrong below comes up through the greenlet, and the session can go on."""
    async with database(path) as (_, sessions):
        async with sessions.begin() as session:
            session.add(Author(name="same"))
        async with sessions() as session:
            session.add(Author(name="same"))
            try:
                await session.commit()
            except IntegrityError as error:
                assert "UNIQUE" in str(error)
            else:
                raise AssertionError("no error")
            await session.rollback()
            assert await count(session, Author) == 1

            def fail(_session: Session) -> None:
                raise LookupError("plain")

            try:
                await session.run_sync(fail)
            except LookupError as error:
                # The traceback leads to the line.
                frames = traceback.extract_tb(error.__traceback__)
                assert frames[-1].name == "fail"
            else:
                raise AssertionError("no error")

            def handle(plain: Session) -> str:
                try:
                    plain.execute(text("SELECT * FROM nowhere"))
                except Exception as error:
                    return f"{type(error).__name__} {plain.scalar(select(func.count(Author.id)))}"
                raise AssertionError("no error")

            assert await session.run_sync(handle) == "OperationalError 1"


async def cancellation(path: str) -> None:
    """A task that is cancelled while plain code waits: the exception is raised there."""
    async with database(path) as (_, sessions):
        log: list[str] = []
        waiting = asyncio.Event()
        never = asyncio.Event()

        async def wait() -> None:
            waiting.set()
            await never.wait()

        def plain(session: Session) -> None:
            session.add(Author(name="cancelled"))
            session.flush()
            try:
                await_only(wait())
            except asyncio.CancelledError:
                log.append("cancelled")
                raise
            finally:
                log.append(f"cleaning up with {session.scalar(select(func.count(Author.id)))}")

        async def run() -> None:
            async with sessions.begin() as session:
                await session.run_sync(plain)

        task = asyncio.create_task(run())
        await waiting.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            log.append("task cancelled")
        assert log == ["cancelled", "cleaning up with 1", "task cancelled"]
        async with sessions() as session:
            assert await count(session, Author) == 0
        try:
            async with asyncio.timeout(0.01):
                await greenlet_spawn(lambda: await_only(never.wait()))
        except TimeoutError:
            pass
        else:
            raise AssertionError("no time limit")


async def plain_code(_path: str) -> None:
    """What plain code sees of the coroutine that it runs for."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("of the task")
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    def nested(depth: int) -> int:
        if depth == 0:
            return 1
        return await_only(double(nested(depth - 1)))

    def plain(value: int, *, offset: int) -> int:
        assert variable.get() == "of the task"
        variable.set("of plain code")
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        total = offset
        for _ in range(100):
            total += await_only(double(value))
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        return total + nested(10)

    main = greenlet.getcurrent()
    assert await greenlet_spawn(plain, 3, offset=1) == 601 + 1024
    # It runs in the context of the task, as if it had been called.
    assert variable.get() == "of plain code"
    assert greenlet.getcurrent() is main
    assert asyncio.current_task() is task


SCENARIOS: list[Callable[[str], Awaitable[None]]] = [
    definitions,
    many_rows,
    transactions,
    relationships,
    streaming,
    concurrency,
    errors,
    cancellation,
    plain_code,
]


async def run_all(path: str) -> None:
    for scenario in SCENARIOS:
        failure = None
        try:
            await scenario(path)
        except Exception:
            failure = traceback.format_exc()
        print(json.dumps([scenario.__name__, failure]), flush=True)  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(run_all(sys.argv[1]))

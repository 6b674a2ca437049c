"""Libraries that put greenlets and asyncio together, unmodified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SCHEMA_AND_QUERIES = """
    import asyncio, sys
    import gevent
    from sqlalchemy import ForeignKey, event, func, select, text
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.ext.asyncio import AsyncAttrs, async_sessionmaker, create_async_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

    class Base(AsyncAttrs, DeclarativeBase):
        pass

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author] = relationship(back_populates="books")

    async def main(path):
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        seen = set()

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def look(*_):
            # Sync code of the library, in a greenlet of its own.
            seen.add((asyncio.get_running_loop(), asyncio.current_task()))

        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        make_session = async_sessionmaker(engine, expire_on_commit=False)

        async with make_session() as session, session.begin():
            for a in range(3):
                books = [Book(title=f"book {a}.{b}") for b in range(4)]
                session.add(Author(name=f"author {a}", books=books))
        assert seen == {(asyncio.get_running_loop(), asyncio.current_task())}

        async with make_session() as session:
            query = select(Author).options(selectinload(Author.books)).order_by(Author.id)
            authors = (await session.scalars(query)).all()
            titles = [[book.title for book in author.books] for author in authors]
            assert titles == [[f"book {a}.{b}" for b in range(4)] for a in range(3)]

        async with make_session() as session:
            book = await session.get(Book, 1)
            assert (await book.awaitable_attrs.author).name == "author 0"

        async with make_session() as session:
            session.add(Author(name="author 0"))
            try:
                await session.commit()
            except IntegrityError:
                await session.rollback()
            assert await session.scalar(select(func.count(Author.id))) == 3

        async with engine.connect() as connection:
            result = await connection.stream(select(Book.title).order_by(Book.id))
            assert [row.title async for row in result] == sum(titles, [])

        async def one(n):
            async with make_session() as session:
                return await session.scalar(select(Book.title).where(Book.id == n))

        assert await asyncio.gather(*(one(n) for n in range(1, 13))) == sum(titles, [])

        async def slow():
            async with engine.connect() as connection:
                numbers = (
                    "with recursive n(i) as (select 1 union all select i + 1 from n limit 300000)"
                    " select count(*) from n"
                )
                await connection.execute(text(numbers))

        try:
            async with asyncio.timeout(0.001):
                await slow()
        except TimeoutError:
            pass
        assert await one(1) == "book 0.0"
        await engine.dispose()
        return "done"
"""


def test_sqlalchemy(run_script: Any, tmp_path: Path) -> None:
    script = (
        SCHEMA_AND_QUERIES
        + """
    import greenlet
    assert greenlet.greenlet.__init__.__qualname__.startswith("greenlet.")
    assert "greenloop" in greenlet.__file__
    print(asyncio.run(main(sys.argv[1] + "/a.db")))
    """
    )
    assert run_script(script, str(tmp_path)).check_quiet() == "done\n"


@pytest.mark.parametrize("patch", [True, False], ids=["patched", "unpatched"])
def test_sqlalchemy_in_many_greenlets(patch: bool, run_script: Any, tmp_path: Path) -> None:
    script = (
        ("    from gevent import monkey; monkey.patch_all()\n" if patch else "")
        + SCHEMA_AND_QUERIES
        + """
    greenlets = [gevent.spawn(asyncio.run, main(sys.argv[1] + f"/{n}.db")) for n in range(3)]
    gevent.joinall(greenlets, raise_error=True)
    print(*[g.value for g in greenlets])
    """
    )
    assert run_script(script, str(tmp_path)).check_quiet() == "done done done\n"


def test_uvloop(run_script: Any) -> None:
    pytest.importorskip("uvloop")
    script = """
        import asyncio, sys, threading
        import gevent, uvloop
        from greenlet import getcurrent, greenlet

        def sync(loop, task):
            assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
            return getcurrent().parent.switch()

        async def main(n):
            loop, me = asyncio.get_running_loop(), asyncio.current_task()
            assert isinstance(loop, uvloop.Loop)
            for _ in range(3):
                gevent.sleep(0)
                assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, me)
                await asyncio.sleep(0.001)
            child = greenlet(sync)
            child.switch(loop, me)
            child.switch()
            assert child.dead
            return n

        def run_many():
            greenlets = [gevent.spawn(uvloop.run, main(n)) for n in range(5)]
            gevent.joinall(greenlets, raise_error=True)
            print([g.value for g in greenlets], sys.get_asyncgen_hooks() == (None, None))

        print(uvloop.run(main("main greenlet")))
        print(gevent.spawn(uvloop.run, main("greenlet")).get())
        # Not in the main thread: there each loop keeps the process's descriptor for signals.
        thread = threading.Thread(target=run_many)
        thread.start()
        thread.join()
        """
    expected = "main greenlet\ngreenlet\n[0, 1, 2, 3, 4] True\n"
    assert run_script(script).check_quiet() == expected

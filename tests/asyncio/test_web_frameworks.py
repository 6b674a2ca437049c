"""Web frameworks on the loop, as released: FastAPI under uvicorn, and what calls async code from
sync code and the other way round: asgiref, Django and Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from library_checks import SIZE, check
from scripts import SCRIPT_TIMEOUT
from uvicorn_support import served

import greenloop.asyncio


@pytest.fixture(params=["factory", "policy"])
def fastapi_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where uvicorn serves `fastapi_site.py`."""
    pytest.importorskip("fastapi")
    with served("fastapi_site", as_program=request.param == "policy") as port:
        yield f"http://127.0.0.1:{port}"


def test_fastapi(fastapi_url: str) -> None:
    """The clients, httpx's and those of `websockets`, run on the loop as well."""
    httpx = pytest.importorskip("httpx")
    websockets = pytest.importorskip("websockets")

    async def main() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=fastapi_url, limits=limits, timeout=SCRIPT_TIMEOUT, trust_env=False
        ) as client:

            async def get(path: str) -> Any:
                response = await client.get(path)
                assert response.status_code == 200, response.text
                assert response.headers["x-path"] == path
                return response.json()

            class SiteGate:
                async def held(self) -> int:
                    return int((await get("/state"))["held"])

                async def open(self) -> None:
                    await get("/open")

            assert (await get("/state"))["loop"] == "greenloop.asyncio._event_loop.EventLoop"
            await check(lambda number: get(f"/hold/{number}"), SiteGate())
            numbers = list(range(SIZE))
            for path in ("block", "hold_thread"):
                found = await asyncio.gather(*[get(f"/{path}/{number}") for number in numbers])
                assert found == numbers

            async def add(number: int) -> int:
                item = {"number": number, "text": "text" * 10_000}
                response = await client.post("/items", json=item)
                assert response.json()["text"] == "TEXT" * 10_000
                return int(response.json()["number"])

            assert await asyncio.gather(*map(add, numbers)) == [number + 1 for number in numbers]
            refused = await client.post("/items", json={"number": "no", "text": ""})
            assert refused.status_code == 422
            assert (await client.get("/fail")).status_code == 418

            async with client.stream("GET", "/stream") as response:
                parts = b"".join([part async for part in response.aiter_bytes()])
            assert parts == b"".join(b"%d " % number * 1000 for number in range(50))

            async def converse(number: int) -> None:
                url = fastapi_url.replace("http", "ws") + "/double"
                async with websockets.connect(url, proxy=None) as websocket:
                    for turn in range(5):
                        await websocket.send(f'"{number} {turn},"')
                        assert await websocket.recv() == f'"{number} {turn},{number} {turn},"'

            await asyncio.gather(*map(converse, numbers))
            # Everything that requests have opened is closed, of those that were given up too.
            while (await get("/state"))["opened"]:
                await asyncio.sleep(0.001)

    greenloop.asyncio.run(main())


#: Which loops asgiref makes in the threads that it starts.
each_loop = pytest.mark.parametrize("loops", ["standard", "greenloop"])

BEGIN = """
    from greenloop import monkey
    monkey.patch_all()
    import asyncio, contextvars, sys, threading
    import greenloop, greenloop.asyncio
    if sys.argv[1] == "greenloop":
        greenloop.asyncio.install()
    SIZE = 20

    class Meeting:
        '''Lets coroutines, of any loops, go on when all are here.'''
        here = 0

        async def wait(self):
            self.here += 1
            while self.here < SIZE:
                await asyncio.sleep(0.001)

    def all_of(function, *args):
        jobs = [greenloop.spawn(function, number, *args) for number in range(SIZE)]
        greenloop.joinall(jobs, raise_error=True)
        return [job.value for job in jobs]
"""


@each_loop
def test_asgiref(loops: str, run_script: Any) -> None:
    pytest.importorskip("asgiref")
    script = (
        BEGIN
        + """
    from asgiref.sync import async_to_sync, sync_to_async

    variable = contextvars.ContextVar("variable", default=0)
    meeting = Meeting()

    async def on_async_side(number, depth):
        await asyncio.sleep(0.001)
        variable.set(variable.get() + 1)
        if depth == 0:
            await meeting.wait()
            return number
        return await sync_to_async(on_sync_side)(number, depth - 1)

    def on_sync_side(number, depth):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise AssertionError("a loop of others is seen")
        before = variable.get()
        found = async_to_sync(on_async_side)(number, depth)
        # Context variables go along, there and back.
        assert variable.get() == before + depth + 1
        return found

    assert all_of(on_sync_side, 3) == list(range(SIZE))

    def deep(number):
        return async_to_sync(sync_and_async)(number)

    async def sync_and_async(number):
        await meeting.wait()
        here = asyncio.get_running_loop()

        async def where():
            await asyncio.sleep(0)
            return asyncio.get_running_loop()

        def sync():
            # Back in the loop from which the sync code was called.
            assert async_to_sync(where)() is here
            return number

        for sensitive in (True, False):
            assert await sync_to_async(sync, thread_sensitive=sensitive)() == number
        return number

    assert all_of(deep) == list(range(SIZE))

    async def main():
        meeting.here = 0
        found = await asyncio.gather(*[greenloop.spawn(deep, n) for n in range(SIZE)])
        assert found == list(range(SIZE))
        meeting.here = SIZE
        try:
            async_to_sync(sync_and_async)(1)
        except RuntimeError as error:
            assert "just await the async function" in str(error)
        else:
            raise AssertionError
        # One after the other, as that is one thread.
        assert await asyncio.gather(*[sync_to_async(deep)(n) for n in range(3)]) == [0, 1, 2]
        assert await asyncio.gather(*[sync_and_async(n) for n in range(3)]) == [0, 1, 2]

        async def fails():
            raise ValueError("reason")

        try:
            await sync_to_async(async_to_sync(fails))()
        except ValueError as error:
            assert str(error) == "reason"
        else:
            raise AssertionError

        ended = []

        async def endless():
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(1)

        try:
            async with asyncio.timeout(0.01):
                await sync_to_async(async_to_sync(endless))()
        except TimeoutError:
            ended.append(2)
        assert ended == [1, 2]
        return "done"

    print(greenloop.asyncio.run(main()))
    """
    )
    assert run_script(script, loops, dropin=False).check_quiet() == "done\n"


@each_loop
def test_django(loops: str, run_script: Any, tmp_path: Any) -> None:
    """Django refuses to use a database where a loop runs: not in greenlets beside it."""
    pytest.importorskip("django")
    script = (
        BEGIN
        + """
    import django
    from django.conf import settings
    settings.configure(
        SECRET_KEY="of a test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
        DATABASES={"default": {
            "ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[2],
            "OPTIONS": {"timeout": 60},
        }},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    django.setup()
    from django.core.exceptions import SynchronousOnlyOperation
    from django.db import connection, models
    from django.http import HttpResponse
    from django.test import AsyncClient, Client
    from django.urls import path

    class Note(models.Model):
        number = models.IntegerField()

        class Meta:
            app_label = "site"

    with connection.schema_editor() as editor:
        editor.create_model(Note)

    meeting = Meeting()

    async def async_view(request, number):
        await meeting.wait()
        note = await Note.objects.aget(number=number)
        return HttpResponse(str(note.number))

    def sync_view(request, number):
        return HttpResponse(str(Note.objects.get(number=number).number))

    urlpatterns = [path("async/<int:number>", async_view), path("sync/<int:number>", sync_view)]

    def get(number, name):
        try:
            return int(Client().get(f"/{name}/{number}").content)
        finally:
            connection.close()

    def count():
        try:
            return Note.objects.count()
        finally:
            connection.close()

    async def main():
        for number in range(SIZE):
            await Note.objects.acreate(number=number)
        try:
            Note.objects.count()
        except SynchronousOnlyOperation:
            pass
        else:
            raise AssertionError("a database was used where a loop runs")
        assert await greenloop.spawn(count) == SIZE
        loop_blocks = asyncio.create_task(blocks())
        await asyncio.sleep(0)
        assert await greenloop.spawn(count) == SIZE
        await loop_blocks
        assert sorted([note.number async for note in Note.objects.all()]) == list(range(SIZE))
        # Views of both kinds, called from both sides.
        for name in ("async", "sync"):
            meeting.here = 0
            calls = [greenloop.spawn(get, number, name) for number in range(SIZE)]
            assert await asyncio.gather(*calls) == list(range(SIZE))
            meeting.here = 0
            client = AsyncClient()
            calls = [client.get(f"/{name}/{number}") for number in range(SIZE)]
            found = await asyncio.gather(*calls)
            assert [int(response.content) for response in found] == list(range(SIZE))
        return "done"

    async def blocks():
        greenloop.sleep(0.01)

    print(greenloop.asyncio.run(main()))
    meeting.here = 0
    assert all_of(get, "async") == list(range(SIZE))
    """
    )
    database = str(tmp_path / "database")
    assert run_script(script, loops, database, dropin=False).check_quiet() == "done\n"


@each_loop
def test_flask(loops: str, run_script: Any) -> None:
    """Views that are coroutines, in many greenlets at once, also beside a loop that runs."""
    pytest.importorskip("flask")
    pytest.importorskip("asgiref")
    script = (
        BEGIN
        + """
    import flask

    app = flask.Flask(__name__)
    meeting = Meeting()
    order = []

    @app.before_request
    async def before():
        await asyncio.sleep(0)
        flask.g.before = flask.request.path

    @app.get("/hold/<int:number>")
    async def hold(number):
        await meeting.wait()
        assert flask.g.before == flask.request.path == f"/hold/{number}"
        flask.session["number"] = number
        return str(number)

    @app.get("/fail")
    async def fail():
        await asyncio.sleep(0)
        flask.abort(418)

    @app.after_request
    async def after(response):
        await asyncio.sleep(0)
        response.headers["x-number"] = str(flask.session.get("number"))
        return response

    app.secret_key = "of a test"

    def get(number):
        response = app.test_client().get(f"/hold/{number}")
        assert response.headers["x-number"] == str(number)
        return int(response.text)

    assert all_of(get) == list(range(SIZE))
    assert app.test_client().get("/fail").status_code == 418

    async def main():
        meeting.here = 0
        calls = [greenloop.spawn(get, number) for number in range(SIZE)]
        assert await asyncio.gather(*calls) == list(range(SIZE))
        return "done"

    print(greenloop.asyncio.run(main()))
    """
    )
    assert run_script(script, loops, dropin=False).check_quiet() == "done\n"

"""ASGI applications: the tasks that they run in, their limits and their end."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import gevent
import pytest
from asgi_support import Receive, Scope, Send, ServeAsgi, hello, read_body, respond
from gevent import event
from wsgi_support import GET, GUARD, Client, Log, exchange, parse, wait_until


class TestTasks:
    def test_it_is_a_task_of_the_running_loop(self, serve_asgi: ServeAsgi) -> None:
        seen: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            task = asyncio.current_task()
            assert task in asyncio.all_tasks()
            assert asyncio.get_running_loop() is task.get_loop()  # type: ignore[union-attr]
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            seen.append(task)
            await respond(send)

        with Client(serve_asgi(application)) as client:
            assert client.get().status == 200
            assert client.get().status == 200
        assert seen[0] is not seen[1]
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    def test_context_variables_of_requests_are_apart(self, serve_asgi: ServeAsgi) -> None:
        variable = contextvars.ContextVar("variable", default=0)

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            assert variable.get() == 0
            variable.set(1)
            await asyncio.sleep(0)
            assert variable.get() == 1
            await respond(send, b"fine")

        with Client(serve_asgi(application)) as client:
            assert [client.get().body for _ in range(3)] == [b"fine"] * 3

    def test_generators_are_known_to_the_loop(self, serve_asgi: ServeAsgi) -> None:
        closed: list[Any] = []

        async def numbers() -> Any:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                closed.append(asyncio.current_task())

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            async for _ in numbers():
                break
            await respond(send)

        with Client(serve_asgi(application)) as client:
            assert client.get().status == 200
            wait_until(lambda: closed)

    def test_a_blocking_call_parks_its_own_task_alone(self, serve_asgi: ServeAsgi) -> None:
        go = event.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/wait":
                go.wait()
            if scope["path"] == "/later":
                await asyncio.sleep(0)
                go.wait()
            await respond(send, scope["path"].encode())

        server = serve_asgi(application)
        with Client(server) as one, Client(server) as two, Client(server) as other:
            one.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            two.send(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            for _ in range(10):
                assert other.get("/free").body == b"/free"
            go.set()
            assert one.response().body == b"/wait"
            assert two.response().body == b"/later"

    def test_callbacks_in_the_context_of_a_step_that_blocks(self, serve_asgi: ServeAsgi) -> None:
        called = event.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            asyncio.get_running_loop().call_soon(called.set)
            gevent.sleep(0.01)
            await respond(send, b"fine")

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"fine"
            assert called.wait(GUARD)

    def test_tasks_go_on_after_the_response(self, serve_asgi: ServeAsgi) -> None:
        go = asyncio.Event()
        done: list[int] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/go":
                go.set()
            await receive()
            await respond(send, b"hello")
            await go.wait()
            assert (await receive())["type"] == "http.disconnect"
            done.append(1)

        with Client(serve_asgi(application)) as client:
            for number in range(3):
                assert client.get().body == b"hello"
                assert not done, number
            assert client.get("/go").body == b"hello"
            wait_until(lambda: len(done) == 4)

    @pytest.mark.parametrize("wait", [False, True])
    def test_errors(self, serve_asgi: ServeAsgi, errors: list[Any], wait: bool) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if wait:
                await asyncio.sleep(0)
            if scope["path"] == "/begun":
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"a", "more_body": True})
            if scope["path"] == "/complete":
                await respond(send, b"hello")
            raise LookupError(scope["path"])

        server = serve_asgi(application)
        get = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"
        answer = parse(exchange(server, get.format("silent").encode()))
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        # The client can see that the response is not whole.
        assert exchange(server, get.format("begun").encode()).endswith(b"\r\n\r\n1\r\na\r\n")
        with Client(server) as client:
            assert client.get("/complete").body == b"hello"
            assert client.get("/complete").body == b"hello"
        wait_until(lambda: len(errors) == 4)
        assert [str(error) for error in errors] == [
            "/silent",
            "/begun",
            "/complete",
            "/complete",
        ]

    def test_applications_that_do_not_answer(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/begun":
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"a", "more_body": True})

        log = Log()
        server = serve_asgi(application, error_log=log)
        get = "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n"
        assert parse(exchange(server, get.format("").encode())).status == 500
        assert exchange(server, get.format("begun").encode()).endswith(b"\r\n\r\n1\r\na\r\n")
        assert log.lines == [
            "The application answers GET '/' wrongly: there is no response\n",
            "The application answers GET '/begun' wrongly: the response is not complete\n",
        ]

    def test_what_is_no_application(self, serve_asgi: ServeAsgi, errors: list[Any]) -> None:
        server = serve_asgi(lambda scope, receive, send: None, interface="asgi")
        assert parse(exchange(server, GET)).status == 500
        assert "is it an ASGI application?" in str(errors[0])

    def test_any_awaitable_is_a_coroutine(self, serve_asgi: ServeAsgi) -> None:
        class Awaitable:
            def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
                self.send = send

            def __await__(self) -> Any:
                return respond(self.send, b"fine").__await__()

        with Client(serve_asgi(Awaitable)) as client:
            assert client.get().body == b"fine"

    def test_a_task_factory_is_asked(self, serve_asgi: ServeAsgi) -> None:
        made: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            loop = asyncio.get_running_loop()
            if scope["path"] == "/set":

                def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
                    made.append(coroutine)
                    return asyncio.Task(coroutine, loop=loop, **options)

                loop.set_task_factory(factory)
            elif scope["path"] == "/reset":
                loop.set_task_factory(None)
            await respond(send, b"fine")

        with Client(serve_asgi(application)) as client:
            for path in ("/set", "/", "/reset", "/"):
                assert client.get(path).body == b"fine"
        assert len(made) == 2

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin later before Python 3.12")
    def test_what_does_not_wait_is_done_at_once(self, serve_asgi: ServeAsgi) -> None:
        rounds: list[int] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            asyncio.get_running_loop().call_soon(rounds.append, 1)
            await receive()
            await respond(send, b"hello")
            # The loop has not come to call what was to be called soon.
            assert not rounds

        with Client(serve_asgi(application)) as client:
            assert client.get().body == b"hello"
        assert rounds == [1]


class TestLimits:
    @pytest.mark.parametrize("blocks", [False, True])
    def test_the_time_of_a_request(
        self, serve_asgi: ServeAsgi, errors: list[Any], blocks: bool
    ) -> None:
        go = event.Event()
        raised: list[Any] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/":
                await respond(send, b"hello")
            try:
                if blocks:
                    go.wait()
                await asyncio.sleep(GUARD)
            except asyncio.CancelledError as error:
                raised.append(error)
                raise

        server = serve_asgi(application, request_timeout=0.05)
        answer = parse(exchange(server, b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert (answer.status, answer.body) == (503, b"the request took too long")
        go.set()
        wait_until(lambda: raised and errors)
        assert isinstance(errors[0], TimeoutError)
        assert errors[0].__cause__ is raised[0]
        # What goes on after the response is not the request's time.
        with Client(server) as client:
            assert client.get().body == b"hello"
            gevent.sleep(0.1)
            assert client.get().body == b"hello"
            assert len(raised) == 1
        for task in server._host.loop and asyncio.all_tasks(server._host.loop):
            task.cancel()

    def test_late_responses_are_cut_off(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await asyncio.sleep(GUARD)

        server = serve_asgi(application, request_timeout=0.05)
        answer = exchange(server, GET)
        assert answer.endswith(b"\r\n\r\n1\r\na\r\n")

    def test_requests_of_a_connection(self, serve_asgi: ServeAsgi) -> None:
        with Client(serve_asgi(hello, max_requests=2)) as client:
            assert "connection" not in client.get().headers
            assert client.get().headers["connection"] == "close"
            assert client.rest() == b""

    def test_pipelined_requests(self, serve_asgi: ServeAsgi) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].endswith("0"):
                await asyncio.sleep(0)
            await respond(send, scope["path"].encode() + await read_body(receive))

        with Client(serve_asgi(application)) as client:
            client.send(
                b"".join(
                    b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % number
                    for number in range(200)
                )
            )
            for number in range(200):
                assert client.response().body == b"/%dabc" % number


class TestStopping:
    def test_requests_come_to_their_end(self, serve_asgi: ServeAsgi) -> None:
        begun = event.Event()
        go = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await go.wait()
            await respond(send, b"done")
            await asyncio.sleep(0.01)
            ended.append(1)

        ended: list[int] = []
        server = serve_asgi(application)
        with Client(server) as client, Client(server) as idle:
            client.send(GET)
            assert begun.wait(GUARD)
            stop = gevent.spawn(server.stop, GUARD)
            assert idle.rest() == b""
            go.set()
            response = client.response()
            assert (response.body, response.headers["connection"]) == (b"done", "close")
            stop.get(timeout=GUARD)
        # What went on after the response, too.
        assert ended == [1]

    def test_what_takes_too_long_is_cancelled(self, serve_asgi: ServeAsgi) -> None:
        ended: list[str] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if scope["path"] == "/after":
                    await respond(send, b"hello")
                begun.set()
                await asyncio.sleep(GUARD)
            except asyncio.CancelledError:
                ended.append(scope["path"])
                raise

        begun = event.Event()
        server = serve_asgi(application, spawn=10)
        with Client(server) as client:
            assert client.get("/after").body == b"hello"
            begun.clear()
            client.send(b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n")
            assert begun.wait(GUARD)
            server.stop(timeout=0.05)
            assert client.response().status == 503
        wait_until(lambda: sorted(ended) == ["/after", "/before"])

"""gevent.pywsgi: connections and their times, whether or not a handler overrides something."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import pywsgi, socket
from gevent.event import Event
from wsgi_support import (
    CHUNKED,
    GET,
    GUARD,
    POST,
    Client,
    Log,
    Serve,
    echo,
    exchange,
    hello,
    parse,
    wait_until,
)


class TestKeepingOpen:
    def test_old_clients_have_to_ask(self, serve: Serve) -> None:
        server = serve(hello)
        response = parse(exchange(server, b"GET / HTTP/1.0\r\n\r\n"))
        assert response.headers["connection"] == "close"
        with Client(server) as client:
            for _ in range(2):
                client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert client.response().headers["connection"] == "keep-alive"

    def test_pipelined_requests_are_answered_in_order(self, serve: Serve) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

        with Client(serve(application)) as client:
            requests = [
                b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % number
                for number in range(200)
            ]
            client.send(b"".join(requests))
            for number in range(200):
                assert client.response().body == b"/%dabc" % number

    def test_others_get_their_turn_between_pipelined_requests(self, serve: Serve) -> None:
        handled = [0]
        seen: list[int] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            handled[0] += 1
            if handled[0] == 1:
                gevent.spawn(lambda: seen.append(handled[0]))
            start_response("200 OK", [])
            return [b""]

        with Client(serve(application)) as client:
            client.send(GET * 500)
            for _ in range(500):
                client.response()
        assert seen[0] < 500

    def test_a_number_of_requests(self, serve: Serve) -> None:
        with Client(serve(hello, max_requests=2)) as client:
            assert "connection" not in client.get().headers
            assert client.get().headers["connection"] == "close"
            assert client.rest() == b""

    def test_bytes_one_at_a_time(self, serve: Serve) -> None:
        with Client(serve(echo)) as client:
            for byte in CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n":
                client.send(bytes([byte]))
                gevent.sleep(0)
            assert client.response().body == b"abc"

    def test_many_at_once(self, serve: Serve) -> None:
        waiting = [0]
        all_there = Event()

        def application(environ: Any, start_response: Any) -> list[bytes]:
            waiting[0] += 1
            if waiting[0] == 50:
                all_there.set()
            all_there.wait()
            return hello(environ, start_response)

        server = serve(application)
        clients = [Client(server) for _ in range(50)]
        jobs = [gevent.spawn(client.get) for client in clients]
        assert [job.get().body for job in gevent.joinall(jobs, timeout=GUARD)] == [b"hello"] * 50
        for client in clients:
            client.close()


class TestTimes:
    def test_of_the_head(self, serve: Serve) -> None:
        server = serve(hello, header_timeout=0.02)
        assert exchange(server, b"") == b""
        assert parse(exchange(server, b"GET / HT")).status == 408
        assert parse(exchange(server, b"GET / HTTP/1.1\r\nHost:")).status == 408

    def test_of_the_head_does_not_start_again(self, serve: Serve) -> None:
        """A client that sends a byte now and then gets no more time for it."""
        server = serve(hello, header_timeout=0.2)
        with Client(server) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")

            def trickle() -> None:
                while True:
                    client.send(b"x")
                    gevent.sleep(0.01)

            job = gevent.spawn(trickle)
            assert client.response().status == 408
            job.kill()

    def test_between_requests(self, serve: Serve) -> None:
        with Client(serve(hello, keep_alive_timeout=0.02)) as client:
            assert client.get().status == 200
            assert client.rest() == b""

    def test_of_a_body(self, serve: Serve, errors: list[Any]) -> None:
        server = serve(echo, body_timeout=0.02)
        assert parse(exchange(server, POST + b"Content-Length: 3\r\n\r\nab")).status == 408
        assert not errors

    def test_of_a_response(self, serve: Serve, errors: list[Any]) -> None:
        done = Event()

        def application(environ: Any, start_response: Any) -> Any:
            write = start_response("200 OK", [])
            try:
                while True:
                    write(b"x" * 1_000_000)
            finally:
                done.set()

        with Client(serve(application, write_timeout=0.02)) as client:
            client.send(GET)
            assert done.wait(GUARD)
        assert not errors

    def test_of_a_request(self, serve: Serve, errors: list[Any]) -> None:
        raised: list[Any] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            if environ["PATH_INFO"] == "/begun":
                start_response("200 OK", [])(b"a")
            try:
                gevent.sleep(GUARD)
            except BaseException as error:
                raised.append(error)
                raise
            return []

        server = serve(application, request_timeout=0.02)
        assert parse(exchange(server, b"GET / HTTP/1.0\r\n\r\n")).status == 503
        begun = exchange(server, b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.endswith(b"1\r\na\r\n")
        assert [type(error) for error in raised] == [gevent.Timeout] * 2
        assert errors == raised

    def test_a_timeout_of_the_application_is_its_own(self, serve: Serve, errors: list[Any]) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            with gevent.Timeout(0.001):
                gevent.sleep(GUARD)
            raise AssertionError("not reached")

        server = serve(application, request_timeout=GUARD)
        assert parse(exchange(server, b"GET / HTTP/1.0\r\n\r\n")).status == 500
        assert isinstance(errors[0], gevent.Timeout)


class TestStopping:
    def test_idle_connections_are_closed(self, serve: Serve) -> None:
        server = serve(hello)
        with Client(server) as client:
            client.get()
            gevent.idle()
            server.stop(timeout=GUARD)
            assert client.rest() == b""
        assert server._core.connection_count == 0

    def test_requests_come_to_their_end(self, serve: Serve) -> None:
        begun, goes_on = Event(), Event()

        def application(environ: Any, start_response: Any) -> list[bytes]:
            begun.set()
            goes_on.wait()
            return hello(environ, start_response)

        server = serve(application)
        with Client(server) as client:
            client.send(GET)
            begun.wait()
            stopping = gevent.spawn(server.stop, timeout=GUARD)
            gevent.idle()
            assert not stopping.dead
            with pytest.raises(ConnectionRefusedError):
                Client(server)
            goes_on.set()
            response = client.response()
            assert (response.body, response.headers["connection"]) == (b"hello", "close")
            stopping.get()

    def test_a_request_that_is_there_is_answered(self, serve: Serve) -> None:
        server = serve(hello)
        with Client(server) as client:
            gevent.idle()  # until it is accepted
            client.get()
            gevent.idle()
            client.send(GET)
            server._core.drain()
            assert client.response().body == b"hello"

    def test_not_longer_than_is_said(self, serve: Serve) -> None:
        begun, goes_on = Event(), Event()

        def application(environ: Any, start_response: Any) -> list[bytes]:
            begun.set()
            goes_on.wait()
            return hello(environ, start_response)

        server = serve(application)
        with Client(server) as client:
            client.send(GET)
            begun.wait()
            server.stop(timeout=0.01)
            assert server._core.connection_count == 1
            goes_on.set()
            assert client.response().body == b"hello"

    def test_those_of_a_pool_are_killed(self, serve: Serve, errors: list[Any]) -> None:
        begun = Event()
        ended: list[Any] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            begun.set()
            try:
                gevent.sleep(GUARD)
            except gevent.GreenletExit as error:
                ended.append(error)
                raise
            return []

        server = serve(application, spawn=10)
        with Client(server) as client:
            client.send(GET)
            begun.wait()
            server.stop(timeout=0.01)
            assert client.response().status == 503
        assert len(ended) == 1
        assert not errors

    def test_a_handler_stops_the_server(self, serve: Serve) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            server.stop(timeout=GUARD)
            return hello(environ, start_response)

        server = serve(application)
        with Client(server) as client:
            assert client.get().body == b"hello"
            assert client.rest() == b""

    def test_it_can_be_started_again(self, serve: Serve) -> None:
        server = serve(hello)
        for _ in range(3):
            with Client(server) as client:
                assert client.get().body == b"hello"
                assert client.get().body == b"hello"
            server.stop(timeout=GUARD)
            server.start()


class TestLeaks:
    def test_a_server_that_is_dropped_is_collected(self) -> None:
        class Application:
            server: Any

            def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
                self.environ = environ
                return hello(environ, start_response)

        application = Application()
        server = pywsgi.WSGIServer(("127.0.0.1", 0), application, log=None)
        application.server = server
        server.start()
        with Client(server) as client:
            client.get()
        server.stop(timeout=GUARD)
        references = [weakref.ref(server), weakref.ref(application)]
        del server, application, client
        wait_until(lambda: gc.collect() >= 0 and not any(ref() for ref in references))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"G",
            b"GET / HTTP/1.1\r\nHo",
            POST + b"Content-Length: 5\r\n\r\n",
            POST + b"Content-Length: 5\r\n\r\nab",
            CHUNKED + b"\r\n3\r\na",
            CHUNKED + b"\r\n3\r\nabc\r\n0\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGE",
        ],
    )
    @pytest.mark.parametrize("hard", [False, True])
    def test_clients_that_go_at_any_point(
        self, serve: Serve, data: bytes, hard: bool, errors: list[Any]
    ) -> None:
        server = serve(echo)
        client = Client(server)
        client.send(data)
        wait_until(lambda: server._core is not None and server._core.connection_count == 1)
        gevent.idle()
        client.reset() if hard else client.close()
        wait_until(lambda: server._core.connection_count == 0)
        assert not errors

    def test_a_killed_greenlet_leaves_nothing(self, serve: Serve) -> None:
        greenlets: list[Any] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            greenlets.append(gevent.getcurrent())
            start_response("200 OK", [])(b"a")
            environ["wsgi.input"].read()
            return []

        server = serve(application)
        with Client(server) as client:
            client.send(POST + b"Content-Length: 5\r\n\r\n")
            wait_until(lambda: bool(greenlets))
            greenlets[0].kill()
            assert client.rest().endswith(b"\r\n\r\n1\r\na\r\n")
        assert server._core.connection_count == 0


class TestSockets:
    def test_little_is_left_to_the_kernel(self, serve: Serve) -> None:
        accepted = []
        server = serve(hello)
        handle = server.do_handle

        def do_handle(sock: Any, address: Any) -> None:
            accepted.append(sock)
            handle(sock, address)

        server.do_handle = do_handle
        with Client(server) as client:
            assert client.get("/").body == b"hello"
            (sock,) = accepted
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            # Of a response that is not read: beside what may be on its way.
            unsent = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            assert unsent == 128 << 10

    def test_unix_domain(self, serve: Serve, tmp_path: Path) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [repr((environ["REMOTE_ADDR"], environ["SERVER_NAME"])).encode()]

        log = Log()
        server = serve(application, listener=str(tmp_path / "socket"), log=log)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(server.address)
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            stream = sock.makefile("rb")
            assert parse(stream.read()).body == b"('', '')"
        assert log.lines[0].startswith("- - - [")


def test_what_a_server_overrides_is_called_for_its_connections() -> None:
    called: list[str] = []

    class Handles(pywsgi.WSGIServer):
        def handle(self, sock: Any, address: Any) -> None:
            called.append("handle")
            super().handle(sock, address)

    class Closes(pywsgi.WSGIServer):
        def do_close(self, *args: Any) -> None:
            super().do_close(*args)
            called.append("do_close")

    def instead(sock: Any, address: Any) -> None:
        called.append("set_handle")
        pywsgi.WSGIServer.handle(replaced, sock, address)

    replaced = pywsgi.WSGIServer(("127.0.0.1", 0), hello, log=None)
    replaced.set_handle(instead)
    servers = [cls(("127.0.0.1", 0), hello, log=None) for cls in (Handles, Closes)]
    for server in [*servers, replaced]:
        with server:
            server.start()
            with Client(server) as client:
                assert client.get("/", "Connection: close").status == 200
                assert client.rest() == b""
    assert called == ["handle", "do_close", "set_handle"]

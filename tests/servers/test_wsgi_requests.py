"""gevent.pywsgi: bodies of requests, and requests that are refused, whether or not a handler
overrides something."""

from __future__ import annotations

import socket as stdlib_socket
from typing import Any

import gevent
import pytest
from gevent import pywsgi
from gevent.event import Event
from gevent.exceptions import ConcurrentObjectUseError
from wsgi_support import (
    CHUNKED,
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


class TestBodies:
    @pytest.mark.parametrize("size", [0, 1, 5000, 3_000_000])
    def test_of_known_length(self, serve: Serve, size: int) -> None:
        body = b"abcde" * (size // 5)
        with Client(serve(echo)) as client:
            for _ in range(2):
                client.send(POST + b"Content-Length: %d\r\n\r\n" % len(body))
                job = gevent.spawn(client.send, body)
                assert client.response().body == body
                job.get()

    def test_in_chunks(self, serve: Serve) -> None:
        body = b"3;x=y\r\nabc\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\nX-T: 1\r\n\r\n"
        with Client(serve(echo)) as client:
            for _ in range(2):
                client.send(CHUNKED + b"\r\n" + body)
                assert client.response().body == b"abc" + b"x" * 65536

    def test_what_nobody_reads_is_skipped(self, serve: Serve) -> None:
        with Client(serve(hello)) as client:
            for _ in range(2):
                client.send(POST + b"Content-Length: 30000\r\n\r\n" + b"GET / HTTP/1.1\r\n" * 1875)
                assert client.response().body == b"hello"
                client.send(CHUNKED + b"\r\n5\r\nGET /\r\n0\r\n\r\n")
                assert client.response().body == b"hello"

    def test_what_is_too_much_to_skip_ends_the_connection(self, serve: Serve) -> None:
        with Client(serve(hello)) as client:
            client.send(POST + b"Content-Length: 10000000\r\n\r\n" + b"x" * 200_000)
            assert client.response().body == b"hello"
            assert client.rest() == b""

    def test_the_client_is_told_to_go_on(self, serve: Serve) -> None:
        head = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        with Client(serve(echo)) as client:
            for _ in range(2):
                client.send(head)
                assert client.response().status == 100
                client.send(b"abc")
                assert client.response().body == b"abc"

    def test_the_client_is_not_told_to_go_on(self, serve: Serve) -> None:
        head = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        with Client(serve(hello)) as client:
            client.send(head)
            response = client.response()
            assert (response.status, response.headers["connection"]) == (200, "close")
            assert client.rest() == b""
        with Client(serve(hello)) as client:
            # It did not wait to be told.
            client.send(head + b"GET")
            assert client.response().body == b"hello"
            assert client.get().body == b"hello"

    @pytest.mark.parametrize(
        "body",
        [b"x\r\n", b"3\r\nabcd\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nx\r\n\r\n"],
    )
    def test_malformed(self, serve: Serve, body: bytes, errors: list[Any]) -> None:
        assert parse(exchange(serve(echo), CHUNKED + b"\r\n" + body)).status == 400
        assert not errors

    def test_malformed_is_told_to_the_application(self, serve: Serve) -> None:
        raised: list[Any] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            for _ in range(2):
                try:
                    environ["wsgi.input"].read()
                except OSError as error:
                    raised.append(error)
            start_response("422 Mine", [])
            return [b"no"]

        response = parse(exchange(serve(application), CHUNKED + b"\r\nx\r\n"))
        assert (response.status, response.headers["connection"]) == (422, "close")
        assert [str(error) for error in raised] == ["the size of a chunk is malformed"] * 2

    def test_too_large(self, serve: Serve) -> None:
        server = serve(echo, max_body=10)
        with Client(server) as client:
            client.send(POST + b"Content-Length: 10\r\n\r\n0123456789")
            assert client.response().body == b"0123456789"
        assert parse(exchange(server, POST + b"Content-Length: 11\r\n\r\n")).status == 413
        response = exchange(server, CHUNKED + b"\r\nb\r\n0123456789a\r\n0\r\n\r\n")
        assert parse(response).status == 413

    def test_the_client_goes(self, serve: Serve, errors: list[Any]) -> None:
        raised: list[Any] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            try:
                environ["wsgi.input"].read()
            except Exception as error:
                raised.append(error)
                raise
            raise AssertionError("not reached")

        server = serve(application)
        with Client(server) as client:
            client.send(POST + b"Content-Length: 10\r\n\r\nabc")
        with Client(server) as client:
            client.send(CHUNKED + b"\r\n3\r\nab")
        with Client(server) as client:
            client.send(CHUNKED + b"\r\n")
            wait_until(lambda: server._core.request_count == 3)
            client.reset()
        wait_until(lambda: server._core.connection_count == 0)
        assert [type(error) for error in raised] == [ConnectionResetError] * 3
        assert not errors

    def test_an_error_of_the_application_is_told_even_if_the_client_went(
        self, serve: Serve, errors: list[Any]
    ) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            try:
                environ["wsgi.input"].read()
            finally:
                raise KeyError("mine")

        server = serve(application)
        with Client(server) as client:
            client.send(POST + b"Content-Length: 10\r\n\r\nabc")
        wait_until(lambda: bool(errors))
        assert repr(errors) == "[KeyError('mine')]"

    def test_one_greenlet_at_a_time(self, serve: Serve) -> None:
        raised: list[Any] = []
        raised_one = Event()

        def application(environ: Any, start_response: Any) -> list[bytes]:
            other = gevent.spawn(environ["wsgi.input"].read)
            gevent.sleep(0)
            try:
                environ["wsgi.input"].read()
            except ConcurrentObjectUseError as error:
                raised.append(error)
            raised_one.set()
            start_response("200 OK", [])
            return [other.get()]

        with Client(serve(application)) as client:
            client.send(POST + b"Content-Length: 9000\r\n\r\nabc")
            assert raised_one.wait(GUARD)
            client.send(b"x" * 8997)
            assert client.response().body == b"abc" + b"x" * 8997
        assert len(raised) == 1

    def test_not_after_the_request(self, serve: Serve) -> None:
        inputs: list[Any] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            inputs.append(environ["wsgi.input"])
            return hello(environ, start_response)

        with Client(serve(application)) as client:
            client.send(POST + b"Content-Length: 3\r\n\r\nabc")
            client.response()
            client.get()
            with pytest.raises(ValueError, match="the request is over"):
                inputs[0].read()

    def test_a_fast_client_lets_others_run(self, serve: Serve) -> None:
        turns = [0]

        def application(environ: Any, start_response: Any) -> list[bytes]:
            stream = environ["wsgi.input"]
            before = turns[0]
            while stream.read(65536):
                pass
            start_response("200 OK", [])
            return [str(turns[0] - before).encode()]

        def count() -> None:
            while True:
                turns[0] += 1
                gevent.sleep(0)

        counter = gevent.spawn(count)
        server = serve(application)
        body = b"x" * 8_000_000
        with Client(server) as client:
            # A native thread: it goes on sending whether or not the server waits.
            sent = gevent.get_hub().threadpool.spawn(
                send_from_thread, server.address, POST + b"Content-Length: 8000000\r\n\r\n" + body
            )
            assert int(parse(sent.get()).body) > 0
            client.close()
        counter.kill()


def send_from_thread(address: Any, data: bytes) -> bytes:
    with stdlib_socket.create_connection(address, GUARD) as sock:
        sock.sendall(data)
        sock.shutdown(stdlib_socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"GET\r\n", 400),
            (b"GET / HTTP %\r\n", 400),
            (b"GET / HTTP/2.0\r\n", 505),
            (b"\x16\x03\x01\x02\x00", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400),
            (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (POST + b"Content-Length: +1\r\n\r\n", 400),
            (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (POST + b"Expect: x\r\n\r\n", 417),
            (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 8192 + b"\r\n\r\n", 431),
            (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
        ],
    )
    def test_status(self, serve: Serve, request_bytes: bytes, status: int) -> None:
        log, error_log = Log(), Log()
        server = serve(hello, log=log, error_log=error_log)
        response = parse(exchange(server, request_bytes))
        assert response.status == status
        assert response.headers["connection"] == "close"
        assert f" {status} " in log.lines[0]
        assert "Invalid request from" in error_log.lines[0]

    def test_settings(self, serve: Serve) -> None:
        server = serve(hello, max_request_line=20, max_header=15, max_headers=2, max_head=60)
        line = b"GET /1234567 HTTP/1.1\r\n"
        assert parse(exchange(server, line)).status == 414
        head = b"GET / HTTP/1.1\r\nHost: a\r\n"
        assert parse(exchange(server, head + b"A: 1234567890123\r\n\r\n")).status == 431
        assert parse(exchange(server, head + b"A: 1\r\nB: 1\r\n\r\n")).status == 431
        with Client(server) as client:
            assert client.get("/", "A: 1").status == 200

    def test_wrong_settings(self) -> None:
        with pytest.raises(ValueError, match="header_timeout"):
            pywsgi.WSGIServer(("127.0.0.1", 0), hello, header_timeout=0)

    def test_a_large_upload_sees_the_refusal(self, serve: Serve) -> None:
        """Closing at once would have the system reset the connection."""
        server = serve(hello, max_body=10)
        with Client(server) as client:
            client.send(POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
            assert client.response().status == 413

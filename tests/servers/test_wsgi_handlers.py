"""gevent.pywsgi: what programs override, hand over and look at."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import gevent
import pytest
from gevent import pywsgi
from gevent.event import Event
from scripts import RunScript
from wsgi_support import GUARD, Client, Log, Serve, exchange, parse

Start = Callable[..., Any]

#: What a handler knows of a request and its response, besides what is looked at one by one.
KNOWN = (
    "requestline",
    "command",
    "path",
    "request_version",
    "content_length",
    "status",
    "code",
    "headers_sent",
    "response_length",
    "result",
    "close_connection",
    "response_use_chunked",
    "provided_date",
    "provided_content_length",
    "connection_upgraded",
)

GET = b"GET /p?q HTTP/1.1\r\nHost: a\r\nX-A: b\r\nConnection: close\r\n\r\n"


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-B", "c")])
    return [b"hello"]


class TestOverriding:
    """Methods and attributes as gevent's documentation, and packages for it, use them."""

    def test_what_a_handler_knows(self, start: Start) -> None:
        seen: dict[str, Any] = {}

        class Handler(pywsgi.WSGIHandler):
            def log_request(self) -> None:
                for name in KNOWN:
                    seen[name] = getattr(self, name)
                seen["headers"] = sorted(self.headers.items())
                seen["header"] = self.headers.getheader("x-a")
                seen["response_headers"] = dict(self.response_headers or ())
                seen["is_environ"] = (
                    self.environ is not None and self.wsgi_input is (self.environ["wsgi.input"])
                )
                seen["address"] = self.client_address
                seen["server"] = self.server
                seen["socket"] = self.socket.fileno()
                seen["times"] = 0 < self.time_start <= self.time_finish

        server = start(hello, handler_class=Handler)
        with Client(server) as client:
            address = client.sock.getsockname()
            client.send(GET)
            client.rest()
        response_headers = seen.pop("response_headers")
        assert response_headers.pop(b"Date")
        assert response_headers == {b"X-B": b"c", b"Content-Length": b"5"}
        assert seen.pop("socket") >= 0
        assert seen == {
            "requestline": "GET /p?q HTTP/1.1",
            "command": "GET",
            "path": "/p?q",
            "request_version": "HTTP/1.1",
            "content_length": None,
            "status": b"200 OK",
            "code": 200,
            "headers_sent": True,
            "response_length": 5,
            "result": [b"hello"],
            "close_connection": True,
            "response_use_chunked": False,
            "provided_date": None,
            "provided_content_length": None,
            "connection_upgraded": False,
            "headers": [("Connection", "close"), ("Host", "a"), ("X-A", "b")],
            "header": "b",
            "is_environ": True,
            "address": address,
            "server": server,
            "times": True,
        }

    def test_an_overridden_method_is_called(self, start: Start) -> None:
        class Handler(pywsgi.WSGIHandler):
            def get_environ(self) -> dict[str, Any]:
                return {**super().get_environ(), "RAW_URI": self.path}

            def finalize_headers(self) -> None:
                super().finalize_headers()
                assert self.response_headers is not None
                self.response_headers.append((b"X-Added", b"1"))

            def write(self, data: bytes) -> None:
                super().write(data.upper())

        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [environ["RAW_URI"].encode(), b"x"]

        response = parse(exchange(start(application, handler_class=Handler), GET))
        assert response.body == b"/P?QX"
        assert response.headers["x-added"] == "1"

    def test_reading_the_request_line(self, start: Start) -> None:
        """As a server that answers Flash's policy requests, or takes the PROXY protocol."""

        class Handler(pywsgi.WSGIHandler):
            def read_requestline(self) -> Any:
                first = self.rfile.read(5)
                if first == b"PROXY":
                    self.client_address = self.rfile.readline().split()[1].decode(), 1
                    return super().read_requestline()
                if first == b"<poli":
                    self.socket.sendall(b"policy")
                    return None
                return first + self.rfile.readline()

            def get_environ(self) -> dict[str, Any]:
                return {**super().get_environ(), "REMOTE_ADDR": self.client_address[0]}

        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [environ["REMOTE_ADDR"].encode()]

        server = start(application, handler_class=Handler)
        assert exchange(server, b"<policy/>") == b"policy"
        assert parse(exchange(server, GET)).body == b"127.0.0.1"
        proxied = b"PROXY TCP4 10.0.0.1\r\n" + GET
        assert parse(exchange(server, proxied)).body == b"10.0.0.1"

    def test_stopping_while_a_request_line_is_read(self, start: Start) -> None:
        class Handler(pywsgi.WSGIHandler):
            def read_requestline(self) -> Any:
                return self.rfile.readline()

        server = start(hello, handler_class=Handler)
        with Client(server) as client:
            assert client.get().body == b"hello"
            gevent.idle()
            server.stop(timeout=GUARD)
            assert server._core.connection_count == 0
            assert client.rest() == b""

    def test_another_request_line(self, start: Start) -> None:
        class Handler(pywsgi.WSGIHandler):
            def read_request(self, raw_requestline: Any) -> bool:
                return super().read_request(raw_requestline.replace("/old", "/very/new"))

        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

        with Client(start(application, handler_class=Handler)) as client:
            for _ in range(2):
                client.send(b"POST /old HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
                assert client.response().body == b"/very/newx"

    def test_a_response_in_place_of_the_applications(self, start: Start) -> None:
        class Handler(pywsgi.WSGIHandler):
            def handle_one_request(self) -> Any:
                self.read_requestline()
                return b"418 Teapot", b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"

        log = Log()
        response = parse(exchange(start(hello, handler_class=Handler, log=log), GET))
        assert response.status == 418
        assert '"" 418 ' in log.lines[0]

    def test_errors(self, start: Start) -> None:
        seen: list[Any] = []

        class Handler(pywsgi.WSGIHandler):
            def handle_error(self, t: Any, v: Any, tb: Any) -> None:
                seen.append((t, v, tb))
                self._send_error_response_if_possible(500)

        def application(environ: Any, start_response: Any) -> list[bytes]:
            raise KeyError("mine")

        assert parse(exchange(start(application, handler_class=Handler), GET)).status == 500
        assert repr(seen[0][1]) == "KeyError('mine')"
        assert seen[0][2] is not None

    def test_errors_of_what_is_overridden(self, start: Start) -> None:
        printed: list[int] = []

        class Handler(pywsgi.WSGIHandler):
            def read_request(self, raw_requestline: Any) -> bool:
                raise KeyError("mine")

            @staticmethod
            def _print_unexpected_exc() -> None:  # type: ignore[override]
                printed.append(1)

        response = parse(exchange(start(hello, handler_class=Handler), GET))
        assert response.status == 400
        assert b"mine" not in response.body
        assert printed == [1]

    def test_closing_the_connection(self, start: Start) -> None:
        class Handler(pywsgi.WSGIHandler):
            def run_application(self) -> None:
                self.close_connection = True
                super().run_application()

        response = exchange(
            start(hello, handler_class=Handler), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert parse(response).headers["connection"] == "close"

    def test_a_file_for_requests(self, start: Start) -> None:
        class Server(pywsgi.WSGIServer):
            def handle(self, sock: Any, address: Any) -> None:
                self.handler_class(sock, address, self, sock.makefile("rb")).handle()

        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [environ["wsgi.input"].read()]

        server = Server(("127.0.0.1", 0), application, log=None)
        with server:
            server.start()
            with Client(server) as client:
                for _ in range(2):
                    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n")
                    client.send(b"x" * 10_000)
                    assert client.response().body == b"x" * 10_000

    def test_the_server(self, start: Start) -> None:
        """Also where that does not cost the fast way."""
        seen: list[str] = []

        class Server(pywsgi.WSGIServer):
            def application(self, environ: Any, start_response: Any) -> list[bytes]:
                seen.append(type(environ).__name__)
                start_response("200 OK", [])
                return [environ["my.own"].encode()]

            def get_environ(self) -> dict[str, Any]:
                return {**super().get_environ(), "my.own": "x"}

            def handle(self, sock: Any, address: Any) -> None:
                seen.append("handle")
                super().handle(sock, address)

        with Server(("127.0.0.1", 0), log=None) as server:
            server.start()
            assert parse(exchange(server, GET)).body == b"x"
            assert server._is_plain
            server.stop()
        assert seen == ["handle", "dict"]

    def test_what_is_no_behaviour_costs_nothing(self, start: Start) -> None:
        class Handler(pywsgi.WSGIHandler):
            """Has a name of its own."""

            unrelated = 1

        server = start(hello, handler_class=Handler)
        exchange(server, GET)
        assert server._is_plain

    def test_set_while_the_server_runs(self, serve: Serve) -> None:
        server = serve(hello)
        assert parse(exchange(server, GET)).body == b"hello"
        server.application = lambda environ, start_response: (
            start_response("200 OK", []) and [environ["my.own"]]
        )
        server.set_environ({"my.own": b"other"})
        assert parse(exchange(server, GET)).body == b"other"


class TestTakingOver:
    """Other protocols on a connection."""

    def test_by_the_application(self, serve: Serve) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            assert not environ["wsgi.input_terminated"]
            headers = [("Upgrade", "shout"), ("Connection", "Upgrade")]
            write = start_response("101 Switching Protocols", headers)
            write(b"")
            while line := environ["wsgi.input"].readline():
                write(line.upper())
            return [b"bye"]

        with Client(serve(application)) as client:
            head = client.get("/", "Upgrade: shout", "Connection: Upgrade")
            assert head.status == 101
            assert head.headers == {
                "upgrade": "shout",
                "connection": "Upgrade",
                **{name: head.headers[name] for name in ("date",) if name in head.headers},
            }
            for _ in range(2):
                client.send(b"hello\n")
                assert client.stream.readline() == b"HELLO\n"
            client.sock.shutdown(1)
            assert client.rest() == b"bye"

    def test_what_was_sent_early_is_not_lost(self, serve: Serve) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("101 Switching Protocols", [("Upgrade", "x")])(b"")
            return [environ["wsgi.input"].rfile.read(5)]

        request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"
        assert exchange(serve(application), request).endswith(b"\r\n\r\nhello")

    def test_by_the_socket(self, serve: Serve, errors: list[Any]) -> None:
        """As simple-websocket does it: nothing of the answer is the server's."""
        log = Log()

        def application(environ: Any, start_response: Any) -> list[bytes]:
            sock = environ["wsgi.input"].rfile.raw._sock
            sock.sendall(b"mine " + sock.recv(10))
            return []

        server = serve(application, error_log=log)
        with Client(server) as client:
            client.send(GET)
            gevent.idle()
            client.send(b"hello")
            assert client.rest() == b"mine hello"
        assert not errors
        assert not log.lines

    def test_by_a_handler(self, start: Start) -> None:
        """In the way of gevent-websocket."""

        class Stream:
            def __init__(self, handler: Any) -> None:
                self.handler = handler
                self.read = handler.rfile.read
                self.write = handler.socket.sendall

        class Handler(pywsgi.WSGIHandler):
            def run_application(self) -> None:
                assert self.environ is not None
                assert self.application is not None
                if "HTTP_UPGRADE" not in self.environ:
                    super().run_application()
                    return
                assert self.request_version == "HTTP/1.1"
                self.environ["stream"] = Stream(self)
                self.start_response("101 Switching Protocols", [("Upgrade", "x")])
                if self.status and not self.headers_sent:
                    self.write("")
                list(self.application(self.environ, lambda status, headers: []))

            def start_response(self, status: Any, headers: Any, exc_info: Any = None) -> Any:
                writer = super().start_response(status, headers, exc_info)
                assert not self.headers_sent
                if "stream" in (self.environ or {}):
                    self.provided_content_length = False
                    self.response_use_chunked = False
                    self.provided_date = True
                return writer

            def log_request(self) -> None:
                if "101" not in str(self.status):
                    lines.append(self.format_request())

        def application(environ: Any, start_response: Any) -> list[bytes]:
            stream = environ.get("stream")
            if stream is None:
                return hello(environ, start_response)
            while data := stream.read(3):
                stream.write(data.upper())
            return []

        lines: list[str] = []
        with Client(start(application, handler_class=Handler)) as client:
            assert client.get().body == b"hello"
            response = client.get("/", "Upgrade: x", "Connection: upgrade")
            assert (response.status, response.headers) == (101, {"upgrade": "x"})
            for _ in range(2):
                client.send(b"abc")
                assert client.stream.read(3) == b"ABC"
            client.sock.shutdown(1)
            assert client.rest() == b""
        assert len(lines) == 1

    def test_gevent_websocket(self, start: Start) -> None:
        import websocket
        from geventwebsocket import handler

        def application(environ: Any, start_response: Any) -> list[bytes]:
            connection = environ.get("wsgi.websocket")
            if connection is None:
                return hello(environ, start_response)
            while (message := connection.receive()) is not None:
                connection.send(message.upper())
            return []

        server = start(application, handler_class=handler.WebSocketHandler)
        with Client(server) as client:
            assert client.get().body == b"hello"
        connection = websocket.create_connection(
            f"ws://127.0.0.1:{server.server_port}/",
            sockopt=(),
            socket=Client(server).sock,
        )
        for text in ("a", "b" * 100_000):
            connection.send(text)
            assert connection.recv() == text.upper()
        connection.close()

    def test_simple_websocket(self, run_script: RunScript) -> None:
        result = run_script(
            """
            from gevent import monkey; monkey.patch_all()
            import simple_websocket, websocket
            from gevent import pywsgi

            def application(environ, start_response):
                connection = simple_websocket.Server(environ)
                try:
                    while True:
                        connection.send(connection.receive().upper())
                except simple_websocket.ConnectionClosed:
                    return []

            with pywsgi.WSGIServer(("127.0.0.1", 0), application, log=None) as server:
                server.start()
                url = f"ws://127.0.0.1:{server.server_port}/"
                connection = websocket.create_connection(url, timeout=30)
                connection.send("hello")
                print(connection.recv())
                connection.close()
            """
        )
        assert result.stdout.strip() == "HELLO"
        assert not result.stderr


class TestLogs:
    def test_a_line_for_each_request(self, serve: Serve) -> None:
        log = Log()
        server = serve(hello, log=log)
        exchange(server, GET)
        exchange(server, b"bad\r\n")
        ip, line, status, length, seconds = (
            log.lines[0][:9],
            log.lines[0].split('"')[1],
            *log.lines[0].split('"')[2].split(),
        )
        assert (ip, line, status, length) == ("127.0.0.1", "GET /p?q HTTP/1.1", "200", "5")
        assert float(seconds) >= 0
        assert log.lines[0].endswith("\n")
        assert " 400 " in log.lines[1]

    def test_loggers(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("wsgi")
        with caplog.at_level(logging.INFO, "wsgi"):
            server = serve(hello, log=logger, error_log=logger)
            exchange(server, GET)
            exchange(server, b"bad\r\n")
        levels = [record.levelno for record in caplog.records]
        assert sorted(levels) == [logging.INFO, logging.INFO, logging.ERROR]
        assert caplog.records[0].getMessage().endswith(tuple("0123456789"))

    def test_an_adapter_is_its_logger(self) -> None:
        class Logger:
            lines: list[Any]

            def log(self, level: int, message: str) -> None:
                self.lines.append((level, message))

        logger = Logger()
        adapter = pywsgi.LoggingLogAdapter(logger, 40)
        adapter.lines = []
        adapter.write("a\n")
        adapter.writelines(["b", "c\n"])
        adapter.flush()
        assert logger.lines == adapter.lines == [(40, "a"), (40, "b"), (40, "c")]
        del adapter.lines
        assert not hasattr(logger, "lines")

    def test_standard_error_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pywsgi.WSGIServer(("127.0.0.1", 0), hello) as server:
            assert server.log is sys.stderr
            assert server.environ["wsgi.errors"] is sys.stderr

    def test_a_log_that_fails(self, serve: Serve, errors: list[Any]) -> None:
        class Full:
            def write(self, text: str) -> None:
                raise OSError("full")

        assert parse(exchange(serve(hello, log=Full()), GET)).body == b"hello"


class TestEnvirons:
    def test_secrets_are_not_shown(self) -> None:
        environ = pywsgi.SecureEnviron(key="value", secret="hidden")
        assert repr(environ).startswith("<pywsgi.SecureEnviron dict (keys: 2) at ")
        environ.whitelist_keys = ("key",)
        assert str(environ) == "{'key': 'value', 'secret': '<MASKED>'}"
        environ.print_masked_keys = False
        assert str(environ) == "{'key': 'value', (hidden keys: 1)}"
        environ.secure_repr = False
        assert str(environ) == "{'key': 'value', 'secret': 'hidden'}"
        with pytest.raises(AttributeError):
            environ.other  # noqa: B018

    def test_errors_show_whom_they_concern_only(
        self, serve: Serve, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            raise KeyError("mine")

        with Client(serve(application)) as client:
            client.get("/", "Cookie: hush")
        shown = capsys.readouterr().err
        assert "'REMOTE_ADDR': '127.0.0.1'" in shown
        assert "KeyError: 'mine'" in shown
        assert "hush" not in shown

    @pytest.mark.parametrize("kind", [pywsgi.Environ, pywsgi.SecureEnviron])
    def test_copies(self, kind: Any) -> None:
        environ = kind(a=1)
        assert type(environ.copy()) is kind
        assert type(pickle.loads(pickle.dumps(environ))) is dict
        assert copy.copy(environ) == {"a": 1}
        assert json.dumps(environ) == '{"a": 1}'
        assert list(environ.iteritems()) == [("a", 1)]

    def test_a_class_of_its_own(self, serve: Serve) -> None:
        kinds: list[type] = []

        def application(environ: Any, start_response: Any) -> list[bytes]:
            kinds.append(type(environ))
            return hello(environ, start_response)

        server = serve(application)
        server.stop()
        server.environ_class = pywsgi.SecureEnviron
        server.start()
        exchange(server, GET)
        assert kinds == [pywsgi.SecureEnviron]


class TestInputs:
    """Inputs that programs make themselves."""

    def test_of_known_length(self) -> None:
        rfile = BytesIO(b"ab\ncd\nefgh")
        stream = pywsgi.Input(rfile, 8)
        assert stream.read(1) == b"a"
        assert stream.readline() == b"b\n"
        assert list(stream) == [b"cd\n", b"ef"]
        assert stream.read() == b""
        assert rfile.read() == b"gh"
        assert (stream.content_length, stream.position) == (8, 8)

    def test_in_chunks(self) -> None:
        rfile = BytesIO(b"2\r\nab\r\n3;x\r\n\ncd\r\n0\r\nX: y\r\n\r\nrest")
        stream = pywsgi.Input(rfile, None, chunked_input=True)
        assert stream.readlines() == [b"ab\n", b"cd"]
        assert rfile.read() == b"rest"

    def test_none(self) -> None:
        assert pywsgi.Input(BytesIO(b"abc"), None).read() == b""

    @pytest.mark.parametrize("data", [b"", b"2", b"2\r\n", b"2\r\na", b"2\r\nab\r\n", b"x\r\n"])
    def test_cut_off(self, data: bytes) -> None:
        for read in ("read", "readline", "readlines"):
            stream = pywsgi.Input(BytesIO(data), None, chunked_input=True)
            with pytest.raises(OSError, match=r"."):
                getattr(stream, read)()
        with pytest.raises(OSError, match=r"."):
            pywsgi.Input(BytesIO(data), len(data) + 1).read()


class TestGunicorn:
    def test_its_handler(self, start: Start) -> None:
        """What gunicorn's worker for pywsgi overrides and passes."""
        logged: list[Any] = []

        class Logger:
            def log(self, level: int, message: str) -> None:
                raise AssertionError("not called")

            def access(self, *args: Any) -> None:
                logged.append(args)

        class Handler(pywsgi.WSGIHandler):
            def log_request(self) -> None:
                status = self.status.decode() if isinstance(self.status, bytes) else self.status
                self.server.log.access(
                    status, self.response_headers, self.response_length, self.headers.items()
                )

            def get_environ(self) -> dict[str, Any]:
                environ = super().get_environ()
                environ["gunicorn.sock"] = self.socket
                environ["RAW_URI"] = self.path
                return environ

        server = start(
            hello,
            spawn=gevent.pool.Pool(10),
            log=Logger(),
            handler_class=Handler,
            environ={"wsgi.multiprocess": True},
        )
        assert server.max_accept == 1
        assert parse(exchange(server, GET)).body == b"hello"
        status, response_headers, length, headers = logged[0]
        assert (status, length) == ("200 OK", 5)
        assert (b"X-B", b"c") in response_headers
        assert ("X-A", "b") in list(headers)


def test_a_generator_of_requests_in_parallel(serve: Serve) -> None:
    """Handlers of connections run beside each other."""
    events = [Event(), Event()]

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        mine = int(environ["PATH_INFO"][1:])
        start_response("200 OK", [])
        events[mine].set()
        yield b"a"
        assert events[1 - mine].wait(GUARD)
        yield b"b"

    server = serve(application)
    with Client(server) as first, Client(server) as second:
        jobs = [gevent.spawn(first.get, "/0"), gevent.spawn(second.get, "/1")]
        assert [job.get().body for job in jobs] == [b"ab", b"ab"]

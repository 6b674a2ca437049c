"""What HTTP servers are measured with: what wrk tells, the servers, and clients of our own."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from benches import http_load
from benches.companions.launch import Companion
from benches.companions.wsgi_application import FILE_SIZE, HELLO
from benches.harness import Bench

WRK = """Running 1s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.91ms    1.21ms  25.48ms   91.07%
    Req/Sec    16.61k     2.77k   20.21k    60.00%
  Latency Distribution
     50%    3.60ms
     75%    4.23ms
     90%    4.93ms
     99%    7.76ms
  16541 requests in 1.00s, 2.24MB read
Requests/sec:  16526.06
Transfer/sec:      2.24MB
"""


def test_what_wrk_tells() -> None:
    assert http_load.result(WRK) == pytest.approx({"time": 1 / 16541, "p99": 0.00776})
    slow = WRK.replace("7.76ms", "1.20s").replace("in 1.00s", "in 1.50m")
    assert http_load.result(slow) == pytest.approx({"time": 90 / 16541, "p99": 1.2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WRK + "  Non-2xx or 3xx responses: 3\n", "Non-2xx or 3xx responses: 3"),
        (WRK + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", "read 3"),
        (WRK.replace("16541 requests", "0 requests"), "0 requests"),
        ("unable to connect to 127.0.0.1:8000 Connection refused\n", "Connection refused"),
    ],
)
def test_answers_that_are_missing_or_wrong_make_no_figure(text: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        http_load.result(text)


@pytest.fixture
def serve() -> Any:
    """Starts a server with an application of the benchmarks."""
    pytest.importorskip("greenloop")
    companions: list[Companion] = []

    def start(application: str, name: str = "greenloop") -> http_load.Server:
        companion = Companion("wsgi_server", name, application, cpu=None)
        companions.append(companion.__enter__())
        told = companion.read()
        return http_load.Server(told["port"], told["pid"])

    yield start
    for companion in companions:
        companion.__exit__(None, None, None)


Serve = Callable[..., http_load.Server]


def get(port: int, path: str = "/", body: bytes = b"") -> bytes:
    """The body of the answer to a request."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(head.encode() + body)
        data = b"".join(iter(lambda: client.recv(65536), b""))
    head_bytes, _, answer = data.partition(b"\r\n\r\n")
    assert head_bytes.startswith(b"HTTP/1.1 200 ")
    return answer


@pytest.mark.parametrize("name", ["greenloop", "greenloop_serve"])
def test_applications_answer_what_they_should(serve: Serve, name: str) -> None:
    assert get(serve("hello", name).port) == HELLO
    assert get(serve("echo", name).port, body=b"x" * 65536) == b"x" * 65536
    assert len(get(serve("file", name).port)) == FILE_SIZE
    sleeping = serve("sleep", name).port
    assert get(sleeping) == get(sleeping, "/hello") == HELLO
    assert get(serve("path", name).port, "/a") == b"/a"
    assert get(serve("asgi_hello", name).port) == HELLO


@pytest.mark.parametrize("is_terminated", [False, True])
def test_a_server_is_killed_with_its_processes(serve: Serve, is_terminated: bool) -> None:
    with Companion("wsgi_server", "greenloop_serve", "hello", cpu=None) as companion:
        told = companion.read()
        pids = http_load.Server(told["port"], told["pid"]).pids()
        # The supervisor, and a worker.
        assert len(pids) == 2
        handles = [os.pidfd_open(pid) for pid in pids]
        if is_terminated:
            os.kill(companion.pid, signal.SIGTERM)
    for handle in handles:
        assert select.select([handle], [], [], 30)[0], "a process is left"
        os.close(handle)


def test_use_of_cpu_and_memory_is_that_of_all_processes(serve: Serve) -> None:
    server = serve("hello", "greenloop_serve")
    _, worker = server.pids()
    assert server.resident() > http_load.Server(server.port, worker).resident()
    before = server.cpu()
    for _ in range(200):
        get(server.port)
    assert server.cpu() > before


def clients(kind: str, server: http_load.Server, count: int, seconds: float) -> Companion:
    arguments = ["--port", server.port, "--connections", count, "--seconds", seconds]
    return Companion("http_clients", kind, *arguments, cpu=None)


def test_clients(serve: Serve) -> None:
    server = serve("path")
    with clients("idle", server, 20, 0) as idle:
        assert idle.read() == {"answered": 20}
        with clients("slow", server, 20, 0.3) as slow:
            assert slow.read() == {"connected": 20}
            seen = slow.read()
    assert seen["answered"] > 0
    assert 0 < seen["median"] <= seen["p99"] <= seen["worst"]
    with clients("pipeline", server, 1, 0.1) as pipeline:
        assert pipeline.read()["answered"] % 100 == 0


def test_answers_out_of_order_are_noticed(serve: Serve) -> None:
    # Every answer is the same: not those that were asked for.
    command = [sys.executable, "-m", "benches.companions.http_clients", "pipeline"]
    command += ["--port", str(serve("hello").port)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
    # It would end when its standard input does.
    with subprocess.Popen(command, cwd=http_load.ROOT, text=True, **pipes) as client:
        errors = client.stderr.read()  # type: ignore[union-attr]
    assert client.returncode != 0
    assert "asked for b'/0'" in errors


@pytest.mark.skipif(http_load.find_wrk() is None, reason="`make bench-http` unpacks wrk")
def test_load(serve: Serve) -> None:
    server = serve("hello")
    bench = Bench("greenloop", 4, quick=True)
    seen = http_load.measure(bench, server)
    assert 0 < seen["time"] < 1
    assert 0 < seen["cpu"] < 1
    assert seen["p99"] > 0

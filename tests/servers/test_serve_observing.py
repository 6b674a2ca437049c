"""Logs and numbers of `greenloop serve`, and what it believes of proxies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from serve_support import Served, eventually, get, run_to_end

from greenloop.serve._access_log import AccessLog
from greenloop.serve._metrics import Metrics
from greenloop.serve._proxy import Peers, apply_forwarded

ASK = (
    b'GET /path?query HTTP/1.1\r\nHost: here\r\nUser-Agent: a "b" \\\xe9\r\n'
    b"Referer: http://x/\r\nConnection: close\r\n\r\n"
)


def _ask(server: Served, request: bytes) -> bytes:
    with server.connect() as sock:
        sock.sendall(request)
        with sock.makefile("rb") as file:
            return file.read()


def _lines(path: Path, count: int) -> list[str]:
    eventually(lambda: path.exists() and path.read_text().count("\n") >= count)
    return path.read_text().splitlines()


def test_no_access_log_by_default(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        server.get()
        server.stop()
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert "GET" not in server.text


_TIME = r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


def test_common(tmp_path: Path) -> None:
    words = ["--access-log", "log", "--access-log-format", "common"]
    with Served(tmp_path, *words) as server:
        _ask(server, ASK)
        _ask(server, b"nonsense\r\n\r\n")
        lines = _lines(tmp_path / "log", 2)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_TIME} "GET /path\?query HTTP/1\.1" 200 5', lines[0])
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_TIME} "-" 400 \d+', lines[1])


def test_combined_on_standard_output(tmp_path: Path) -> None:
    with Served(tmp_path, "--access-log", "-") as server:
        _ask(server, ASK)
        assert server.process.stdout is not None
        line = server.process.stdout.readline()
        server.stop()
    assert line.endswith(' 200 5 "http://x/" "a \\"b\\" \\\\\\xe9"\n')


def test_json(tmp_path: Path) -> None:
    words = ["--access-log", "log", "--access-log-format", "json"]
    with Served(tmp_path, *words) as server:
        _ask(server, ASK)
        record = json.loads(_lines(tmp_path / "log", 1)[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record.pop("seconds") >= 0
    assert record.pop("pid") != server.process.pid
    assert record == {
        "remote_addr": "127.0.0.1",
        "remote_user": None,
        "method": "GET",
        "target": "/path?query",
        "protocol": "HTTP/1.1",
        "host": "here",
        "scheme": "http",
        "status": 200,
        "length": 5,
        "referer": "http://x/",
        "user_agent": 'a "b" \\é',
    }


@pytest.mark.parametrize("kind", ["common", "combined", "json"])
def test_nobody_can_forge_lines(tmp_path: Path, kind: str) -> None:
    log = AccessLog(str(tmp_path / "log"), kind)
    evil = 'x\n127.0.0.1 - - "y" \r\x1b[2J\x85\u2028'
    environ = {"REMOTE_ADDR": "1.2.3.4", "REMOTE_USER": evil, "HTTP_USER_AGENT": evil}
    log.write(environ, f"GET /{evil} HTTP/1.1", 200, 5, 0.1)
    log.close()
    data = (tmp_path / "log").read_bytes()
    assert data.count(b"\n") == 1
    assert data[:-1].decode("ascii").isprintable()


def test_the_access_log_is_opened_anew(tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "old"
    with Served(tmp_path, "--access-log", "log", "--workers", "2") as server:
        server.pids(2)
        log.rename(old)
        server.send(signal.SIGUSR1)
        eventually(log.exists)

        def both_have_it() -> bool:
            before = old.stat().st_size
            server.pids(2)
            return old.stat().st_size == before

        eventually(both_have_it)
        assert server.stop() == 0


def test_a_log_that_cannot_be_written_fails_no_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = AccessLog("/dev/full", "common")
    for _ in range(2):
        log.write({}, None, 200, 0, 0.0)
    log.close()
    assert capfd.readouterr().err.count("No space left on device") == 1


# --- proxies


def _forwarded(environ: dict[str, Any], peers: str = "10.0.0.0/8, ::1, unix") -> dict[str, Any]:
    apply_forwarded(environ, Peers.parse(peers))
    return environ


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("", "1.2.3.4", "1.2.3.4"),
        ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "1.2.3.4:567", "1.2.3.4"),
        ("10.0.0.1", "[2001:db8::1]:567", "2001:db8::1"),
        ("10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("11.0.0.1", "1.2.3.4", "11.0.0.1"),
        ("127.0.0.1", "1.2.3.4", "127.0.0.1"),
    ],
)
def test_whom_a_request_is_from(peer: str, forwarded: str, client: str) -> None:
    environ = _forwarded(
        {"REMOTE_ADDR": peer, "REMOTE_PORT": "1", "HTTP_X_FORWARDED_FOR": forwarded}
    )
    assert environ["REMOTE_ADDR"] == client
    assert ("REMOTE_PORT" in environ) == (client == peer)


def test_everybody_can_be_believed() -> None:
    environ = _forwarded({"REMOTE_ADDR": "9.9.9.9", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}, "*")
    assert environ["REMOTE_ADDR"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("https, http", "http"), ("gopher", "http")],
)
def test_schemes(proto: str, scheme: str) -> None:
    environ = {"REMOTE_ADDR": "::1", "wsgi.url_scheme": "http", "HTTP_X_FORWARDED_PROTO": proto}
    assert _forwarded(environ)["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("example.org", ("example.org", "example.org", "80")),
        ("a.example, example.org:81", ("example.org:81", "example.org", "81")),
        ("[::1]", ("[::1]", "[::1]", "80")),
        ("[::1]:81", ("[::1]:81", "[::1]", "81")),
        ("no host", ("before", "name", "8000")),
        ("a/b", ("before", "name", "8000")),
        ("user@host", ("before", "name", "8000")),
    ],
)
def test_hosts(header: str, expected: tuple[str, str, str]) -> None:
    environ = _forwarded(
        {
            "REMOTE_ADDR": "::1",
            "HTTP_HOST": "before",
            "SERVER_NAME": "name",
            "SERVER_PORT": "8000",
            "wsgi.url_scheme": "http",
            "HTTP_X_FORWARDED_HOST": header,
        }
    )
    assert (environ["HTTP_HOST"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected


_FORWARDED = {
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "example.org",
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("127.0.0.1", "http", False)),
        (["--proxy-headers"], ("1.2.3.4", "https", True)),
        (["--proxy-headers", "--forwarded-allow-ips", "10.1.1.1"], ("127.0.0.1", "http", False)),
    ],
)
def test_proxy_headers(tmp_path: Path, words: list[str], expected: tuple[str, str, bool]) -> None:
    with Served(tmp_path, *words, "--access-log", "log") as server:
        address, scheme, is_host = expected
        assert server.get("/environ?REMOTE_ADDR", _FORWARDED) == address
        assert server.get("/environ?wsgi.url_scheme", _FORWARDED) == scheme
        assert (server.get("/environ?HTTP_HOST", _FORWARDED) == "example.org") == is_host
        # The log tells of the client.
        assert _lines(tmp_path / "log", 3)[0].startswith(f"{address} ")


# --- numbers


def test_numbers_are_those_of_all_workers() -> None:
    metrics = Metrics()
    for place, status in ((0, 200), (1, 204), (700, 503)):
        worker = metrics.worker(place)
        worker.set_connections(3)
        worker.count(status, 10, 0.003)
    metrics.worker(0).count(200, 0, 100.0)
    metrics.set_workers(3)
    metrics.worker_is_gone(1)
    lines = metrics.text().splitlines()
    for line in (
        "greenloop_workers 3",
        "greenloop_connections 6",
        'greenloop_requests_total{status="2xx"} 3',
        'greenloop_requests_total{status="5xx"} 1',
        "greenloop_response_bytes_total 30",
        'greenloop_request_duration_seconds_bucket{le="0.0025"} 0',
        'greenloop_request_duration_seconds_bucket{le="0.005"} 3',
        'greenloop_request_duration_seconds_bucket{le="10.0"} 3',
        'greenloop_request_duration_seconds_bucket{le="+Inf"} 4',
        "greenloop_request_duration_seconds_sum 100.009",
        "greenloop_request_duration_seconds_count 4",
    ):
        assert line in lines


def test_the_admin_address(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    with Served(tmp_path, "--admin", f"unix:{path}", "--workers", "2") as server:
        (pid, *_) = server.pids(2)
        # A worker may answer before the supervisor has heard that it does.
        eventually(lambda: get(path, "/health") == "2 workers\n")
        before = _requests(path)
        assert before >= 30
        with server.connect() as sock:
            sock.sendall(b"GET /wait?a HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: "greenloop_requests_in_progress 1\n" in get(path, "/metrics"))
            eventually(lambda: "greenloop_connections 1\n" in get(path, "/metrics"))
            (tmp_path / "go").touch()
            assert sock.recv(65536)
        eventually(lambda: "greenloop_requests_in_progress 0\n" in get(path, "/metrics"))
        os.kill(int(pid), signal.SIGKILL)
        server.wait_for("has died")
        # What was counted by a worker that has died stays.
        assert _requests(path) >= before + 1
        assert "greenloop_worker_deaths_total 1\n" in get(path, "/metrics")
        with pytest.raises(AssertionError, match="404"):
            get(path, "/other")
        # It is not what is served.
        with pytest.raises(AssertionError, match="404"):
            get(path, "/pid")
        assert server.stop() == 0
    assert not path.exists()


def _requests(path: Path) -> int:
    found = re.findall(
        r"^greenloop_requests_total\{.*\} (\d+)$", get(path, "/metrics"), re.MULTILINE
    )
    return sum(map(int, found))


def test_statsd(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(60)
        where = f"127.0.0.1:{statsd.getsockname()[1]}"
        with Served(tmp_path, "--statsd", where, "--statsd-prefix", "here") as server:
            server.get()
            lines = statsd.recv(65536).decode().splitlines()
            assert lines[:2] == ["here.requests:1|c", "here.request.status.200:1|c"]
            assert re.fullmatch(r"here\.request\.duration:\d+\.\d+\|ms", lines[2])
            assert len(lines) == 3
            assert server.stop() == 0


def test_a_statsd_that_is_not_known(tmp_path: Path) -> None:
    result = run_to_end(tmp_path, "app", "--statsd", "no.such.host.invalid:8125")
    assert result.returncode == 1
    assert "cannot find the StatsD no.such.host.invalid: " in result.stderr

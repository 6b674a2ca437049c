"""Asks servers what they make of malformed and ambiguous requests: `make conformance-http`.

    python tools/conformance_http.py [--peers PYTHON] [--server NAME ...] [GROUP ...]

The cases are in conformance/http_cases.py. greenloop's servers, of WSGI and of ASGI, have to give
the expected answers; for other servers, which the interpreter PYTHON has, the table shows where
they give others. GROUP: ask only cases whose names begin so, for example chunks. Exit status: 0 if
greenloop gives every expected answer, else 1.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "conformance"))

from http_cases import CASES, Case  # noqa: E402

#: Seconds to wait for an answer that ought to come, and for one that ought not to.
ANSWER = 20.0
SILENCE = 0.5
#: How many cases are asked at the same time.
AT_ONCE = 8

APPLICATION = "http_application:application"
COMMANDS = {
    "greenloop": (
        "{python}", "-m", "greenloop", "{here}/http_servers.py", "greenloop", "wsgi", "{port}",
    ),
    "greenloop, asgi": (
        "{python}", "-m", "greenloop", "{here}/http_servers.py", "greenloop", "asgi", "{port}",
    ),
    "gevent": ("{peers}", "{here}/http_servers.py", "gevent", "wsgi", "{port}"),
    "gunicorn": (
        "{peers}", "-m", "gunicorn", "-k", "gthread", "--threads=4", "-b", "127.0.0.1:{port}",
        "--log-level=critical", "--chdir={here}", APPLICATION,
    ),
    "granian": (
        "{peers}", "-m", "granian", "--interface=wsgi", "--host=127.0.0.1", "--port={port}",
        "--no-log", "--working-dir={here}", APPLICATION,
    ),
}  # fmt: skip
#: Those that have to give the expected answers.
OURS = [name for name in COMMANDS if name.startswith("greenloop")]


@dataclass(frozen=True)
class Answer:
    """What came of a case. `statuses` are as in `Case`; 0 stands for a connection that was closed
    without an answer, -1 for no answer."""

    statuses: tuple[int, ...]
    survives: bool
    bodies: tuple[bytes, ...]

    def fits(self, case: Case) -> bool:
        return (
            self.statuses == case.statuses
            and self.survives == case.survives
            and (case.bodies is None or self.bodies == case.bodies)
        )

    def __str__(self) -> str:
        names = {0: "closed", -1: "silence"}
        statuses = " ".join(names.get(status, str(status)) for status in self.statuses)
        return f"{statuses} {'goes on' if self.survives else 'ends'}"


class Closed(Exception):
    """The server has closed the connection."""


class Reader:
    """Reads responses."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""

    def _more(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise Closed
        self.data += data

    def _line(self) -> bytes:
        while b"\r\n" not in self.data:
            self._more()
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def _exactly(self, count: int) -> bytes:
        while len(self.data) < count:
            self._more()
        data, self.data = self.data[:count], self.data[count:]
        return data

    def response(self) -> tuple[int, bytes]:
        """The next response: its status and its body."""
        status = int(self._line().split(b" ", 2)[1])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if status < 200 or status in (204, 304):
            return status, b""
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = b""
            while size := int(self._line().split(b";")[0], 16):
                body += self._exactly(size)
                self._exactly(2)
            while self._line():
                pass
            return status, body
        if b"content-length" in headers:
            return status, self._exactly(int(headers[b"content-length"]))
        try:
            while True:
                self._more()
        except Closed:
            body, self.data = self.data, b""
            return status, body


def ask(port: int, case: Case) -> Answer:
    """Put a case to a server."""
    statuses: list[int] = []
    bodies: list[bytes] = []
    with closing(socket.create_connection(("127.0.0.1", port), ANSWER)) as sock:
        sock.settimeout(ANSWER)
        try:
            sock.sendall(case.data)
        except ConnectionError:
            pass  # It was refused while it was sent: the answer may be there.
        reader = Reader(sock)
        try:
            while True:
                sock.settimeout(ANSWER if len(statuses) < len(case.statuses) else SILENCE)
                if len(statuses) >= len(case.statuses) and not reader.data:
                    break
                status, body = reader.response()
                statuses.append(status)
                if status == 200:
                    bodies.append(body)
        except Closed:
            return Answer(tuple(statuses) or (0,), False, tuple(bodies))
        except TimeoutError:
            return Answer((*statuses, -1), False, tuple(bodies))
        return Answer(tuple(statuses), _survives(sock, reader), tuple(bodies))


def _survives(sock: socket.socket, reader: Reader) -> bool:
    sock.settimeout(SILENCE)
    try:
        if reader.data or sock.recv(1, socket.MSG_PEEK) == b"":
            return False
    except TimeoutError:
        pass
    except ConnectionError:
        return False
    sock.settimeout(ANSWER)
    try:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return reader.response()[0] == 200
    except (Closed, OSError):
        return False


def free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(name: str, peers: str | None) -> Iterator[int]:
    """Start a server; yield its port."""
    port = free_port()
    values = {
        "python": sys.executable,
        "peers": peers or "",
        "here": str(HERE / "conformance"),
        "port": str(port),
    }
    command = [part.format(**values) for part in COMMANDS[name]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"conformance: {name} does not start: {' '.join(command)}")
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask servers what they make of bad requests.")
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has the others")
    parser.add_argument("--server", action="append", choices=COMMANDS, dest="servers")
    options = parser.parse_args()
    cases = [
        case for case in CASES if not options.groups or case.name.startswith(tuple(options.groups))
    ]
    names = options.servers or (list(COMMANDS) if options.peers else OURS)
    answers: dict[str, list[Answer]] = {}
    for name in names:
        # Most of the time nothing has to come: many are asked at once.
        with running(name, options.peers) as port, ThreadPoolExecutor(AT_ONCE) as pool:
            answers[name] = list(pool.map(ask, repeat(port), cases))
    for index, case in enumerate(cases):
        expected = Answer(case.statuses, case.survives, case.bodies or ())
        others = [
            f"{name}: {answers[name][index]}"
            for name in names
            if not answers[name][index].fits(case)
        ]
        if others:
            print(f"{case.name}\n    expected: {expected}\n    " + "\n    ".join(others))
    print(f"{len(cases)} cases; as expected:")
    is_well = True
    for name in names:
        count = sum(answer.fits(case) for answer, case in zip(answers[name], cases, strict=True))
        print(f"    {name:15} {count}")
        is_well &= count == len(cases) or name not in OURS
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())

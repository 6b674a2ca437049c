"""Servers that tests start by `greenloop serve`, and what they ask of them."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

from scripts import SCRIPT_TIMEOUT, kill_group

APP = """\
import os
import time
from pathlib import Path


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/pid":
        text = str(os.getpid())
    elif path == "/wait":
        # Until the test says so.
        Path(f"begun-{environ['QUERY_STRING']}").touch()
        while not os.path.exists("go"):
            time.sleep(0.01)
        text = "waited"
    elif path == "/short":
        time.sleep(0.01)
        text = str(os.getpid())
    elif path == "/environ":
        text = str(environ.get(environ["QUERY_STRING"]))
    elif path == "/getenv":
        text = str(os.environ.get(environ["QUERY_STRING"]))
    else:
        text = "hello"
    body = text.encode()
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body]
"""


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it. The limit is a hang guard."""
    end = time.monotonic() + SCRIPT_TIMEOUT
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "greenloop", "serve", *args]


def run_to_end(
    directory: Path, *args: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        command(*args),
        cwd=directory,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT,
        start_new_session=True,
        check=False,
    )


class Served:
    """A server that runs as long as the `with` statement. It serves `app.py` of a directory.

    args: further words of the command line. source: of app.py. bind: whether it listens on a TCP
    port that the system chooses. clean: whether it has to end with status 0.
    """

    def __init__(
        self,
        directory: Path,
        *args: str,
        source: str | None = APP,
        bind: bool = True,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        app: str = "app",
    ) -> None:
        self.directory = directory
        if source is not None:
            (directory / "app.py").write_text(dedent(source))
        words = [app, *(["--bind", "127.0.0.1:0"] if bind else []), *args]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command(*words),
            cwd=directory,
            # Tests write modules again within a second: what was compiled may not be used.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Served:
        try:
            self.wait_for("listening on")
        except BaseException:
            kill_group(self.process)
            self.process.wait()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(SCRIPT_TIMEOUT)
        finally:
            with suppress(ProcessLookupError):
                kill_group(self.process)
            self.process.wait()
            self._reader.join()
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait until standard error has had a text so many times."""

        def has_come() -> bool:
            if self.text.count(text) >= count:
                return True
            assert self.process.poll() is None, self.text
            return False

        eventually(has_come)

    @property
    def port(self) -> int:
        line = next(line for line in self.lines if "listening on http" in line)
        return int(line.rpartition(":")[2])

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the server to end; return the exit status."""
        return self.process.wait(SCRIPT_TIMEOUT)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the server to end; return the exit status."""
        self.send(number)
        return self.end()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, SCRIPT_TIMEOUT)

    def get(self, path: str = "/", headers: dict[str, str] | None = None) -> str:
        """The body of a response, on a connection of its own."""
        return get(self.address, path, headers)

    def pids(self, count: int, without: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
        """Ask until so many workers have answered, and none of the others."""

        def serving() -> set[str]:
            found = {self.get("/pid") for _ in range(30)}
            return found if len(found) == count and not found & without else set()

        found: set[str] = eventually(serving)
        return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Any) -> None:
        super().__init__("localhost", timeout=SCRIPT_TIMEOUT)
        self._address = address

    def connect(self) -> None:
        if isinstance(self._address, tuple):
            self.sock = socket.create_connection(self._address, SCRIPT_TIMEOUT)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(SCRIPT_TIMEOUT)
            self.sock.connect(str(self._address))


def get(address: Any, path: str = "/", headers: dict[str, str] | None = None) -> str:
    """The body of a response to a GET; fails unless the status is 200."""
    connection = _Connection(address)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, (response.status, text)
        return text
    finally:
        connection.close()


class Load:
    """Clients that ask, each on a new connection for each request, until they are told to stop, or
    refused.

    `answers` are the bodies that came, `failures` the errors of requests on connections that there
    were, for each client.
    """

    def __init__(self, address: Any, clients: int = 6, path: str = "/short") -> None:
        self.address = address
        self.path = path
        self.answers: list[list[str]] = [[] for _ in range(clients)]
        self.failures: list[list[Exception]] = [[] for _ in range(clients)]
        self.refused: list[OSError] = []
        self._stop = False
        self._threads = [
            threading.Thread(target=self._ask, args=(index,)) for index in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for_answers(3)
        except BaseException:
            self.join()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        self.join()

    def wait_for_answers(self, more: int) -> None:
        """Wait until every client has had some more answers."""
        before = [len(answers) for answers in self.answers]
        eventually(
            lambda: all(
                len(answers) >= count + more
                for answers, count in zip(self.answers, before, strict=True)
            )
        )

    def join(self) -> None:
        self._stop = True
        self.join_refused()

    def join_refused(self) -> None:
        """Wait until all clients were refused."""
        for thread in self._threads:
            thread.join(SCRIPT_TIMEOUT)
            assert not thread.is_alive()

    def _ask(self, index: int) -> None:
        while not self._stop:
            connection = _Connection(self.address)
            try:
                connection.connect()
            except OSError as error:
                self.refused.append(error)
                return
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                assert response.status == 200
                self.answers[index].append(response.read().decode())
            except Exception as error:
                self.failures[index].append(error)
            finally:
                connection.close()

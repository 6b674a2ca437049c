"""Servers that tests start by gunicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scripts import SCRIPT_TIMEOUT, kill_group
from serve_support import eventually, get

OWN = "greenloop.integrations.gunicorn.Worker"


class Gunicorn:
    """A gunicorn that runs."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str], address: Any) -> None:
        self.process = process
        self.lines = lines
        self.address = address

    def get(self, path: str = "/", headers: dict[str, str] | None = None) -> str:
        return get(self.address, path, headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, SCRIPT_TIMEOUT)

    def wait_for(self, text: str) -> None:
        eventually(lambda: any(text in line for line in self.lines))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SCRIPT_TIMEOUT)


@contextmanager
def gunicorn(
    directory: Path, worker: str, *args: str, app: str = "app", path: Path | None = None
) -> Iterator[Gunicorn]:
    """Run gunicorn in a directory as long as the `with` statement.

    app: what to serve. path: where modules are looked for besides.
    """
    # The worker for gevent is that of a program that runs on greenloop.
    words = ["-m", "gunicorn"] if worker == OWN else ["-m", "greenloop", "-m", "gunicorn"]
    # XDG_RUNTIME_DIR is where it makes its control socket.
    env = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    if path is not None:
        env["PYTHONPATH"] = f"{path}:{env.get('PYTHONPATH', '')}"
    process = subprocess.Popen(
        [sys.executable, *words, "-k", worker, "-b", "127.0.0.1:0", *args, app],
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []

    def read_lines() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)

    reader = threading.Thread(target=read_lines, daemon=True)
    reader.start()
    try:

        def port() -> int:
            assert process.poll() is None, "".join(lines)
            for line in lines:
                if "Listening at: " in line:
                    return int(line.split("//")[1].split(" ")[0].rpartition(":")[2])
            return 0

        yield Gunicorn(process, lines, ("127.0.0.1", eventually(port)))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(SCRIPT_TIMEOUT)
        with suppress(ProcessLookupError):
            kill_group(process)
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()

"""Sites that tests have uvicorn serve."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripts import TEST_TIMEOUT

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"


@contextmanager
def served(site: str, *, as_program: bool) -> Iterator[int]:
    """The port where uvicorn serves a module next to this one. It has to end as it should.

    as_program: have the module run uvicorn, instead of uvicorn's command with our loop.
    """
    pytest.importorskip("uvicorn")
    with socket.create_server((HOST, 0), backlog=100) as listener:
        fd = str(listener.fileno())
        if as_program:
            command = [str(HERE / f"{site}.py"), fd]
        else:
            command = ["-m", "uvicorn", f"{site}:app", "--app-dir", str(HERE), "--fd", fd]
            command += ["--loop", "greenloop.asyncio:new_event_loop", "--log-level", "warning"]
        server = subprocess.Popen(
            [sys.executable, *command],
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            yield listener.getsockname()[1]
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=TEST_TIMEOUT)
            # uvicorn ends as the signal has it, after it has shut down.
            assert (server.returncode, errors) == (-signal.SIGTERM, "")
        finally:
            server.kill()
            server.communicate()

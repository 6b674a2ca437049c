"""Scripts that tests run in processes of their own: what runs them and what they did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

USE_PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

# How many times longer to wait than usual, where everything is slow: on an emulated processor.
SLOWNESS = float(os.environ.get("GREENLOOP_TEST_SLOWNESS", "1"))
# Seconds. A hang guard for one test, not a statement about speed.
TEST_TIMEOUT = 120.0 * SLOWNESS
# Seconds. Below TEST_TIMEOUT, so that a hanging script is reported with its output.
SCRIPT_TIMEOUT = 60.0 * SLOWNESS


@dataclass(frozen=True)
class ScriptResult:
    """What a script did: the exit status (minus the signal number if killed) and its output."""

    args: list[str]
    returncode: int
    stdout: str
    stderr: str

    def describe(self) -> str:
        """Status and output as text, for a failure message."""
        return (
            f"command: {' '.join(self.args)}\n"
            f"status: {describe_status(self.returncode)}\n"
            f"--- stdout\n{tail(self.stdout)}\n--- stderr\n{tail(self.stderr)}"
        )

    def check(self, returncode: int = 0) -> str:
        """Fail the test unless the script exited with `returncode`; return its output."""
        if self.returncode != returncode:
            pytest.fail(
                f"script ended with {describe_status(self.returncode)}, "
                f"expected {describe_status(returncode)}\n{self.describe()}",
                pytrace=False,
            )
        return self.stdout

    def check_quiet(self) -> str:
        """Like `check`, and fail the test too if anything was written to standard error."""
        out = self.check()
        if self.stderr:
            pytest.fail(f"script wrote to standard error\n{self.describe()}", pytrace=False)
        return out


class RunScript(Protocol):
    """The type of the `run_script` fixture."""

    def __call__(
        self,
        source_or_path: str | Path,
        *args: str,
        timeout: float = SCRIPT_TIMEOUT,
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
        signalled: signal.Signals | None = None,
        dropin: bool = True,
    ) -> ScriptResult: ...


def tail(text: str, lines: int = 60) -> str:
    """The last `lines` lines of `text`: a crash can be preceded by megabytes of output."""
    kept = text.splitlines()[-lines:]
    return "\n".join(line[:500] for line in kept)


def describe_status(returncode: int) -> str:
    """An exit status in words."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"death by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"death by signal {-returncode}"


def script_command(
    script: Path, options: tuple[str, ...] = (), *, dropin: bool = True
) -> list[str]:
    """The command line that runs `script` on the implementation under test.

    `options` go to the Python interpreter. Without `dropin` the script is plain Python's, and names
    greenloop itself.
    """
    if USE_PEER or not dropin:
        return [sys.executable, *options, str(script)]
    return [sys.executable, *options, "-m", "greenloop", str(script)]


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a script and every child it left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

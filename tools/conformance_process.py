"""Runs a process of tests until it ends, or stops making progress."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: Seconds between two looks at a process.
PAUSE = 0.05

#: Seconds that a process gets to write down where it hangs.
LAST_WORDS = 5.0


def run_limited(
    command: Sequence[str | Path],
    *,
    directory: Path,
    environment: dict[str, str],
    log: Path,
    report: Path,
    time_limit: float,
    case_limit: float,
) -> str:
    """Run a command and say how it ended.

    log: where its output goes.
    report: what it writes to at the beginning and the end of each case.
    time_limit: seconds that it may take.
    case_limit: seconds that it may go on without writing to the report.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # So that the tests' own children end with them.
            start_new_session=True,
        )
    try:
        return _watch(process, report, time_limit, case_limit)
    finally:
        _kill_session(process)
        process.wait()


def _watch(
    process: subprocess.Popen[bytes], report: Path, time_limit: float, case_limit: float
) -> str:
    began = progress = time.monotonic()
    size = 0
    while process.poll() is None:
        now = time.monotonic()
        if report.exists() and (grown := report.stat().st_size) != size:
            size, progress = grown, now
        if now - began > time_limit or now - progress > case_limit:
            limit = time_limit if now - began > time_limit else case_limit
            # faulthandler writes the stacks of its threads to the log.
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LAST_WORDS)
            return f"its process was still running after {limit:g} s"
        time.sleep(PAUSE)
    return f"its process ended with {describe(process.returncode)}"


def describe(status: int) -> str:
    """A return code in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

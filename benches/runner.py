"""Runs the workload programs, each in a process of its own, implementations in turn."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benches.targets import Workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Measured:
    """What the rounds of one implementation gave.

    `rounds` has one entry for each round that ended well, by round number, so that rounds of
    two implementations can be paired. After a failure an implementation is not run again.
    """

    impl: str
    version: str = ""
    rounds: dict[int, dict[str, float]] = field(default_factory=dict)
    missing: str | None = None
    failure: str | None = None


def measure(
    workload: Workload,
    *,
    rounds: int,
    quick: bool,
    timeout: float,
    progress: Callable[[int, str], None],
) -> list[Measured]:
    """Run every implementation of `workload` in turn, `rounds` times.

    `timeout` is in seconds, for one process. `progress` is told the round and the
    implementation about to run. A failure is recorded, not raised.
    """
    results = [Measured(impl) for impl in workload.impls]
    for number in range(1, rounds + 1):
        for measured in results:
            if measured.missing is None and measured.failure is None:
                progress(number, measured.impl)
                run_once(workload, measured, number, quick=quick, timeout=timeout)
    return results


def run_once(
    workload: Workload, measured: Measured, number: int, *, quick: bool, timeout: float
) -> None:
    """Run `workload` once on `measured.impl` and add the outcome to `measured`."""
    command = [sys.executable, "-m", f"benches.workloads.{workload.module}"]
    command += ["--impl", measured.impl]
    if workload.size is not None:
        command += ["--size", str(workload.size)]
    if workload.parameter is not None:
        command += ["--parameter", str(workload.parameter)]
    if quick:
        command.append("--quick")
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        measured.failure = f"no result within {timeout:g} s"
        return
    if done.returncode != 0:
        measured.failure = describe_exit(done.returncode, done.stderr)
        return
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        measured.failure = "it ended without reporting a result"
        return
    if "missing" in result:
        measured.missing = str(result["missing"])
        return
    measured.version = result["version"]
    measured.rounds[number] = result["metrics"]


def describe_exit(code: int, stderr: str) -> str:
    """Say in a line what went wrong: the signal, or the last line of the traceback."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {code}"

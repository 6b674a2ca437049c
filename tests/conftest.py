"""Shared by all tests: which implementation `greenlet` and `gevent` mean, and subprocess scripts.

By default greenloop takes the place of both packages. With GREENLOOP_TEST_PEER=1 in the
environment the installed real packages are used instead, which is how the tests themselves are
checked: a test of documented behaviour must pass on the real package first.
"""

# ruff: noqa: E402 -- the choice of implementation has to be made before the other imports

from __future__ import annotations

import os

USE_PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

if not USE_PEER:
    # Ahead of every other import: it refuses to run once a real gevent or greenlet is loaded.
    import greenloop

    greenloop.install_as_gevent()

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Protocol

import pytest

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


def script_command(script: Path, options: tuple[str, ...] = ()) -> list[str]:
    """The command line that runs `script` on the implementation under test.

    `options` go to the Python interpreter.
    """
    if USE_PEER:
        return [sys.executable, *options, str(script)]
    return [sys.executable, *options, "-m", "greenloop", str(script)]


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a script and every child it left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """A function that runs a Python script in a process of its own, on the same implementation.

    It takes the script (source text, or a `Path`) and its arguments. Keywords: `timeout`, seconds
    until the script counts as hanging, which fails the test; `env`, variables to add to the
    environment; `options`, options for the Python interpreter; `signalled`, the signal that is
    allowed to end the script. Death by any other signal is a crash and fails the test. Faults
    print a Python traceback, as faulthandler is on.
    """
    count = 0

    def run(
        source_or_path: str | Path,
        *args: str,
        timeout: float = SCRIPT_TIMEOUT,
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
        signalled: signal.Signals | None = None,
    ) -> ScriptResult:
        nonlocal count
        if isinstance(source_or_path, Path):
            script = source_or_path
        else:
            count += 1
            script = tmp_path / f"script_{count}.py"
            script.write_text(dedent(source_or_path), encoding="utf-8")
        command = [*script_command(script, options), *args]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **(env or {})},
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
            stdout, stderr = process.communicate()
            hung = ScriptResult(command, process.returncode, stdout, stderr)
            pytest.fail(
                f"script still running after {timeout:g} s\n{hung.describe()}", pytrace=False
            )
        except BaseException:
            kill_group(process)
            process.wait()
            raise
        result = ScriptResult(command, process.returncode, stdout, stderr)
        if result.returncode < 0 and result.returncode != -(signalled or 0):
            pytest.fail(f"script crashed\n{result.describe()}", pytrace=False)
        return result

    return run


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        raise pytest.UsageError("the tests need the pytest-timeout plugin as their hang guard")


def pytest_report_header() -> str:
    import greenlet

    which = "the real packages" if USE_PEER else "greenloop"
    return f"implementation under test: {which} (greenlet from {greenlet.__file__})"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("timeout") is not None or config.getini("timeout"):
        return
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT))


@pytest.fixture(autouse=True)
def same_greenlet_after_test() -> Iterator[None]:
    """A test that ends in another greenlet than it began in would derail all that follow."""
    import greenlet

    before = greenlet.getcurrent()
    yield
    assert greenlet.getcurrent() is before

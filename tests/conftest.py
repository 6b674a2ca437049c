"""Shared by all tests: which implementation `greenlet` and `gevent` mean, and subprocess scripts.

By default greenloop takes the place of both packages. With GREENLOOP_TEST_PEER=1 in the
environment the installed real packages are used instead, which is how the tests themselves are
checked: a test of documented behaviour must pass on the real package first.
"""

from __future__ import annotations

import os

if os.environ.get("GREENLOOP_TEST_PEER") != "1":
    # Ahead of every other import: it refuses to run once a real gevent or greenlet is loaded.
    import greenloop

    greenloop.install_as_gevent()
    # So that a hundred greenlets share stacks: by default only programs with many more do.
    greenloop.config.stack_slots = 32

import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As it is in what a shell has started in the background. Scripts of tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from scripts import (
    SCRIPT_TIMEOUT,
    TEST_TIMEOUT,
    USE_PEER,
    RunScript,
    ScriptResult,
    kill_group,
    script_command,
)


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """A function that runs a Python script in a process of its own, on the same implementation.

    It takes the script (source text, or a `Path`) and its arguments. Keywords: `timeout`, seconds
    until the script counts as hanging, which fails the test; `env`, variables to add to the
    environment; `options`, options for the Python interpreter; `signalled`, the signal that is
    allowed to end the script; `dropin`, False for a script that names greenloop itself. Death by
    any other signal is a crash and fails the test. Faults print a Python traceback, as
    faulthandler is on.
    """
    count = 0

    def run(
        source_or_path: str | Path,
        *args: str,
        timeout: float = SCRIPT_TIMEOUT,
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
        signalled: signal.Signals | None = None,
        dropin: bool = True,
    ) -> ScriptResult:
        nonlocal count
        if isinstance(source_or_path, Path):
            script = source_or_path
        else:
            count += 1
            script = tmp_path / f"script_{count}.py"
            script.write_text(dedent(source_or_path), encoding="utf-8")
        command = [*script_command(script, options, dropin=dropin), *args]
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

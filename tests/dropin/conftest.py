"""Runs Python processes with an environment of the test's own, on and off greenloop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from dropin_support import TIMEOUT, Python, Run, Write

if os.environ.get("GREENLOOP_TEST_PEER") == "1":
    # The real packages have no drop-in to test.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """Run this interpreter in `tmp_path` with the given arguments.

    Variables that would change what is tested are taken out of the environment; `env` adds to
    the rest, `stdin` is what the process reads.
    """
    base = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GREENLOOP_", "PYTHON", "COV_", "COVERAGE_"))
    }

    def run(
        *args: str | Path, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Run:
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=tmp_path,
            env={**base, **(env or {})},
            input=stdin or "",
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below `tmp_path`, with its directories, and return its path."""

    def make(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), encoding="utf-8")
        return path

    return make


@pytest.fixture
def real_packages(write: Write, tmp_path: Path) -> str:
    """A directory for PYTHONPATH holding packages named gevent and greenlet, as if installed."""
    write("real/gevent/__init__.py", "__version__ = 'real'\n")
    write("real/gevent/hub.py", "")
    write("real/gevent/only_in_real.py", "")
    write("real/greenlet/__init__.py", "from . import _greenlet\n__version__ = 'real'\n")
    write("real/greenlet/_greenlet.py", "")
    return str(tmp_path / "real")

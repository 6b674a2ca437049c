"""SQLAlchemy's asyncio extension, which is built on greenlet, on the drop-in.

The program is `programs/sqlalchemy_asyncio.py`. It runs once, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dropin_support import Python

pytest.importorskip("sqlalchemy")
pytest.importorskip("aiosqlite")

PROGRAM = Path(__file__).parent / "programs" / "sqlalchemy_asyncio.py"

# Seconds. A hang guard.
TIMEOUT = 100.0

NAMES = [
    "definitions",
    "many_rows",
    "transactions",
    "relationships",
    "streaming",
    "concurrency",
    "errors",
    "cancellation",
    "plain_code",
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each scenario, by name: None or a traceback."""
    directory = tmp_path_factory.mktemp("sqlalchemy")
    done = subprocess.run(
        [sys.executable, "-m", "greenloop", PROGRAM, directory / "test.db"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONWARNINGS": "error::ResourceWarning"},
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_all_scenarios_ran(outcomes: dict[str, Any]) -> None:
    assert list(outcomes) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_scenario(outcomes: dict[str, Any], name: str) -> None:
    if outcomes[name] is not None:
        pytest.fail(outcomes[name], pytrace=False)


def test_the_greenlet_in_use_is_ours(python: Python) -> None:
    """And there is no other that could be."""
    run = python(
        "-m",
        "greenloop",
        "-c",
        "import importlib.metadata, sys, sqlalchemy.ext.asyncio\n"
        "from importlib.machinery import PathFinder\n"
        "from sqlalchemy.util.concurrency import _concurrency_shim as shim\n"
        "import greenloop._core\n"
        "print(shim.greenlet is greenloop._core.greenlet)\n"
        "print(sys.modules['greenlet'].__name__, PathFinder.find_spec('greenlet'))\n"
        "print('greenlet' in [dist.name for dist in importlib.metadata.distributions()])",
    )
    assert run.out() == "True\ngreenloop.rawgreenlet None\nFalse\n"

"""The README's tables of numbers: made from a run, and only from a whole one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benches import report
from benches.runner import Measured
from benches.targets import OURS, Metric, Workload

SCRIPT = Path(__file__).resolve().parent / "readme.py"
README = """\
before
<!-- numbers of greenlets: made by a program -->
old
<!-- end of numbers -->
between
<!-- numbers of http: made by a program -->
old
<!-- end of numbers -->
after
"""
WORKLOAD = Workload(
    "switch",
    "switch",
    ("gevent", "uvloop", "native", "blocking"),
    (Metric("time", "s", "round trip"),),
)


def result(**settings: Any) -> dict[str, Any]:
    figures = [(OURS, "0.1.0", 1e-7), ("gevent", "26.9", 7e-7), ("native", "", 5e-8)]
    measured = [Measured(impl, version, {1: {"time": value}}) for impl, version, value in figures]
    measured += [Measured(impl, failure="it crashed") for impl in ("uvloop", "blocking")]
    sections = report.summarize(WORKLOAD, measured)
    settings = {"suite": "greenlets", "rounds": 5, "quick": False, **settings}
    return report.document(sections, settings)


def fill(directory: Path, result: dict[str, Any], readme: str = README) -> tuple[int, str]:
    (directory / "bench.json").write_text(json.dumps(result))
    (directory / "README.md").write_text(readme)
    done = subprocess.run(
        [sys.executable, SCRIPT, "bench.json", "--readme", "README.md"], cwd=directory, check=False
    )
    return done.returncode, (directory / "README.md").read_text()


def test_table(tmp_path: Path) -> None:
    status, text = fill(tmp_path, result())
    assert status == 0
    lines = text.splitlines()
    assert lines[:3] == [
        "before",
        "<!-- numbers of greenlets: made by a program -->",
        "| per | greenloop | greenlet | gevent | asyncio | uvloop | rloop | others |",
    ]
    assert lines[4] == "| switch: round trip | 100.0 ns |  | 7.00x |  |  |  | native 0.50x |"
    assert "5 rounds; gevent 26.9." in lines[6]
    assert lines[7:] == ["<!-- end of numbers -->", *README.splitlines()[4:]]


def test_each_suite_has_a_table(tmp_path: Path) -> None:
    status, text = fill(tmp_path, result(suite="http"))
    assert status == 0
    lines = text.splitlines()
    assert lines[:6] == README.splitlines()[:6]
    assert lines[6].startswith("| per | greenloop | greenloop_serve | bjoern |")
    assert lines[-2:] == ["<!-- end of numbers -->", "after"]


def test_filling_it_again_changes_nothing(tmp_path: Path) -> None:
    numbers = result()
    _, text = fill(tmp_path, numbers)
    assert fill(tmp_path, numbers, text) == (0, text)


@pytest.mark.parametrize("broken", [{"settings": {"quick": True}}, {"ours_failed": True}])
def test_run_that_is_not_whole_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    assert fill(tmp_path, {**result(), **broken}) == (1, README)


def test_readme_without_the_marks_is_refused(tmp_path: Path) -> None:
    assert fill(tmp_path, result(), "no table") == (1, "no table")

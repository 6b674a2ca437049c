"""Tests are run in parts: all of them, whatever happens to one, and nothing that failed is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from check_support import PROJECT, write_below

ENDS = {
    "passes": "def test_passes(): pass\n",
    "fails": "def test_fails(): assert 1 == 2\n",
    "crashes": "import os\ndef test_crashes(): os.abort()\n",
    "broken": "import no_such_module\n",
}


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The tool's run on the tests below a directory."""
    code = "import run_tests, sys; from pathlib import Path\n"
    code += "sys.exit(run_tests.main(sys.argv[2:], Path(sys.argv[1])))"
    return subprocess.run(
        [sys.executable, "-c", code, root, *arguments],
        cwd=PROJECT / "tools",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def project(root: Path, *ends: str) -> Path:
    """A project with a part of tests for each of some ENDS, with one file each."""
    write_below(root, "pytest.ini", "[pytest]\ntestpaths = tests benches\n")
    for end in ends:
        write_below(root, f"tests/{end}/test_{end}.py", ENDS[end])
    return root


@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_tests_run(tmp_path: Path, workers: str) -> None:
    root = project(tmp_path, "passes")
    write_below(root, "tests/test_on_top.py", "def test_on_top(): pass\n")
    write_below(root, "benches/test_benches.py", "def test_benches(): pass\n")
    done = run(root, "--workers", workers, "--", "-v")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    for test in ("test_passes", "test_on_top", "test_benches"):
        assert sum(f"::{test} PASSED" in line for line in lines) == 1


def test_parts_that_fail_fail_the_run_and_others_go_on(tmp_path: Path) -> None:
    done = run(project(tmp_path, *ENDS), "--workers", "2")
    assert done.returncode == 1
    shown, summary = done.stdout.split("==== summary\n")
    assert "FAILED tests/fails/test_fails.py::test_fails" in summary
    assert "ERROR tests/broken/test_broken.py" in summary
    assert "crashed: SIGABRT" in summary
    assert "in test_crashes" in shown  # from faulthandler
    assert summary.count(" s  passed\n") == 1


UNSTEADY = """
from pathlib import Path
def test_unsteady():
    seen = Path(__file__).with_suffix(".seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError("the first time")
"""


def test_what_fails_may_be_run_once_more(tmp_path: Path) -> None:
    root = project(tmp_path, "passes")
    write_below(root, "tests/unsteady/test_unsteady.py", UNSTEADY)
    assert run(root, "--workers", "2").returncode == 1
    (root / "tests/unsteady/test_unsteady.seen").unlink()
    done = run(root, "--workers", "2", "--again", "1")
    assert done.returncode == 0, done.stdout
    shown, summary = done.stdout.split("==== summary\n")
    assert "the first time" in shown
    unsteady = "UNSTEADY, passed when run once more: FAILED tests/unsteady/test_unsteady.py"
    assert unsteady in summary
    assert summary.count(" s  passed\n") == 1
    assert summary.count(" s  passed, unsteady: 1\n") == 1


@pytest.mark.parametrize("end", ["fails", "crashes", "broken"])
def test_what_fails_every_time_fails_the_run(tmp_path: Path, end: str) -> None:
    done = run(project(tmp_path, "passes", end), "--workers", "2", "--again", "1")
    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


def test_many_failures_are_not_run_once_more(tmp_path: Path) -> None:
    root = project(tmp_path, "passes")
    many = UNSTEADY + UNSTEADY.replace("unsteady", "other").replace(".seen", ".other")
    write_below(root, "tests/unsteady/test_unsteady.py", many)
    done = run(root, "--workers", "2", "--again", "1")
    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


def test_a_part_without_tests_is_no_failure(tmp_path: Path) -> None:
    root = project(tmp_path, "passes", "fails")
    assert run(root, "--workers", "2", "--", "-k", "test_passes").returncode == 0
    assert run(root, "--workers", "2", "--", "-k", "no_test_is_called_that").returncode == 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_part_may_be_left_out(tmp_path: Path, workers: str) -> None:
    root = project(tmp_path, "passes", "fails")
    assert run(root, "--workers", workers, "--without", "fails").returncode == 0


def test_a_part_that_is_left_out_has_to_be_one(tmp_path: Path) -> None:
    done = run(project(tmp_path, "passes"), "--without", "passed")
    assert done.returncode == 2
    assert "no such part: passed" in done.stderr


def test_tests_that_are_named_run_alone_as_pytest_has_it(tmp_path: Path) -> None:
    root = project(tmp_path, "passes", "fails")
    done = run(root, "--workers", "2", "--", "tests/passes/test_passes.py::test_passes")
    assert done.returncode == 0
    assert "1 passed" in done.stdout
    assert "==== summary" not in done.stdout


def test_every_test_of_this_project_is_in_a_part() -> None:
    code = "from run_tests import *\nfor part in parts_of(ROOT): print(*part.paths, sep='\\n')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=PROJECT / "tools", capture_output=True, text=True, check=True
    )
    paths = [PROJECT / path for path in done.stdout.split()]
    for top in ("tests", "benches"):
        for file in (PROJECT / top).rglob("test_*.py"):
            assert sum(file == path or path in file.parents for path in paths) == 1, file

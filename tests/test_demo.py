"""The demo, on a few URLs: its table, its exit status, its progress bar."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent / "demo"
IMPL = "gevent" if os.environ.get("GREENLOOP_TEST_PEER") == "1" else "greenloop"
SMALL = ["--impl", IMPL, "--count", "12", "--pool", "4", "--delay", "0.01", "--sample", "2"]
# Seconds. A hang guard.
TIMEOUT = 100.0


def demo(
    directory: Path, *args: str, python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the demo in `directory`; `python` are options for the interpreter."""
    return subprocess.run(
        [sys.executable, *python, str(directory / "run.py"), *args],
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )


def rows(output: str) -> dict[str, list[str]]:
    """The lines of the table, by their first column."""
    found = re.findall(r"^(\w.*\))((?: +[\d.]+){4})$", output, re.MULTILINE)
    return {label: numbers.split() for label, numbers in found}


def test_table() -> None:
    run = demo(DEMO, *SMALL)
    assert (run.returncode, run.stderr) == (0, "")
    assert "12 URLs, half HTTP and half HTTPS, each answered after 10 ms" in run.stdout
    table = rows(run.stdout)
    assert list(table) == [
        "one by one (estimate from 2)",
        f"{IMPL} greenlets (pool of 4)",
        "native threads (pool of 4)",
    ]
    for wall, cpu, peak, wrong in table.values():
        assert float(wall) > 0
        assert float(cpu) >= 0
        assert int(peak) > 0
        assert wrong == "0"
    # Twelve answers that each take 10 ms, four at a time.
    assert float(table["one by one (estimate from 2)"][0]) >= 0.12
    assert float(table["native threads (pool of 4)"][0]) >= 0.03


def test_wrong_answers_fail_the_demo(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    server = tmp_path / "demo/server.py"
    source = server.read_text(encoding="utf-8")
    assert "body = page(path)" in source
    server.write_text(source.replace("page(path)", "page(path.replace('/7', '/8'))"), "utf-8")
    run = demo(tmp_path / "demo", *SMALL)
    assert run.returncode == 1
    assert [numbers[3] for numbers in rows(run.stdout).values()] == ["0", "1", "1"]
    assert (
        len(re.findall(r"^demo: https://\S+/page/7: wrong content$", run.stderr, re.MULTILINE)) == 2
    )


def test_failing_server_ends_the_demo(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "demo/server.py").write_text("import sys; sys.exit(3)\n", "utf-8")
    run = demo(tmp_path / "demo", *SMALL)
    assert run.returncode == 1
    assert run.stderr == "demo: the server ended with status 3\n"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--pool", "0"], "--pool must be at least 1"),
        (["--count", "none"], "argument --count: invalid int value"),
    ],
)
def test_bad_options(args: list[str], complaint: str) -> None:
    run = demo(DEMO, *args)
    assert run.returncode == 2
    assert complaint in run.stderr


def test_missing_package() -> None:
    run = demo(DEMO, python=("-I", "-S"))
    assert run.returncode == 2
    assert "the package requests is not installed: see demo/requirements.txt" in run.stderr


def test_progress_bar_on_a_terminal() -> None:
    script = (
        "from progress import Progress\n"
        "bar = Progress('label', 4)\n"
        "for done in range(5): bar.show(done)\n"
        "bar.end()\n"
    )
    ours, theirs = pty.openpty()
    # Ours is read while theirs is open: reading fails once the other side is closed.
    with os.fdopen(ours, "rb", buffering=0) as terminal, os.fdopen(theirs, "wb") as stderr:
        command = [sys.executable, "-c", script]
        subprocess.run(command, cwd=DEMO, stderr=stderr, timeout=TIMEOUT, check=True)
        shown = terminal.read(10_000).decode()
    assert shown.startswith(f"\rlabel{' ' * 19} [{'.' * 40}] 0/4")
    assert shown.endswith(f"\rlabel{' ' * 19} [{'#' * 40}] 4/4\r\n")
    quiet = subprocess.run(
        [sys.executable, "-c", script], cwd=DEMO, capture_output=True, timeout=TIMEOUT, check=True
    )
    assert (quiet.stdout, quiet.stderr) == (b"", b"")

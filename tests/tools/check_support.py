"""Runs a check of the project over this project, or over a small one made for the test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent


def write_below(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def found_by(check: str, root: Path) -> list[str]:
    """What a check in `tools` finds wrong in the project at `root`, line by line."""
    done = subprocess.run(
        [sys.executable, PROJECT / "tools" / check, "--root", root],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert done.returncode == (1 if lines else 0)
    return lines

"""Prints the supported Pythons that this machine has, one path a line.

    python tools/pythons.py [--others]

One interpreter for each version that pyproject.toml lists as supported: the first that runs of
those on the PATH, those that pyenv keeps and those that tools/debian_pythons.py unpacked. --others
leaves out the version of the interpreter that runs this. Versions that were not found are named on
standard error.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from debian_pythons import DEFAULT as DEBIAN_PYTHONS

ROOT = Path(__file__).resolve().parent.parent
CLASSIFIER = "Programming Language :: Python :: "


def supported(project: str) -> list[str]:
    """The versions named by the classifiers in the text of a pyproject.toml: 3.11, 3.12, ..."""
    classifiers: list[str] = tomllib.loads(project)["project"]["classifiers"]
    return [
        entry.removeprefix(CLASSIFIER)
        for entry in classifiers
        if entry.startswith(CLASSIFIER) and "." in entry
    ]


def candidates(version: str) -> Iterator[str]:
    """Commands that may run *version*, the likeliest first."""
    yield sys.executable
    yield f"python{version}"
    # pyenv's shims run only the versions that are switched on; the others lie beside them.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    kept = [
        path for path in root.glob(f"versions/{version}.*") if re.fullmatch(r"[\d.]+", path.name)
    ]
    for path in sorted(kept, key=lambda path: [int(n) for n in path.name.split(".")], reverse=True):
        yield str(path / "bin" / "python")
    yield str(DEBIAN_PYTHONS / "usr" / "bin" / f"python{version}")


def find(version: str) -> str | None:
    """The path of an interpreter of *version*, or None."""
    code = "import sys; print('{}.{}'.format(*sys.version_info), sys.executable, sep='\\n')"
    for command in candidates(version):
        try:
            done = subprocess.run(
                [command, "-c", code], capture_output=True, text=True, timeout=60, check=False
            )
        except OSError:
            continue
        if done.returncode == 0:
            told, executable = done.stdout.splitlines()
            if told == version:
                return executable
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="List the supported Pythons of this machine.")
    parser.add_argument("--others", action="store_true", help="without the one that runs this")
    options = parser.parse_args()
    running = "{}.{}".format(*sys.version_info)
    for version in supported((ROOT / "pyproject.toml").read_text()):
        if options.others and version == running:
            continue
        path = find(version)
        if path is None:
            print(f"pythons: no CPython {version} found", file=sys.stderr)
        else:
            print(path)


if __name__ == "__main__":
    main()

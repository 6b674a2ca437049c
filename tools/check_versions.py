"""Checks that facts written down in several places agree.

    python tools/check_versions.py [--root DIRECTORY]

* All crates have one version, the newest that CHANGELOG.md has a heading for.
* The supported Pythons are the same in the classifiers and the lower bound of pyproject.toml, in
  README.md and in the per-version sources of crates/python/src/pystate.
* Packages pinned by more than one requirements.txt have one version.

Prints each disagreement. Exit status: 0 if there is none, else 1.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pythons import supported


def check_project_version(root: Path) -> Iterator[str]:
    done = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    packages: list[dict[str, Any]] = json.loads(done.stdout)["packages"]
    versions = {package["name"]: package["version"] for package in packages}
    if len(set(versions.values())) != 1:
        told = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        yield f"Cargo.toml: the crates have different versions: {told}"
        return
    version = next(iter(versions.values()))
    headings = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if version not in headings:
        yield f"CHANGELOG.md: has no heading for {version}, the version of the crates"


def check_pythons(root: Path) -> Iterator[str]:
    text = (root / "pyproject.toml").read_text()
    wanted = supported(text)
    lowest = f">={wanted[0]}"
    if tomllib.loads(text)["project"]["requires-python"] != lowest:
        yield f"pyproject.toml: requires-python is not {lowest}"
    sources = (root / "crates/python/src/pystate").glob("v3_*.rs")
    compiled = sorted(path.stem[1:].replace("_", ".") for path in sources)
    if compiled != sorted(wanted):
        yield f"crates/python/src/pystate: has {', '.join(compiled)}, not {', '.join(wanted)}"
    readme = (root / "README.md").read_text()
    told = re.search(r"^CPython (3[\d., and]+\d) on ", readme, re.MULTILINE)
    if told is None or re.findall(r"\d+\.\d+", told[1]) != wanted:
        yield f"README.md: no line begins with 'CPython {', '.join(wanted)} on '"


def check_pins(root: Path) -> Iterator[str]:
    pins: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted((*root.glob("*/requirements.txt"), *root.glob("tools/*/requirements.txt"))):
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", file.read_text(), re.MULTILINE):
            pins[name.lower()][str(file.relative_to(root))] = version
    for name, places in sorted(pins.items()):
        if len(set(places.values())) > 1:
            told = ", ".join(f"{version} in {file}" for file, version in places.items())
            yield f"{name} is pinned differently: {told}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check that versions agree.")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the project"
    )
    root: Path = parser.parse_args().root.resolve()
    found = [*check_project_version(root), *check_pythons(root), *check_pins(root)]
    for one in found:
        print(one)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

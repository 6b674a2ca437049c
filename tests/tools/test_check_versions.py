"""Facts written down twice: that they agree in this project, and that disagreement is noticed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from check_support import PROJECT, found_by, write_below

FILES = {
    "Cargo.toml": '[workspace]\nresolver = "3"\nmembers = ["crates/*"]\n',
    "crates/stack/Cargo.toml": '[package]\nname = "stack"\nversion = "1.2.0"\n',
    "crates/stack/src/lib.rs": "",
    "crates/python/Cargo.toml": '[package]\nname = "python"\nversion = "1.2.0"\n',
    "crates/python/src/lib.rs": "",
    "crates/python/src/pystate/v3_11.rs": "",
    "crates/python/src/pystate/v3_12.rs": "",
    "CHANGELOG.md": "# Changelog\n\n## 1.2.0 (unreleased)\n\n## 1.1.0\n",
    "README.md": "CPython 3.9.1, measured.\nCPython 3.11 and 3.12 on Linux.\n",
    "pyproject.toml": """\
[project]
requires-python = ">=3.11"
classifiers = [
    "Programming Language :: Python",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Rust",
]
""",
    "tests/requirements.txt": "# Both:\none==1.0\ntwo>=2\n",
    "tools/requirements.txt": "one==1.0\nthree==3\n",
}

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of a small project whose versions agree; it is in `tmp_path`."""

    file = partial(write_below, tmp_path)
    for name, text in FILES.items():
        file(name, text)
    return file


def disagreements(root: Path) -> list[str]:
    return found_by("check_versions.py", root)


def test_versions_of_this_project_agree() -> None:
    assert disagreements(PROJECT) == []


def test_small_project_agrees(write: Write, tmp_path: Path) -> None:
    assert disagreements(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "before", "after", "found"),
    [
        (
            "crates/stack/Cargo.toml",
            "1.2.0",
            "1.1.0",
            "Cargo.toml: the crates have different versions: python 1.2.0, stack 1.1.0",
        ),
        (
            "CHANGELOG.md",
            "1.2.0",
            "1.3.0",
            "CHANGELOG.md: has no heading for 1.2.0, the version of the crates",
        ),
        ("pyproject.toml", ">=3.11", ">=3.10", "pyproject.toml: requires-python is not >=3.11"),
        (
            "README.md",
            "3.11 and 3.12",
            "3.11, 3.12 and 3.13",
            "README.md: no line begins with 'CPython 3.11, 3.12 on '",
        ),
        (
            "tools/requirements.txt",
            "one==1.0",
            "One==1.1",
            "one is pinned differently: 1.0 in tests/requirements.txt, "
            "1.1 in tools/requirements.txt",
        ),
    ],
)
def test_disagreement(
    write: Write, tmp_path: Path, file: str, before: str, after: str, found: str
) -> None:
    write(file, FILES[file].replace(before, after))
    assert disagreements(tmp_path) == [found]


def test_version_without_sources(write: Write, tmp_path: Path) -> None:
    (tmp_path / "crates/python/src/pystate/v3_12.rs").unlink()
    assert disagreements(tmp_path) == ["crates/python/src/pystate: has 3.11, not 3.11, 3.12"]

"""The dependency rule: that this project keeps it, and that breaking it is noticed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from check_support import PROJECT, found_by, write_below

CRATES = {"stack": "", "reactor": "", "python": 'greenloop-stack = { path = "../stack" }\n'}
MODULES = {
    "python/greenloop/__init__.py": "from greenloop.dropin import install_as_gevent\n",
    "python/greenloop/_core.pyi": "",
    "python/greenloop/cli.py": "from greenloop.dropin import x\nfrom greenloop import monkey\n",
    "python/greenloop/dropin/__init__.py": "from . import _install\n",
    "python/greenloop/dropin/_install.py": "import os\nfrom .. import monkey\n",
    "python/greenloop/hub.py": "from greenloop import _core\nfrom greenloop._core import Hub\n",
    "python/greenloop/monkey/__init__.py": "from greenloop.hub import Hub\nimport socket\n",
    "wheel-data/purelib/_hook.py": "import sys\nfrom greenloop.dropin import install\n",
}

Write = Callable[[str, str], None]


def manifest(crate: str, dependencies: str) -> str:
    return (
        f'[package]\nname = "greenloop-{crate}"\nversion = "1.0.0"\nedition = "2024"\n'
        f"[dependencies]\n{dependencies}"
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of a small project that keeps the rule; it is in `tmp_path`."""

    file = partial(write_below, tmp_path)
    file("Cargo.toml", '[workspace]\nresolver = "3"\nmembers = ["crates/*"]\n')
    for crate, dependencies in CRATES.items():
        file(f"crates/{crate}/Cargo.toml", manifest(crate, dependencies))
        file(f"crates/{crate}/src/lib.rs", "mod x;\n")
        file(f"crates/{crate}/src/x.rs", "")
    for name, text in MODULES.items():
        file(name, text)
    return file


def breaches(root: Path) -> list[str]:
    return found_by("check_dependencies.py", root)


def test_this_project_keeps_the_rule() -> None:
    assert breaches(PROJECT) == []


def test_small_project_keeps_the_rule(write: Write, tmp_path: Path) -> None:
    assert breaches(tmp_path) == []


@pytest.mark.parametrize(
    ("crate", "dependencies", "found"),
    [
        ("reactor", 'greenloop-stack = { path = "../stack" }', "depends on crates/stack"),
        (
            "stack",
            '[dev-dependencies]\ngreenloop-reactor = { path = "../reactor" }',
            "depends on crates/reactor",
        ),
        (
            "stack",
            '[target."cfg(unix)".build-dependencies]\nother = '
            '{ package = "greenloop-reactor", path = "../reactor" }',
            "depends on crates/reactor",
        ),
        ("stack", 'pyo3-ffi = "1"', "depends on pyo3-ffi; only crates/python may"),
        ("python", 'helper = { path = "../../tests/helper" }', "depends on tests/helper"),
    ],
)
def test_crate_that_depends_on_what_it_may_not(
    write: Write, tmp_path: Path, crate: str, dependencies: str, found: str
) -> None:
    write(f"crates/{crate}/Cargo.toml", manifest(crate, dependencies + "\n"))
    write("tests/helper/Cargo.toml", manifest("helper", "").replace("greenloop-", ""))
    write("tests/helper/src/lib.rs", "")
    # A path dependency becomes a member of the workspace, unless it says that it is none.
    write("Cargo.toml", '[workspace]\nmembers = ["crates/*"]\nexclude = ["tests"]\n')
    assert breaches(tmp_path) == [f"crates/{crate}/Cargo.toml: {found}"]


def test_crate_that_is_not_in_the_rule(write: Write, tmp_path: Path) -> None:
    write("crates/extra/Cargo.toml", manifest("extra", ""))
    write("crates/extra/src/lib.rs", "")
    assert breaches(tmp_path) == ["crates/extra/Cargo.toml: a crate unknown to the dependency rule"]


def test_crate_that_is_not_in_the_workspace(write: Write, tmp_path: Path) -> None:
    write("Cargo.toml", '[workspace]\nmembers = ["crates/stack", "crates/python"]\n')
    assert breaches(tmp_path) == ["crates/reactor: not a member of the workspace"]


@pytest.mark.parametrize(
    ("crate", "line", "found"),
    [
        ("stack", "use pyo3::ffi;", "names pyo3; only crates/python may"),
        ("python", "use pyo3::ffi;", None),
        ("reactor", '#[path = "../../stack/src/x.rs"]', "out of its crate to ../../stack/src/x.rs"),
        ("reactor", 'include!("../../stack/src/x.rs");', "of its crate to ../../stack/src/x.rs"),
        ("reactor", '#[path = "y.rs"]', None),
    ],
)
def test_rust_source(
    write: Write, tmp_path: Path, crate: str, line: str, found: str | None
) -> None:
    write(f"crates/{crate}/src/x.rs", f"\n{line}\n")
    lines = breaches(tmp_path)
    if found is None:
        assert lines == []
    else:
        assert len(lines) == 1
        assert lines[0].startswith(f"crates/{crate}/src/x.rs:2: ")
        assert lines[0].endswith(found)


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("hub", "import tests.helper", "imports tests.helper: nothing depends on tests"),
        ("hub", "from benches import run", "imports benches.run: nothing depends on benches"),
        ("hub", "import ctypes", "imports ctypes: greenloop._core is the only way to native code"),
        (
            "hub",
            "import requests",
            "imports requests: the package depends on the standard library alone",
        ),
        (
            "hub",
            "from gevent import hub",
            "imports gevent.hub: the package depends on the standard library alone",
        ),
        ("hub", "from . import monkey", "imports greenloop.monkey: it stands above greenloop.hub"),
        ("hub", "from .cli import main", "imports greenloop.cli.main: it stands above"),
        ("hub", "    from greenloop import dropin", "imports greenloop.dropin: it stands above"),
        ("monkey/__init__", "from .. import dropin", "imports greenloop.dropin: it stands above"),
        ("monkey/_socket", "from .. import socket", None),
        ("monkey/_socket", "from . import _table", None),
        ("hub", "    from _typeshed import ReadableBuffer", None),
        ("integrations/gunicorn", "import gunicorn.workers", None),
        ("integrations/celery", "import gunicorn", "imports gunicorn: the package depends on"),
    ],
)
def test_import(write: Write, tmp_path: Path, module: str, line: str, found: str | None) -> None:
    file = f"python/greenloop/{module}.py"
    text = f"def f():\n{line}\n" if line.startswith(" ") else f"\n{line}\n"
    write(file, text)
    lines = breaches(tmp_path)
    if found is None:
        assert lines == []
    else:
        assert len(lines) == 1
        assert lines[0].startswith(f"{file}:2: {found}")


def test_stubs_of_another_native_module(write: Write, tmp_path: Path) -> None:
    write("python/greenloop/_fast.pyi", "")
    assert breaches(tmp_path) == ["python/greenloop/_fast.pyi: stubs of a module that is not there"]

"""Checks who leans on whom: the dependency rule of ARCHITECTURE.md.

    python tools/check_dependencies.py [--root DIRECTORY]

* Each crate depends on no sibling, except crates/python, which may use them all.
* Only crates/python depends on pyo3, or so much as names it.
* No crate reaches with a path into another directory of the project.
* The Python package reaches Rust through greenloop._core alone, and imports nothing but itself and
  the standard library. A program that greenloop is plugged into may be imported by the
  integration for it, and zope and psutil, where they are installed, by the modules named below.
* Within the package, commands and the drop-in are on top: nothing but the package's own
  `__init__` imports them, and nothing below monkey imports monkey.
* Nothing depends on tests, benches, fuzz, examples, demo or tools.

Prints each breach with its place. Exit status: 0 if there is none, else 1.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "greenloop"
CORE = f"{PACKAGE}._core"

# What each crate may use of the others. A new crate has to be entered.
SIBLINGS: dict[str, set[str]] = {
    "stack": set(),
    "reactor": set(),
    "dns": set(),
    "http1": set(),
    "websocket": set(),
    "python": {"stack", "reactor", "dns", "http1", "websocket"},
}
PYO3_CRATE = "python"

# Rooms that nothing outside them may depend on.
LEAVES = ("benches", "demo", "examples", "fuzz", "tests", "tools")

# Third-party packages that one module of the package may import: the one that plugs into them.
THIRD_PARTY: dict[str, set[str]] = {
    f"{PACKAGE}.integrations.gunicorn": {"gunicorn"},
    f"{PACKAGE}.integrations.celery": {"celery"},
    f"{PACKAGE}.resolver.dnspython": {"dns"},
    # Used where they are installed, as gevent does; nothing needs them.
    f"{PACKAGE}.events": {"zope"},
    f"{PACKAGE}._compat": {"psutil"},
    f"{PACKAGE}._monitor": {"psutil"},
}
# Of the standard library as type checkers know it; not there at run time.
TYPING_ONLY = {"_typeshed"}
# Ways into native code beside the core.
NATIVE = {"_ctypes", "cffi", "ctypes"}

# Who may import a module of the package (or its submodules) that is not for everyone.
IMPORTERS: dict[str, tuple[str, ...]] = {
    f"{PACKAGE}.__main__": (),
    # monkey._main is the command `python -m greenloop.monkey`.
    f"{PACKAGE}.cli": (f"{PACKAGE}.__main__", f"{PACKAGE}.monkey._main"),
    # serve is the command `greenloop serve`.
    f"{PACKAGE}.serve": (f"{PACKAGE}.cli",),
    f"{PACKAGE}.dropin": (
        PACKAGE,
        f"{PACKAGE}.cli",
        f"{PACKAGE}.integrations",
        f"{PACKAGE}.serve",
    ),
    f"{PACKAGE}.integrations": (),
    f"{PACKAGE}.monkey": (
        f"{PACKAGE}.cli",
        f"{PACKAGE}.dropin",
        f"{PACKAGE}.integrations",
        f"{PACKAGE}.serve",
    ),
}


def check_crates(root: Path) -> Iterator[str]:
    """Breaches in the manifests of the crates, and pyo3's name in their sources."""
    crates = root / "crates"
    done = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        yield f"Cargo.toml: cargo metadata failed: {done.stderr.strip()}"
        return
    packages: list[dict[str, Any]] = json.loads(done.stdout)["packages"]
    homes = {Path(package["manifest_path"]).parent: package for package in packages}
    for home in sorted(crates.iterdir()):
        if home.is_dir() and home not in homes:
            yield f"crates/{home.name}: not a member of the workspace"
    for home, package in homes.items():
        manifest = Path(package["manifest_path"]).relative_to(root)
        if home.parent != crates or home.name not in SIBLINGS:
            yield f"{manifest}: a crate unknown to the dependency rule"
            continue
        for dependency in package["dependencies"]:
            name: str = dependency["name"]
            if name.startswith("pyo3") and home.name != PYO3_CRATE:
                yield f"{manifest}: depends on {name}; only crates/{PYO3_CRATE} may"
            path = dependency.get("path")
            if path is None:
                continue
            used = Path(path)
            if used.parent != crates or used.name not in SIBLINGS[home.name]:
                yield f"{manifest}: depends on {os.path.relpath(used, root)}"
        yield from check_rust_sources(root, home)


RUST_PATH = re.compile(r'(?:#\[path\s*=\s*|include\w*!\s*\(\s*)"([^"]+)"')


def check_rust_sources(root: Path, home: Path) -> Iterator[str]:
    """Breaches in the Rust files of the crate at *home*."""
    for file in sorted(home.rglob("*.rs")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            place = f"{file.relative_to(root)}:{number}"
            if home.name != PYO3_CRATE and re.search(r"\bpyo3", line):
                yield f"{place}: names pyo3; only crates/{PYO3_CRATE} may"
            for path in RUST_PATH.findall(line):
                if not (file.parent / path).resolve().is_relative_to(home):
                    yield f"{place}: reaches out of its crate to {path}"


def check_package(root: Path) -> Iterator[str]:
    """Breaches in the imports of the Python package and of what the wheel puts beside it."""
    home = root / "python"
    files = [*home.rglob("*.py"), *home.rglob("*.pyi"), *(root / "wheel-data").rglob("*.py")]
    for file in sorted(files):
        if file.is_relative_to(home):
            parts = file.relative_to(home).with_suffix("").parts
            package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if package else parts)
        else:
            module, package = file.stem, False
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        for line, name in imports(tree, module, package):
            breach = judge(module, name)
            if breach:
                yield f"{file.relative_to(root)}:{line}: {breach}"
    for file in sorted(home.rglob("*.pyi")):
        if file.name != "_core.pyi" and not file.with_suffix(".py").exists():
            yield f"{file.relative_to(root)}: stubs of a module that is not there"


def imports(tree: ast.AST, module: str, package: bool) -> Iterator[tuple[int, str]]:
    """The line and the full name of everything that *module* imports.

    `from a import b` gives a.b, whether b is a module of a or a name in it.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + package]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def inside(name: str, module: str) -> bool:
    """Tell whether *name* is *module* or something in it."""
    return name == module or name.startswith(f"{module}.")


def judge(module: str, name: str) -> str | None:
    """What is wrong with *module* importing *name*; None if nothing is."""
    top = name.partition(".")[0]
    if top in LEAVES:
        return f"imports {name}: nothing depends on {top}"
    if top in NATIVE:
        return f"imports {name}: {CORE} is the only way to native code"
    if top != PACKAGE:
        allowed = set().union(
            *(names for home, names in THIRD_PARTY.items() if inside(module, home))
        )
        if top in sys.stdlib_module_names or top in TYPING_ONLY or top in allowed:
            return None
        return f"imports {name}: the package depends on the standard library alone"
    for guarded, importers in IMPORTERS.items():
        if not inside(name, guarded) or inside(module, guarded):
            continue
        if guarded == f"{PACKAGE}.dropin" and not module.startswith(PACKAGE):
            continue  # the start-up hook
        # The package itself is meant by its name alone, not everything in it.
        if not any(module == one or (one != PACKAGE and inside(module, one)) for one in importers):
            return f"imports {name}: it stands above {module}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the project's dependency rule.")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the project"
    )
    root: Path = parser.parse_args().root.resolve()
    breaches = [*check_crates(root), *check_package(root)]
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

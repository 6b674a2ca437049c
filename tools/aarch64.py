"""Builds greenloop for AArch64 and runs its tests, on an x86-64 machine.

    python tools/aarch64.py [--python VERSION] [PYTEST ARGUMENT ...]

The tests of the crates stack and reactor, and those of greenlets on an AArch64 CPython, run under
QEMU's user mode emulation. What that takes, a Rust with the standard library for the target, a C
cross compiler, qemu and the interpreter, comes from Debian's packages, unpacked in build/aarch64
(1 GB): nothing is installed, and no root is needed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from debian import Packages, bind_to_libraries, fail, run

ROOT = Path(__file__).resolve().parent.parent
WHERE = ROOT / "build" / "aarch64"
HOST = WHERE / "host"
CARGO_TARGET = ROOT / "target" / "aarch64"
TRIPLE = "aarch64-unknown-linux-gnu"

# All from one suite, which has a recent Rust, and in which, other than in sid, the packages of
# two architectures always fit each other.
SUITE = "testing"

# What runs on this machine and what runs emulated, without their dependencies.
ON_HOST = ("gcc-aarch64-linux-gnu:amd64", "qemu-user:amd64", "rustc:amd64")
STANDARD_LIBRARY = "libstd-rust-dev:arm64"
ON_TARGET = ("libc6-dev:arm64", "libpython{}-dev:arm64", "python{}:arm64")
# Dependencies that nothing here uses: the native C compiler (the machine's own is used), the
# sanitizers, and what a compiler would need on the target.
UNUSED = re.compile(
    r"(cpp|gcc|binutils)(-\d+)?(-x86-64-linux-gnu)?:amd64"
    r"|lib(asan|hwasan|lsan|tsan|ubsan|itm|gprofng|cc1).*"
    rf"|(?!{STANDARD_LIBRARY}).*:arm64"
)
# Pure Python, as tests/requirements.txt pins them.
TEST_PACKAGES = ("pytest", "pytest-timeout")
# Tests of the crates, by parts of their names, that need what user mode emulation does not have:
# the highest real-time signals, limits on address space, how much memory a mapping has, and
# programs run again by their path.
NOT_EMULATED = (
    "last_of_many_signals",
    "address_space_is_limited",
    "limit_of_data",
    "least_slots_beyond",
    "where_there_is_no_room",
    "without_room_for",
    "deep_call",
    "huge_pages",
    "a_panic_that_leaves_a_coroutine",
)
# What a process dies of and its limits, which test_greenlet_stack is about, are the emulator's own.
TESTS = ("tests/greenlet", "--ignore=tests/greenlet/test_greenlet_stack.py")


def say(what: str) -> None:
    print(f"aarch64: {what}", file=sys.stderr, flush=True)


def prepare_host() -> None:
    """Unpack compilers and emulator, unless that was done before."""
    made_from = "\n".join((SUITE, *ON_HOST, STANDARD_LIBRARY, UNUSED.pattern))
    ready = HOST / "ready"
    if ready.is_file() and ready.read_text() == made_from:
        return
    shutil.rmtree(HOST, ignore_errors=True)
    say("downloading compilers and emulator")
    packages = Packages(WHERE / "apt", SUITE, ("amd64", "arm64"))
    packages.update()
    names = packages.resolve([*ON_HOST, STANDARD_LIBRARY])
    packages.unpack([name for name in names if UNUSED.fullmatch(name) is None], HOST)
    for path in HOST.glob("usr/bin/qemu-*"):
        # One for each architecture there is, half a gigabyte.
        if path.name != "qemu-aarch64":
            path.unlink()
    bind_to_libraries(HOST, executables(), HOST.glob("usr/lib/*/libLLVM.so.*.*"))
    ready.write_text(made_from)


def executables() -> list[Path]:
    """The unpacked programs for this machine that are linked dynamically."""
    files = [*HOST.glob("usr/bin/*"), *HOST.glob("usr/libexec/gcc*/**/*")]
    return [
        path
        for path in files
        if path.is_file()
        and not path.is_symlink()
        and ".so" not in path.name
        and path.name != "qemu-aarch64"
        and path.open("rb").read(4) == b"\x7fELF"
    ]


class Target:
    """An AArch64 CPython with its libraries, and what is installed there."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.root = WHERE / f"python{version}"
        self.emulator = f"{HOST}/usr/bin/qemu-aarch64 -L {self.root}"
        # The interpreter, as a program that this machine can run.
        self.python = self.root / "usr" / "bin" / f"python{version}-emulated"
        self.site = self.root / "usr" / "local" / "lib" / f"python{version}" / "dist-packages"

    def prepare(self) -> None:
        """Unpack the interpreter, unless that was done before."""
        wanted = [name.format(self.version) for name in ON_TARGET]
        made_from = "\n".join((SUITE, *wanted))
        ready = self.root / "ready"
        if ready.is_file() and ready.read_text() == made_from:
            return
        shutil.rmtree(self.root, ignore_errors=True)
        say(f"downloading CPython {self.version}")
        packages = Packages(WHERE / "apt", SUITE, ("amd64", "arm64"))
        packages.update()
        packages.unpack(packages.resolve(wanted), self.root)
        # Where programs and linker scripts name the loader and the libraries.
        (self.root / "lib").symlink_to("usr/lib")
        # It is told the name that it was called by, and so finds itself as sys.executable.
        interpreter = self.root / "usr" / "bin" / f"python{self.version}"
        self.python.write_text(f'#!/bin/sh\nexec {self.emulator} -0 "$0" {interpreter} "$@"\n')
        self.python.chmod(0o755)
        ready.write_text(made_from)

    def cargo(self, *arguments: str) -> None:
        """Run cargo for this target."""
        compiler = HOST / "usr" / "bin" / "aarch64-linux-gnu-gcc"
        here = TRIPLE.replace("-", "_")
        config = WHERE / f"pyo3-{self.version}.txt"
        config.write_text(
            f"implementation=CPython\nversion={self.version}\nshared=true\npointer_width=64\n"
            f"executable={self.python}\nsuppress_build_script_link_lines=true\n"
        )
        variables = {
            "RUSTC": HOST / "usr" / "bin" / "rustc",
            "CARGO_TARGET_DIR": CARGO_TARGET,
            f"CARGO_TARGET_{here.upper()}_LINKER": compiler,
            f"CARGO_TARGET_{here.upper()}_RUNNER": self.emulator,
            f"CARGO_TARGET_{here.upper()}_RUSTFLAGS": f"-Clink-arg=--sysroot={self.root}",
            f"CC_{here}": compiler,
            f"CFLAGS_{here}": f"--sysroot={self.root}",
            "PYO3_CONFIG_FILE": config,
        }
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        command = ["cargo", arguments[0], "--target", TRIPLE, *arguments[1:]]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
            fail(f"this failed: {' '.join(command)}")

    def test_crates(self) -> None:
        say("testing the crates")
        skipped = [word for name in NOT_EMULATED for word in ("--skip", name)]
        crates = ("-p", "greenloop-stack", "-p", "greenloop-reactor")
        self.cargo("test", *crates, "--tests", "--", *skipped)

    def install(self) -> None:
        """Build the core, and put it and the package where the interpreter finds them."""
        say(f"building for CPython {self.version}")
        self.cargo("build", "--release", "-p", "greenloop-python")
        shutil.rmtree(self.site, ignore_errors=True)
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / "python" / "greenloop", self.site / "greenloop", ignore=ignored)
        shutil.copytree(ROOT / "wheel-data" / "purelib", self.site, dirs_exist_ok=True)
        code = "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"
        suffix = run(self.python, "-c", code).strip()
        built = CARGO_TARGET / TRIPLE / "release" / "lib_core.so"
        shutil.copy(built, self.site / "greenloop" / f"_core{suffix}")
        pinned = (ROOT / "tests" / "requirements.txt").read_text().splitlines()
        wanted = [line for line in pinned if line.split("==")[0] in TEST_PACKAGES]
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq")
        run(*pip, "--root-user-action=ignore", "--target", self.site, *wanted)

    def test_python(self, arguments: list[str]) -> None:
        say(f"testing greenlets on CPython {self.version}")
        command = [self.python, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or TESTS)]
        slow = {"PYTHONDONTWRITEBYTECODE": "1", "GREENLOOP_TEST_SLOWNESS": "10"}
        variables = {**os.environ, **slow}
        if subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode != 0:
            fail("the tests failed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Test greenloop for AArch64, emulated.")
    parser.add_argument("--python", default="3.13", metavar="VERSION", help="default: 3.13")
    options, arguments = parser.parse_known_args()
    if platform.machine() != "x86_64":
        fail("this works on x86-64; on AArch64, `make test` is what it does")
    target = Target(options.python)
    prepare_host()
    target.prepare()
    target.test_crates()
    target.install()
    target.test_python(arguments)


if __name__ == "__main__":
    main()

"""Runs the tests of asyncio and of uvloop on greenloop's loop: `make conformance-asyncio`.

    python tools/conformance_asyncio.py [--loop MODULE:CLASS] [MODULE ...]

CPython's own tests of asyncio run on asyncio and, with the loop that they make replaced, on
greenloop's; uvloop's own tests, those of its source distribution, on uvloop and on greenloop's.
What passes there has to pass here, or stand in conformance-asyncio.toml with the reason why it
cannot. A case that hangs is ended, and those after it run in another process. Many cases measure
time: modules with differences are run again, twice at most.

MODULE: run these, for example uvloop.test_tcp or 'test_asyncio.test_s*', instead of all. --loop:
the class of another loop, to see what becomes of the tests there: uvloop:Loop. Exit status: 0 if
nothing differs but what is listed, else 1.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from conformance_cases import (
    RUNNERS,
    Listed,
    Peer,
    Run,
    compare,
    install,
    listed_cases,
    of_modules,
    plain_environment,
    run_again,
    say,
    table,
)
from conformance_stdlib import StandardLibrary, modules_of
from environment import ROOT, tag

LISTED = ROOT / "tools" / "conformance-asyncio.toml"

OURS = "greenloop.asyncio:EventLoop"


class Asyncio(StandardLibrary):
    """CPython's tests of asyncio."""

    @property
    def work(self) -> Path:
        return ROOT / "build" / "conformance" / f"asyncio-{tag()}"


class Uvloop(Peer):
    """uvloop's tests, which its source distribution has."""

    @property
    def tests(self) -> Path:
        return self.work / "sdist" / "tests"


# What the runs of the interpreter's tests go by is the name of the peer, `stdlib`.
ASYNCIO = Asyncio("stdlib", tag(), time_limit=1800.0, case_limit=120.0, restarts=25)
UVLOOP = Uvloop(
    "uvloop", "0.23.0", parts=("_testbase.py",), time_limit=900.0, case_limit=60.0, restarts=25
)

#: Not about a loop that a factory makes: asyncio's own loop and its relatives elsewhere, from
#: inside, and a program that looks into other processes.
NOT_OF_ASYNCIO = (
    "test_asyncio.test_proactor_events",
    "test_asyncio.test_selector_events",
    "test_asyncio.test_tools",
    "test_asyncio.test_windows_events",
    "test_asyncio.test_windows_utils",
)

#: Not about a loop either: uvloop's sources, its own helpers, the C library in it, and a method
#: that no other loop has.
NOT_OF_UVLOOP = (
    "test_cython",
    "test_fs_event",
    "test_libuv_api",
    "test_sourcecode",
    "test_testbase",
)


def unpack_tests() -> None:
    """Unpack uvloop's tests, unless that was done before."""
    if UVLOOP.tests.exists():
        return
    download = UVLOOP.work / "download"
    shutil.rmtree(download, ignore_errors=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
            *("--no-deps", "--no-binary", "uvloop", "--dest", str(download)),
            f"{UVLOOP.name}=={UVLOOP.version}",
        ],
        check=True,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
    )
    (archive,) = download.iterdir()
    with tarfile.open(archive) as files:
        files.extractall(download, filter="data")
    # Away from the sources of the package, which are not to be imported.
    UVLOOP.tests.parent.mkdir(exist_ok=True)
    (download / archive.name.removesuffix(".tar.gz") / "tests").rename(UVLOOP.tests)


@dataclass
class Suite:
    """Tests of one origin: the run on the loop that they are from, and the one on the other."""

    label: str
    modules: list[str]
    theirs: Run
    other: Run

    def compare(self, listed: dict[str, Listed]) -> int:
        """Run and report; the number of errors."""
        for module in self.modules:
            for run in (self.theirs, self.other):
                run.add_module(module)
        settled = run_again(self.theirs, self.other, listed, 2)
        lines, errors = compare(self.theirs, self.other, listed)
        lines += [f"  passed when run again: {case}" for case in settled]
        say("\n".join([f"\n== the tests of {self.label}", *lines, ""]))
        say("\n".join(table(self.theirs, self.other)))
        return errors


def asyncio_suite(modules: list[str], loop: str) -> Suite:
    plain = plain_environment()
    name = loop.partition(".")[0].partition(":")[0]
    patched = {"CONFORMANCE_PATCH": "loop_in_place", "CONFORMANCE_LOOP": loop}
    # Another loop than ours is where its tests are.
    further = {"PYTHONPATH": str(UVLOOP.work / "peer")} if name == UVLOOP.name else {}
    return Suite(
        "asyncio",
        modules,
        Run("asyncio", ASYNCIO, plain),
        Run(name, ASYNCIO, {**plain, **patched, **further}),
    )


def uvloop_suite(modules: list[str], loop: str) -> Suite:
    plain = {**plain_environment(), "CONFORMANCE_SDIST": str(UVLOOP.tests.parent)}
    on_other = {
        "PYTHONPATH": str(RUNNERS / "in_place"),
        "CONFORMANCE_LOOP": loop,
        "CONFORMANCE_TESTS": str(UVLOOP.work / "tests-only"),
    }
    return Suite(
        "uvloop",
        modules,
        Run("uvloop", UVLOOP, {**plain, "PYTHONPATH": str(UVLOOP.work / "peer")}),
        Run(loop.partition(".")[0].partition(":")[0], UVLOOP, {**plain, **on_other}),
    )


def wanted(found: list[str], prefix: str, patterns: list[str]) -> list[str]:
    """The modules that one of the patterns means, or all without patterns."""
    return [
        module
        for module in found
        if not patterns or any(fnmatchcase(prefix + module, pattern) for pattern in patterns)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests of asyncio and uvloop.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="run only these")
    parser.add_argument("--loop", default=OURS, metavar="MODULE:CLASS", help=f"instead of {OURS}")
    options = parser.parse_args()

    ASYNCIO.work.mkdir(parents=True, exist_ok=True)
    of_asyncio = [name for name in modules_of("test_asyncio") if name not in NOT_OF_ASYNCIO]
    of_uvloop: list[str] = []
    if sys.version_info < (3, 15):
        install(UVLOOP)
        unpack_tests()
        found = sorted(path.stem for path in UVLOOP.tests.glob("test_*.py"))
        of_uvloop = [name for name in found if name not in NOT_OF_UVLOOP]
    else:
        say("uvloop has no release for this version of Python")

    listed = listed_cases(LISTED, "{}.{}".format(*sys.version_info))
    for case in set(listed) - set(of_modules(listed, [*of_asyncio, *of_uvloop])):
        if sys.version_info < (3, 15):
            parser.error(f"{LISTED.name}: no such module: {case}")
    suites = [
        asyncio_suite(wanted(of_asyncio, "", options.modules), options.loop),
        uvloop_suite(wanted(of_uvloop, "uvloop.", options.modules), options.loop),
    ]
    suites = [suite for suite in suites if suite.modules]
    if not suites:
        names = [*of_asyncio, *(f"uvloop.{name}" for name in of_uvloop)]
        parser.error(f"no such module; there are {', '.join(names)}")
    errors = sum(suite.compare(of_modules(listed, suite.modules)) for suite in suites)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs CPython's own tests of the standard library under patching: `make conformance-stdlib`.

    python tools/conformance_stdlib.py [--no-gevent] [MODULE ...]

Each module runs three times, in a process of its own: as it is, after greenloop's `patch_all()`,
and, to be shown beside, after that of the real gevent. What passes as it is has to pass on
greenloop, or stand in conformance-stdlib.toml with the reason why it cannot. A case that hangs is
ended, and those after it run in another process; one that hangs counts as one that fails, and so
does a process that does not end after its last case.

MODULE: run these, for example test_socket or 'test_asyncio.*', instead of all that are supported.
Many cases measure time: modules with differences are run again, twice at most. Exit status: 0 if
nothing differs but what is listed, else 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import test  # type: ignore[import-not-found]  # typeshed leaves it out
from conformance_cases import (
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
from conformance_gevent import GEVENT
from environment import ROOT, tag


class StandardLibrary(Peer):
    """The interpreter's own tests, wherever it has them."""

    @property
    def work(self) -> Path:
        return ROOT / "build" / "conformance" / f"stdlib-{tag()}"


STDLIB = StandardLibrary("stdlib", tag(), time_limit=1800.0, case_limit=150.0, restarts=25)

#: The modules and packages whose tests have to pass, where the version of Python has them.
SUPPORTED = (
    "test_asynchat",
    "test_asyncio",
    "test_asyncore",
    "test_concurrent_futures",
    "test_context",
    "test_docxmlrpc",
    "test_epoll",
    "test_ftplib",
    "test_httplib",
    "test_httpservers",
    "test_imaplib",
    "test_logging",
    "test_multiprocessing_fork",
    "test_multiprocessing_forkserver",
    "test_multiprocessing_main_handling",
    "test_multiprocessing_spawn",
    "test_nntplib",
    "test_poll",
    "test_poplib",
    "test_queue",
    "test_robotparser",
    "test_sched",
    "test_select",
    "test_selectors",
    "test_signal",
    "test_smtpd",
    "test_smtplib",
    "test_socket",
    "test_socketserver",
    "test_ssl",
    "test_subprocess",
    "test_telnetlib",
    "test_threading",
    "test_threading_local",
    "test_threadsignals",
    "test_timeout",
    "test_urllib2",
    "test_urllib2_localnet",
    "test_wsgiref",
    "test_xmlrpc",
)


def modules_of(name: str) -> Iterator[str]:
    """A module of tests, or those of a package."""
    for directory in map(Path, test.__path__):
        if (directory / f"{name}.py").exists():
            yield name
        for path in sorted((directory / name).glob("test_*.py")):
            yield f"{name}.{path.stem}"


def run_on(name: str, patch: str, path: str = "") -> Run:
    """The tests after the `patch_all` of a module, found in a directory."""
    environment = {**plain_environment(), "CONFORMANCE_PATCH": patch, "PYTHONPATH": path}
    return Run(name, STDLIB, environment)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run CPython's own tests under patching.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="run only these")
    parser.add_argument("--no-gevent", action="store_true", help="do not show gevent beside")
    options = parser.parse_args()

    found = [module for name in SUPPORTED for module in modules_of(name)]
    modules = [
        module
        for module in found
        if not options.modules or any(fnmatchcase(module, it) for it in options.modules)
    ]
    if not modules:
        parser.error(f"no such module; there are {', '.join(found)}")

    STDLIB.work.mkdir(parents=True, exist_ok=True)
    plain, ours = run_on("unpatched", ""), run_on("greenloop", "greenloop.monkey")
    listed = of_modules(listed_cases(STDLIB.listed, "{}.{}".format(*sys.version_info)), modules)
    ours.apart = frozenset(case for case, why in listed.items() if why.apart)
    runs = [plain, ours]
    if not options.no_gevent:
        install(GEVENT)
        runs.append(run_on("gevent", "gevent.monkey", str(GEVENT.work / "peer")))
    for module in modules:
        for run in runs:
            run.add_module(module)
    settled = run_again(plain, ours, listed, 2)
    lines, errors = compare(plain, ours, listed)
    lines += [f"  passed when run again: {case}" for case in settled]
    say("\n".join([*lines, "", *table(*runs)]))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs one module of CPython's own tests and writes what becomes of each case (`reporter`).

    python run_stdlib.py MODULE REPORT [DONE]

DONE: a file with the cases that are not to be run, a line each.
CONFORMANCE_PATCH in the environment names the module whose `patch_all` is called first, as when the
tests are a program that is run with `python -m greenloop.monkey`. With CONFORMANCE_APART the
process ends after the last case, whatever that has left running.

Tests run as CPython's runner runs them when it is told nothing: without resources, in a temporary
directory. Those that need a network but stay on this machine have it.
"""

from __future__ import annotations

import importlib
import os
import sys

PACKAGE = "test."

#: Modules that ask for the network, and talk to servers of their own only.
LOCAL_NETWORK = ("test_socketserver",)


def main() -> None:
    # What else there is to import comes after patching.
    if patch := os.environ.pop("CONFORMANCE_PATCH", ""):
        importlib.import_module(patch).patch_all()

    import faulthandler
    import tempfile
    import unittest
    from pathlib import Path

    from reporter import Reporter, without
    from test import support  # type: ignore[import-not-found]  # typeshed leaves it out
    from test.support import os_helper  # type: ignore[import-not-found]

    apart = bool(os.environ.pop("CONFORMANCE_APART", ""))
    module, report, *done = sys.argv[1:]
    # As of a program without arguments.
    sys.argv[1:] = []
    # In this process only: tests look at what their children write.
    faulthandler.enable()
    support.use_resources = {"network": None} if module in LOCAL_NETWORK else {}

    def case_id(case: unittest.TestCase) -> str:
        return case.id().removeprefix(PACKAGE)

    suite = unittest.defaultTestLoader.loadTestsFromName(PACKAGE + module)
    over = {case for path in done for case in Path(path).read_text().splitlines()}
    without(suite, lambda case: case_id(case) in over)
    reporter = Reporter(Path(report), case_id)
    # Left behind by a process that is killed, so it has a name of its own.
    with os_helper.temp_cwd(f"{tempfile.gettempdir()}/greenloop-tests-{os.getpid()}"):
        reporter.run_suite(suite)
    if apart:
        os._exit(0)


if __name__ == "__main__":
    main()

"""Runs one module of uvloop's tests and writes what becomes of each case (`reporter`).

    python run_uvloop.py MODULE REPORT [DONE]

DONE: a file with the cases that are not to be run, a line each. The cases that uvloop's tests run
on asyncio's own loop, to see that it behaves alike, are left out.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import unittest
from pathlib import Path

from reporter import Reporter, without

PACKAGE = "tests."


def case_id(case: unittest.TestCase) -> str:
    return case.id().removeprefix(PACKAGE)


def main() -> None:
    module, report, *done = sys.argv[1:]
    # As of a program without arguments.
    sys.argv[1:] = []
    # The directory with the package of the tests.
    sys.path.insert(0, os.environ["CONFORMANCE_SDIST"])
    # In this process only: tests look at what their children write.
    faulthandler.enable()
    on_asyncio = importlib.import_module("uvloop._testbase").AIOTestCase
    suite = unittest.defaultTestLoader.loadTestsFromName(PACKAGE + module)
    over = {case for path in done for case in Path(path).read_text().splitlines()}
    without(suite, lambda case: isinstance(case, on_asyncio) or case_id(case) in over)
    Reporter(Path(report), case_id).run_suite(suite)


if __name__ == "__main__":
    main()

"""Runs one module of greenlet's tests and writes what becomes of each case (`reporter`).

python run_greenlet.py MODULE REPORT
"""

from __future__ import annotations

import faulthandler
import sys
import unittest
from pathlib import Path

from reporter import Reporter

PACKAGE = "greenlet.tests."


def main() -> None:
    module, report = sys.argv[1:]
    # In this process only: tests look at what their children write.
    faulthandler.enable()
    suite = unittest.defaultTestLoader.loadTestsFromName(PACKAGE + module)
    Reporter(Path(report), lambda case: case.id().removeprefix(PACKAGE)).run_suite(suite)


if __name__ == "__main__":
    main()

"""Runs one module of gevent's tests and writes what becomes of each case (`reporter`).

    python run_gevent.py MODULE REPORT

The module is run as a program, as gevent's own runner does. In the place of `unittest.main`, which
most call, cases are run here. A module without cases is one itself: it passes if it ends well.
"""

from __future__ import annotations

import runpy
import sys
import unittest
from pathlib import Path
from typing import Any, NoReturn

from reporter import Reporter

PACKAGE = "gevent.tests."


class Program:
    """What `unittest.main` is for the module."""

    def __init__(self, module: str, report: Path) -> None:
        self.module = module
        self.reporter = Reporter(report, self.case_id)
        self.called = False

    def case_id(self, case: unittest.TestCase) -> str:
        return f"{self.module}.{case.id().removeprefix('__main__.')}"

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.called = True
        suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
        self.reporter.run_suite(suite)
        sys.exit(not self.reporter.wasSuccessful())

    def run(self) -> None:
        """Run the module, all of which is a case if it calls no `unittest.main`."""
        write, case = self.reporter.write, f"{self.module}.run"
        try:
            runpy.run_module(PACKAGE + self.module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if self.called:
                raise
            if end.code:
                write(test=case, outcome="failed", detail=f"ended with status {end.code}")
                raise
        if not self.called:
            write(test=case, outcome="passed", detail="")
            write(finished=True)


def main() -> None:
    module, report = sys.argv[1:]
    program = Program(module, Path(report))
    vars(unittest)["main"] = program.main
    # As for a module that is run by `python -m`.
    sys.path[0] = ""
    sys.argv[1:] = []
    program.run()


if __name__ == "__main__":
    main()

"""Runs one module of greenlet's tests and writes what became of each case, as it happens.

    python run_file.py MODULE REPORT

REPORT gets a line of JSON for each event: the names of all cases, then the beginning and the
outcome of each. What a crash or a time limit cuts off is thus known up to there.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "greenlet.tests."


def case_id(case: unittest.TestCase) -> str:
    return case.id().removeprefix(PACKAGE)


def cases_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from cases_of(entry)
        else:
            yield entry


class Reporter(unittest.TestResult):
    """Writes outcomes to the report. A case with several (subtests) has the worst of them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.report = path.open("w")

    def write(self, **event: Any) -> None:
        self.report.write(json.dumps(event) + "\n")
        self.report.flush()

    def outcome(self, test: unittest.TestCase, outcome: str, detail: str = "") -> None:
        self.write(test=case_id(test), outcome=outcome, detail=detail)

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.write(test=case_id(test), outcome="began", detail="")

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.outcome(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        self.outcome(test, "skipped", reason)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        # Its text is without the frames of unittest.
        self.outcome(test, "failed", self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self.addFailure(test, err)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self.outcome(test, "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.outcome(test, "failed", "passed although it is marked as failing")

    def addSubTest(  # noqa: N802
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        if err is not None:
            self.addFailure(test, err)


def main() -> None:
    module, report = sys.argv[1:]
    # In this process only: tests look at what their children write.
    faulthandler.enable()
    suite = unittest.defaultTestLoader.loadTestsFromName(PACKAGE + module)
    reporter = Reporter(Path(report))
    reporter.write(cases=[case_id(case) for case in cases_of(suite)])
    suite.run(reporter)
    reporter.write(finished=True)


if __name__ == "__main__":
    main()

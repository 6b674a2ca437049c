"""What becomes of each case of a module of tests, written down as it happens.

The report gets a line of JSON for each event: the names of all cases, then the beginning and the
outcome of each. What a crash or a time limit cuts off is thus known up to there.
"""

from __future__ import annotations

import json
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def cases_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from cases_of(entry)
        else:
            yield entry


def without(suite: unittest.TestSuite, unwanted: Callable[[unittest.TestCase], bool]) -> None:
    """Take cases out of a suite."""
    kept: list[unittest.TestCase | unittest.TestSuite] = []
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            without(entry, unwanted)
            kept.append(entry)
        elif not unwanted(entry):
            kept.append(entry)
    vars(suite)["_tests"] = kept


class Reporter(unittest.TestResult):
    """Writes outcomes to the report. A case with several (subtests) has the worst of them.

    path: the report.
    case_id: what a case is called in it.
    """

    def __init__(self, path: Path, case_id: Callable[[unittest.TestCase], str]) -> None:
        super().__init__()
        self.report = path.open("w")
        self.case_id = case_id

    def run_suite(self, suite: unittest.TestSuite) -> None:
        """Run the cases, and write down that they have all been run."""
        self.write(cases=[self.case_id(case) for case in cases_of(suite)])
        suite.run(self)
        self.write(finished=True)

    def write(self, **event: Any) -> None:
        self.report.write(json.dumps(event) + "\n")
        self.report.flush()

    def outcome(self, test: unittest.TestCase, outcome: str, detail: str = "") -> None:
        self.write(test=self.case_id(test), outcome=outcome, detail=detail)

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.write(test=self.case_id(test), outcome="began", detail="")

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

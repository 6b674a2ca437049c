"""Runs a peer's own tests on the peer and on greenloop, and compares what becomes of each case.

The interpreter that runs this has greenloop installed. The peer, in the version whose behaviour
greenloop has, is unpacked into a directory of its own under build/, where no other program finds
it. Its tests run as they are, once on the peer and once on greenloop with the drop-in, each module
in a process of its own with a time limit: a crash or a hang costs the cases of that module which it
cuts off, and nothing else.

A case that the peer itself passes has to pass on greenloop, or stand in a list with the reason why
it need not. What stands there and passes is an error too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance_process import run_limited
from environment import ROOT, tag

RUNNERS = ROOT / "tools" / "conformance"


@dataclass(frozen=True)
class Peer:
    """A package whose tests are run.

    name: what it is called, as a distribution and as a package.
    version: the one whose behaviour greenloop has.
    needs: what else it needs to be installed, as pip takes it.
    parts: names of its directories that belong to the tests.
    time_limit: seconds for one module.
    case_limit: seconds for one case; None for as many as the module has.
    restarts: how often a module that was cut off is begun again, for the cases that are left.
    """

    name: str
    version: str
    needs: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("tests",)
    time_limit: float = 900.0
    case_limit: float | None = None
    restarts: int = 0

    @property
    def work(self) -> Path:
        """Where it is unpacked, and reports are written."""
        return ROOT / "build" / "conformance" / f"{self.name}-{self.version}-{tag()}"

    @property
    def listed(self) -> Path:
        """The list of cases that may differ."""
        return ROOT / "tools" / f"conformance-{self.name}.toml"

    @property
    def runner(self) -> Path:
        """The script that runs one module."""
        return RUNNERS / f"run_{self.name}.py"

    @property
    def tests(self) -> Path:
        """The directory of its tests, once it is installed."""
        return self.work / "peer" / self.name / "tests"


@dataclass(frozen=True)
class Outcome:
    """What became of a test case: passed, skipped, failed, or lost with its process.

    began: whether it was begun at all.
    """

    kind: str
    detail: str = ""
    began: bool = True


@dataclass
class Run:
    """The tests on one implementation."""

    name: str
    peer: Peer
    environment: dict[str, str]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    #: The cases that run in processes of their own.
    apart: frozenset[str] = frozenset()

    def add_module(self, module: str) -> None:
        """Run one module of tests in a process of its own."""
        began = time.monotonic()
        outcomes: dict[str, Outcome] = {}
        apart = sorted(test for test in self.apart if test.startswith(f"{module}."))
        for _ in range(self.peer.restarts + 1):
            done = [test for test, it in outcomes.items() if it.began]
            further = self.run_process(module, [*done, *apart])
            outcomes |= further
            if not any(not outcome.began for outcome in further.values()):
                break
        for test in apart:
            others = [*outcomes, *(other for other in apart if other != test)]
            further = self.run_process(module, others, {"CONFORMANCE_APART": "1"})
            outcomes |= {test: further[test]} if test in further else {}
        self.seconds += time.monotonic() - began
        self.outcomes |= outcomes
        self.modules |= dict.fromkeys(outcomes, module)
        passed = sum(outcome.kind == "passed" for outcome in outcomes.values())
        say(
            f"{self.name}: {module}: {passed} of {len(outcomes)} passed "
            f"in {time.monotonic() - began:.1f} s"
        )

    def run_process(
        self, module: str, done: list[str], further: dict[str, str] | None = None
    ) -> dict[str, Outcome]:
        """Run the cases of a module in a process of its own, but for those that are done.

        further: what else is in its environment.
        """
        path = self.peer.work / f"{module}.{self.name}"
        report, log, skip = (path.with_name(path.name + end) for end in (".jsonl", ".log", ".skip"))
        report.unlink(missing_ok=True)
        command: list[str | Path] = [sys.executable, self.peer.runner, module, report]
        if done:
            skip.write_text("\n".join(done))
            command.append(skip)
        end = run_limited(
            command,
            directory=self.peer.work,
            environment={**self.environment, **(further or {})},
            log=log,
            report=report,
            time_limit=self.peer.time_limit,
            case_limit=self.peer.case_limit or self.peer.time_limit,
        )
        output = log.read_text(encoding="utf-8", errors="backslashreplace")
        outcomes = read_report(report, end, output)
        if self.peer.case_limit is not None and all(case.began for case in outcomes.values()):
            # A process that goes on after its last case is a difference, too.
            ended = (
                Outcome("passed") if "ended" in end else Outcome("lost", f"{end}\n{tail(output)}")
            )
            outcomes[f"{module}.end"] = ended
        if not outcomes and not done:
            return {f"{module} (no cases)": Outcome("lost", f"{end}\n{tail(output)}")}
        return outcomes

    def passes(self, test: str) -> bool:
        """Whether a case has been run and passed."""
        return test in self.outcomes and self.outcomes[test].kind == "passed"


def read_report(path: Path, end: str, output: str) -> dict[str, Outcome]:
    """The outcome of each case of a module, from what its runner wrote."""
    lines = path.read_text().splitlines() if path.exists() else []
    events: list[dict[str, Any]] = []
    for line in lines:
        # The last line may have been cut off.
        with suppress(ValueError):
            events.append(json.loads(line))
    outcomes: dict[str, Outcome] = {}
    running = ""
    finished = False
    for event in events:
        finished = finished or "finished" in event
        for case in event.get("cases", ()):
            outcomes[case] = Outcome("lost", began=False)
        if "test" not in event:
            continue
        case, kind, detail = event["test"], event["outcome"], event["detail"]
        if kind == "began":
            running = case
            outcomes[case] = Outcome("lost", f"{end} while it ran\n{tail(output)}")
        # A failed subtest stays one.
        elif outcomes.get(case, Outcome("")).kind != "failed":
            outcomes[case] = Outcome(kind, detail)
    for case, outcome in outcomes.items():
        if not outcome.began and finished:
            outcomes[case] = Outcome("lost", "its class or module was not set up")
        elif not outcome.began:
            why = f"{end} in or after {running or 'its start'}"
            outcomes[case] = Outcome("lost", why, began=False)
    return outcomes


def say(what: str) -> None:
    print(what, flush=True)


def tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])


def indented(text: str) -> str:
    return "    " + text.rstrip().replace("\n", "\n    ")


def install(peer: Peer) -> None:
    """Unpack the peer, unless that was done before."""
    complete = peer.work / "complete"
    wanted = "\n".join([f"{peer.name}=={peer.version}", *peer.needs])
    if complete.exists() and complete.read_text() == wanted:
        return
    shutil.rmtree(peer.work, ignore_errors=True)
    directory = peer.work / "peer"
    say(f"unpacking {peer.name} {peer.version} into {directory.relative_to(ROOT)}")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-deps", "--target", str(directory), *wanted.splitlines()),
        ],
        check=True,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
    )
    # For greenloop: the tests, and nothing else of the peer to be imported by mistake.
    (peer.work / "tests-only").mkdir()
    for part in peer.parts:
        (peer.work / "tests-only" / part).symlink_to(directory / peer.name / part)
    complete.write_text(wanted)


def plain_environment() -> dict[str, str]:
    """The environment without anything that changes what is imported or how it behaves."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GREENLOOP", "GREENLET", "GEVENT", "PYTHON"))
    }


def on_peer(peer: Peer) -> Run:
    environment = {**plain_environment(), "PYTHONPATH": str(peer.work / "peer")}
    return Run(peer.name, peer, environment)


def on_greenloop(peer: Peer) -> Run:
    environment = {
        **plain_environment(),
        "PYTHONPATH": str(RUNNERS / "start_up"),
        "CONFORMANCE_PEER": peer.name,
        "CONFORMANCE_TESTS": str(peer.work / "tests-only"),
        "GREENLOOP_DROPIN": "1",
    }
    return Run("greenloop", peer, environment)


@dataclass(frozen=True)
class Listed:
    """Why a case may differ, and what its failure says then.

    apart: whether it leaves something behind that others, and the end of the process, suffer from.
        It runs in a process of its own, which ends with it. (Tests of the standard library.)
    """

    reason: str
    failure: str
    apart: bool = False


def listed_cases(path: Path, version: str) -> dict[str, Listed]:
    """The cases that may differ on a version of Python; raises ValueError for a faulty file."""
    cases: dict[str, Listed] = {}
    for entry in tomllib.loads(path.read_text()).get("differs", []):
        needed = {"tests", "failure", "reason"}
        if not all(entry.get(key) for key in needed) or entry.keys() - needed - {
            "pythons",
            "apart",
        }:
            raise ValueError(
                f"an entry has tests, failure, reason and maybe pythons and apart: {entry}"
            )
        for test in entry["tests"]:
            if test in cases:
                raise ValueError(f"{test} is listed twice")
            if version in entry.get("pythons", [version]):
                reason = " ".join(entry["reason"].split())
                cases[test] = Listed(reason, entry["failure"], entry.get("apart", False))
    return cases


def of_modules(listed: dict[str, Listed], modules: Iterable[str]) -> dict[str, Listed]:
    """Those of the cases that belong to these modules."""
    prefixes = tuple(f"{module}." for module in modules)
    return {test: why for test, why in listed.items() if test.startswith(prefixes)}


def compare(peer: Run, ours: Run, listed: dict[str, Listed]) -> tuple[list[str], int]:
    """A report on how two runs differ, as lines, and the number of errors in it."""
    wanted = [test for test, outcome in peer.outcomes.items() if outcome.kind == "passed"]
    missing = Outcome("lost", "not among the cases on greenloop")
    lines: list[str] = []
    summary: list[str] = []
    errors = 0
    for test in wanted:
        # What is no unittest is one case, if it comes to that.
        no_cases = ours.outcomes.get(f"{test.removesuffix('.run')} (no cases)", missing)
        outcome = ours.outcomes.get(test, no_cases)
        reason = listed.get(test)
        if outcome.kind == "passed":
            if reason is not None:
                errors += 1
                summary.append(f"  STALE, it is listed but passes: {test}")
        elif reason is not None and reason.failure in outcome.detail:
            summary.append(f"  listed: {test}")
            lines += ["", f"listed: {test}: {outcome.kind}", f"    {reason.reason}"]
        else:
            errors += 1
            summary.append(f"  DIFFERS: {test}")
            lines += ["", f"DIFFERS: {test}: {outcome.kind}", indented(outcome.detail)]
    for test in sorted(listed.keys() - peer.outcomes.keys()):
        errors += 1
        summary.append(f"  STALE, it is listed but there is no such case: {test}")
    for test, outcome in peer.outcomes.items():
        if outcome.kind not in ("passed", "skipped"):
            lines += ["", f"not counted, {outcome.kind} on the peer: {test}"]
            lines.append(indented(tail(outcome.detail, 6)))
    # A module that cannot be imported has a case of its own.
    for test, outcome in ours.outcomes.items():
        if test not in peer.outcomes and outcome.kind != "passed":
            lines += ["", f"only on greenloop: {test}: {outcome.kind}", indented(outcome.detail)]
    passed = sum(ours.outcomes.get(test, missing).kind == "passed" for test in wanted)
    lines += [
        "",
        f"{passed} passed of {len(wanted)} that the peer itself passes "
        f"({peer.peer.name} {peer.peer.version}, "
        f"CPython {tag()}; {len(peer.outcomes)} cases; the peer took {peer.seconds:.0f} s, "
        f"greenloop {ours.seconds:.0f} s)",
        *summary,
    ]
    return lines, errors


def run_again(peer: Run, ours: Run, listed: dict[str, Listed], times: int) -> list[str]:
    """Run the modules with differences that are not listed again, up to so many times, for cases
    that measure time on a busy machine. A case passes that passes once. Returns those cases."""
    settled: list[str] = []
    for _ in range(times):
        differs = [
            test
            for test, outcome in peer.outcomes.items()
            if outcome.kind == "passed" and test not in listed and not ours.passes(test)
        ]
        for module in sorted({peer.modules[test] for test in differs}):
            again = Run(ours.name, ours.peer, ours.environment, apart=ours.apart)
            again.add_module(module)
            for test in differs:
                if again.passes(test):
                    ours.outcomes[test] = again.outcomes[test]
                    settled.append(test)
    return settled


def conform(peer: Peer, modules: list[str], *, every: bool, times: int = 0) -> int:
    """Run modules of the tests and print how greenloop differs; the exit status.

    every: whether these are all modules, so that the list has to be about them.
    times: how often modules with differences are run again.
    """
    try:
        listed = listed_cases(peer.listed, "{}.{}".format(*sys.version_info))
    except ValueError as error:
        sys.exit(f"{peer.listed.name}: {error}")
    if not every:
        listed = of_modules(listed, modules)
    theirs, ours = on_peer(peer), on_greenloop(peer)
    for run in theirs, ours:
        for module in modules:
            run.add_module(module)
    settled = run_again(theirs, ours, listed, times)
    lines, errors = compare(theirs, ours, listed)
    lines += [f"  passed when run again: {test}" for test in settled]
    lines += ["", *table(theirs, ours)] if len(modules) > 1 else []
    say("\n".join(lines))
    return 1 if errors else 0


def table(peer: Run, *others: Run) -> list[str]:
    """For each module, the cases passed of those that the peer passes."""
    wanted: dict[str, list[str]] = {}
    for test, outcome in peer.outcomes.items():
        cases = wanted.setdefault(peer.modules[test], [])
        if outcome.kind == "passed":
            cases.append(test)
    width = max(map(len, wanted), default=0)
    names = ["passed of", *(run.name for run in others)]
    lines = [f"{'':{width}}  " + "  ".join(f"{name:>9}" for name in names)]
    for module, cases in [
        *wanted.items(),
        ("all", [case for them in wanted.values() for case in them]),
    ]:
        passed = [sum(run.passes(case) for case in cases) for run in others]
        lines.append(f"{module:{width}}  " + "  ".join(f"{n:9}" for n in [len(cases), *passed]))
    return lines

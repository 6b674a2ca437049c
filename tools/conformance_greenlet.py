"""Runs the greenlet package's own tests on greenloop: `make conformance-greenlet`.

    python tools/conformance_greenlet.py [MODULE ...]

The interpreter that runs this script has greenloop installed. The peer, in the version whose
behaviour greenloop has, is unpacked into a directory of its own under build/, where no other
program finds it. Its tests run as they are, once on the peer and once on greenloop with the
drop-in, each module in a process of its own with a time limit: a crash or a hang costs the cases
of that module which it cuts off, and nothing else.

A case that the peer itself passes has to pass on greenloop, or stand in conformance-greenlet.toml
with the reason why it need not. What stands there and passes is an error too.

MODULE: run only these, for example test_leaks. Exit status: 0 if nothing differs but what is
listed, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import ROOT, tag

import greenloop.rawgreenlet

RUNNER = ROOT / "tools" / "conformance"
LISTED = ROOT / "tools" / "conformance-greenlet.toml"
VERSION = greenloop.rawgreenlet.__version__
WORK = ROOT / "build" / "conformance" / f"greenlet-{VERSION}-{tag()}"

# Seconds for one module; the slowest takes about one minute.
TIME_LIMIT = 900.0


@dataclass(frozen=True)
class Outcome:
    """What became of a test case: passed, skipped, failed, or lost with its process."""

    kind: str
    detail: str = ""


@dataclass
class Run:
    """The tests on one implementation."""

    name: str
    environment: dict[str, str]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0

    def add_module(self, module: str) -> None:
        """Run one module of tests in a process of its own."""
        report = WORK / f"{module}.{self.name}.jsonl"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(RUNNER / "run_file.py"), module, str(report)],
            cwd=WORK,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            # So that the tests' own children end with them.
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=TIME_LIMIT)
            end = f"its process ended with {describe(process.returncode)}"
        except subprocess.TimeoutExpired:
            end = f"its process was still running after {TIME_LIMIT:g} s"
            kill_session(process)
            output, _ = process.communicate()
        except BaseException:
            kill_session(process)
            raise
        seconds = time.monotonic() - began
        self.seconds += seconds
        outcomes = read_report(report, end, output)
        if not outcomes:
            outcomes = {f"{module} (no cases)": Outcome("lost", f"{end}\n{tail(output)}")}
        self.outcomes |= outcomes
        passed = sum(outcome.kind == "passed" for outcome in outcomes.values())
        say(f"{self.name}: {module}: {passed} of {len(outcomes)} passed in {seconds:.1f} s")


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
            outcomes[case] = Outcome("lost", "never began")
        if "test" not in event:
            continue
        case, kind, detail = event["test"], event["outcome"], event["detail"]
        if kind == "began":
            running = case
            outcomes[case] = Outcome("lost", f"{end} while it ran\n{tail(output)}")
        # A failed subtest stays one.
        elif outcomes.get(case, Outcome("")).kind != "failed":
            outcomes[case] = Outcome(kind, detail)
    if not finished:
        for case, outcome in outcomes.items():
            if outcome.detail == "never began":
                outcomes[case] = Outcome("lost", f"{end} in or after {running or 'its start'}")
    return outcomes


def say(what: str) -> None:
    print(what, flush=True)


def tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])


def indented(text: str) -> str:
    return "    " + text.rstrip().replace("\n", "\n    ")


def describe(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def kill_session(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def install_peer() -> Path:
    """Unpack the peer, unless that was done before; its directory for sys.path."""
    directory = WORK / "peer"
    complete = WORK / "complete"
    if complete.exists():
        return directory
    shutil.rmtree(WORK, ignore_errors=True)
    say(f"unpacking greenlet {VERSION} into {directory.relative_to(ROOT)}")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-deps", "--target", str(directory), f"greenlet=={VERSION}"),
        ],
        check=True,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
    )
    # For greenloop: the tests, and nothing else of the peer to be imported by mistake.
    (WORK / "tests-only").mkdir()
    (WORK / "tests-only" / "tests").symlink_to(directory / "greenlet" / "tests")
    complete.touch()
    return directory


def plain_environment() -> dict[str, str]:
    """The environment without anything that changes what is imported or how it behaves."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GREENLOOP", "GREENLET", "PYTHON"))
    }


def on_peer(peer: Path) -> Run:
    return Run("greenlet", {**plain_environment(), "PYTHONPATH": str(peer)})


def on_greenloop() -> Run:
    return Run(
        "greenloop",
        {
            **plain_environment(),
            "PYTHONPATH": str(RUNNER),
            "CONFORMANCE_TESTS": str(WORK / "tests-only"),
            "GREENLOOP_DROPIN": "1",
        },
    )


@dataclass(frozen=True)
class Listed:
    """Why a case may differ, and what its failure says then."""

    reason: str
    failure: str


def listed_cases(path: Path, version: str) -> dict[str, Listed]:
    """The cases that may differ on a version of Python; raises ValueError for a faulty file."""
    cases: dict[str, Listed] = {}
    for entry in tomllib.loads(path.read_text()).get("differs", []):
        needed = {"tests", "failure", "reason"}
        if not all(entry.get(key) for key in needed) or entry.keys() - needed - {"pythons"}:
            raise ValueError(f"an entry has tests, failure, reason and maybe pythons: {entry}")
        for test in entry["tests"]:
            if test in cases:
                raise ValueError(f"{test} is listed twice")
            if version in entry.get("pythons", [version]):
                cases[test] = Listed(" ".join(entry["reason"].split()), entry["failure"])
    return cases


def compare(peer: Run, ours: Run, listed: dict[str, Listed]) -> tuple[list[str], int]:
    """A report on how two runs differ, as lines, and the number of errors in it."""
    wanted = [test for test, outcome in peer.outcomes.items() if outcome.kind == "passed"]
    missing = Outcome("lost", "not among the cases on greenloop")
    lines: list[str] = []
    summary: list[str] = []
    errors = 0
    for test in wanted:
        outcome = ours.outcomes.get(test, missing)
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
        f"{passed} passed of {len(wanted)} that the peer itself passes (greenlet {VERSION}, "
        f"CPython {tag()}; {len(peer.outcomes)} cases; the peer took {peer.seconds:.0f} s, "
        f"greenloop {ours.seconds:.0f} s)",
        *summary,
    ]
    return lines, errors


def main() -> int:
    parser = argparse.ArgumentParser(description="Run greenlet's own tests on greenloop.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="run only these")
    options = parser.parse_args()

    peer = install_peer()
    found = sorted(path.stem for path in (peer / "greenlet" / "tests").glob("test_*.py"))
    unknown = set(options.modules) - set(found)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    modules = options.modules or found
    try:
        listed = listed_cases(LISTED, "{}.{}".format(*sys.version_info))
    except ValueError as error:
        sys.exit(f"{LISTED.name}: {error}")
    if options.modules:
        listed = {test: why for test, why in listed.items() if test.split(".")[0] in modules}
    runs = on_peer(peer), on_greenloop()
    for run in runs:
        for module in modules:
            run.add_module(module)
    lines, errors = compare(*runs, listed)
    say("\n".join(lines))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

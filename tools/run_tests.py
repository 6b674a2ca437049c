"""Runs the package's tests with pytest, several parts of them at a time: `make test-python`.

    python tools/run_tests.py [--workers N] [--without PART ...] [--again N]
        [-- PYTEST_ARGUMENT ...]

A part is a directory of tests, and runs in one process of pytest from its first test to its last.
What a part prints is shown when it ends, and what failed once more when all have. With one worker,
or where PYTEST_ARGUMENT names tests, there is one process for all, as pytest has it.

--again is for machines that are shared: the tests that failed in a part, if they are N at most, run
once more, by themselves, when all parts have ended. Those that pass then are shown as unsteady and
do not fail the run. A part that crashed, or of which a file could not be loaded, has failed.

pytest-xdist was tried: its workers are talked to by a thread of their own. Any thread could wake
a greenlet, so in a program with threads a hub cannot tell that nothing will; that it does tell is
among the tests. It also mixes the parts, and tests of child processes met servers' processes.

Exit status: 0 if all parts passed, 5 (as pytest's) if there was no test in any, else 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: The parts that take longest, the longest first: begun last, one would run alone at the end.
LONGEST = ("clients", "greenlet", "monkey", "servers", "api", "net")

# pytest's exit statuses.
PASSED, FAILED, NO_TESTS = 0, 1, 5


@dataclass(frozen=True)
class Part:
    """Tests that run in one process."""

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """How a part ended, how long it took in seconds, and what it printed."""

    part: Part
    status: int
    seconds: float
    output: str
    #: What failed at first and passed when it was run once more.
    unsteady: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status in (PASSED, NO_TESTS)

    def describe(self) -> str:
        """The end in words."""
        if self.status < 0:
            try:
                return f"crashed: {signal.Signals(-self.status).name}"
            except ValueError:
                return f"crashed: signal {-self.status}"
        if self.status == NO_TESTS:
            return "no tests"
        if not self.passed:
            return f"failed, status {self.status}"
        return f"passed, unsteady: {len(self.unsteady)}" if self.unsteady else "passed"

    def failures(self) -> list[str]:
        """What pytest's summary says of tests that failed."""
        begun = ("FAILED ", "ERROR ")
        return [line for line in self.output.splitlines() if line.startswith(begun)]


def parts_of(root: Path) -> list[Part]:
    """All tests below *root*, the longest parts first."""
    tests = root / "tests"
    found = [
        Part(directory.name, (str(directory.relative_to(root)),))
        for directory in sorted(tests.iterdir())
        if directory.is_dir() and any(directory.glob("test_*.py"))
    ]
    found.sort(key=lambda part: LONGEST.index(part.name) if part.name in LONGEST else len(LONGEST))
    files = tuple(str(file.relative_to(root)) for file in sorted(tests.glob("test_*.py")))
    if files:
        found.append(Part("tests", files))
    if any((root / "benches").glob("test_*.py")):
        found.append(Part("benches", ("benches",)))
    return found


def command(part: Part, arguments: Sequence[str]) -> list[str]:
    """What runs a part. Each remembers by itself which tests failed (--last-failed)."""
    own = ["-o", f"cache_dir=.pytest_cache/parts/{part.name}"]
    return [sys.executable, "-m", "pytest", *own, *arguments, *part.paths]


class Runner:
    """Processes of pytest, and an end to those that run if they are not waited for."""

    def __init__(self, root: Path, arguments: Sequence[str]) -> None:
        self.root = root
        self.arguments = arguments
        self.running: set[subprocess.Popen[bytes]] = set()

    def run(self, part: Part, further: Sequence[str] = ()) -> Result:
        """Run a part, with further arguments for pytest."""
        began = time.monotonic()
        # A file, not a pipe: a process that a test left behind could hold a pipe open.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command(part, [*self.arguments, *further]),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # An interrupt at the terminal comes here alone, and is told to each once.
                process_group=0,
            )
            self.running.add(process)
            status = process.wait()
            self.running.discard(process)
            output.seek(0)
            text = output.read().decode(errors="backslashreplace")
        return Result(part, status, time.monotonic() - began, text)

    def run_again(self, result: Result, limit: int) -> Result:
        """Run what failed of a part once more, unless it is more than so much."""
        failures = result.failures()
        # A file that cannot be loaded is no test.
        tests = [line for line in failures if "::" in line]
        if result.status != FAILED or len(failures) > limit or tests != failures:
            return result
        again = self.run(result.part, ["--last-failed", "--last-failed-no-failures=none"])
        print(f"\n==== {result.part.name}, what failed once more\n{again.output}", flush=True)
        seconds = result.seconds + again.seconds
        # Without a test there is nothing that shows that they pass.
        if again.status != PASSED:
            return replace(result, seconds=seconds)
        return replace(again, seconds=seconds, unsteady=tuple(failures))

    def results(self, parts: Sequence[Part], workers: int) -> Iterator[Result]:
        """Each part's result when it is there."""
        pool = ThreadPoolExecutor(workers)
        try:
            for future in as_completed([pool.submit(self.run, part) for part in parts]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(self.running):
                with suppress(ProcessLookupError):
                    # pytest ends what tests have started, servers for example.
                    process.send_signal(signal.SIGINT)
            pool.shutdown()


def run_parts(
    root: Path, parts: Sequence[Part], workers: int, arguments: Sequence[str], again: int = 0
) -> int:
    """Run all parts, and up to *again* failures of each once more, and show the results; returns
    the exit status."""
    results: list[Result] = []
    runner = Runner(root, arguments)
    for result in runner.results(parts, workers):
        results.append(result)
        print(f"\n==== {result.part.name}\n{result.output}", flush=True)
    results = [runner.run_again(result, again) for result in results]
    print("\n==== summary")
    for result in results:
        for line in result.unsteady:
            print(f"UNSTEADY, passed when run once more: {line}")
        for line in result.failures():
            print(line)
    for result in results:
        print(f"{result.part.name:<10} {result.seconds:6.0f} s  {result.describe()}", flush=True)
    if not all(result.passed for result in results):
        return FAILED
    return PASSED if any(result.status == PASSED for result in results) else NO_TESTS


def name_tests(root: Path, arguments: Sequence[str]) -> bool:
    """Whether pytest's *arguments* say which tests to run, by their files."""
    return any(
        not argument.startswith("-") and (root / argument.partition("::")[0]).exists()
        for argument in arguments
    )


def number_of_workers(text: str) -> int:
    """What --workers says: a number, or `auto` for the cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if text == "auto" else int(text)
    if count < 1:
        raise ValueError(text)
    return count


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    arguments = list(arguments)
    at = arguments.index("--") if "--" in arguments else len(arguments)
    for_pytest = arguments[at + 1 :]
    parser = argparse.ArgumentParser(description="Run the tests, several parts at a time.")
    parser.add_argument("--workers", type=number_of_workers, default="auto", metavar="N|auto")
    parser.add_argument("--without", action="append", default=[], metavar="PART")
    parser.add_argument("--again", type=int, default=0, metavar="N")
    options = parser.parse_args(arguments[:at])

    parts = parts_of(root)
    unknown = set(options.without) - {part.name for part in parts}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    chosen = [part for part in parts if part.name not in options.without]
    if name_tests(root, for_pytest):
        return subprocess.call([sys.executable, "-m", "pytest", *for_pytest], cwd=root)
    if options.workers > 1:
        return run_parts(root, chosen, options.workers, for_pytest, options.again)
    ignored = [f"--ignore={path}" for part in parts if part not in chosen for path in part.paths]
    return subprocess.call([sys.executable, "-m", "pytest", *for_pytest, *ignored], cwd=root)


if __name__ == "__main__":
    # As an interrupt: what runs is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))

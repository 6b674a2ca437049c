"""The benchmarks: greenloop and its peers in turn, several rounds, one table.

Run it with the interpreter of an environment that holds greenloop and requirements.txt:

    python benches/run.py [--suite SUITE] [--rounds N] [--only NAME] [--json FILE]
                                [--svg FILE] [--quick]

Exit status: 0 when greenloop ran everywhere (targets reached or not), 1 when it failed or is not
installed, 2 for a wrong command line, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benches import chart, report, runner
from benches.suites import SUITES
from benches.targets import Workload


def main() -> int:
    options = parse_arguments()
    if options.list:
        print("\n".join(workload.name for workload in SUITES[options.suite]))
        return 0
    rounds = options.rounds or (1 if options.quick else 5)
    selected = [w for w in SUITES[options.suite] if not options.only or w.name in options.only]

    warn_if_busy()
    sections: list[report.Section] = []
    progress = Progress(sum(len(workload.impls) for workload in selected) * rounds)
    try:
        for workload in selected:
            progress.workload = workload
            results = runner.measure(
                workload,
                rounds=rounds,
                quick=options.quick,
                timeout=options.timeout,
                progress=progress,
            )
            sections += report.summarize(workload, results)
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted", file=sys.stderr)
        return 130
    progress.clear()

    settings = {
        "suite": options.suite,
        "rounds": rounds,
        "quick": options.quick,
        "timeout": options.timeout,
    }
    machine = report.machine()
    summary = f"CPython {machine['python']}, {machine['processor']}, rounds: {rounds}"
    if options.quick:
        summary += ", quick (imprecise)"
    print(summary + "\n")
    print(report.table(sections))
    if options.json is not None:
        text = json.dumps(report.document(sections, settings), indent=2)
        options.json.write_text(text + "\n")
    if options.svg is not None:
        options.svg.write_text(chart.svg(sections, "greenloop against its peers", summary))
    return 1 if report.ours_failed(sections) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure greenloop against its peers.")
    parser.add_argument(
        "--suite",
        choices=SUITES,
        default="greenlets",
        help="greenlets, and what runs on them (the default); or http: HTTP servers",
    )
    parser.add_argument(
        "--rounds", type=positive, metavar="N", help="rounds, default 5, with --quick 1"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only this workload; may be repeated (see --list)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a chart of ratios here")
    parser.add_argument("--quick", action="store_true", help="short measurements, for a first look")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="for one process (120)"
    )
    parser.add_argument("--list", action="store_true", help="list the workloads and exit")
    options = parser.parse_args()
    names = [workload.name for workload in SUITES[options.suite]]
    for name in options.only or ():
        if name not in names:
            parser.error(f"no workload is called {name}; there are: {', '.join(names)}")
    return options


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"load average is {load:.1f}: something else runs here, the figures will be rough",
            file=sys.stderr,
        )


class Progress:
    """Says on standard error what runs: a line kept current on a terminal, else a line each."""

    workload: Workload

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = 0
        self._announced: Workload | None = None
        self._terminal = sys.stderr.isatty()

    def __call__(self, number: int, impl: str) -> None:
        self._started += 1
        name = self.workload.name
        if self._terminal:
            line = f"[{self._started}/{self._total}] {name}, round {number}, {impl}"
            sys.stderr.write(f"\r\x1b[K{line}")
        elif self._announced is not self.workload:
            self._announced = self.workload
            sys.stderr.write(f"[{self._started}/{self._total}] {name}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

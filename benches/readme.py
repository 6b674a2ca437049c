"""Puts the result of a benchmark run into the table of README.md that is of its suite.

    python benches/readme.py build/bench-VERSION.json
    python benches/readme.py build/bench-http-VERSION.json
    python benches/readme.py build/bench-asyncio-VERSION.json

One line for each figure; greenloop's own is a time or a size, the peers' are how many times that
they take. Figures that a peer has not are left open; peers that few figures have are named in the
last column. Run on a build/bench file that has all workloads (`make bench`, `bench-http` and
`bench-asyncio` write them), measured on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benches.report import quantity, times
from benches.targets import OURS

README = Path(__file__).resolve().parent.parent / "README.md"
#: The peers that have columns, by suite.
PEERS = {
    "greenlets": ("greenlet", "gevent", "asyncio", "uvloop", "rloop"),
    "http": ("greenloop_serve", "bjoern", "granian", "gunicorn", "gevent"),
    "asyncio": ("asyncio", "uvloop", "rloop"),
}
MARKED = r"(<!-- numbers of {suite}: [^\n]*-->\n).*?(<!-- end of numbers -->)"


def cell(row: dict[str, Any] | None) -> str:
    """What the table says of one peer."""
    return "" if row is None or row["ratio"] is None else times(row["ratio"]["median"])


def others(rows: dict[str, dict[str, Any]], columns: tuple[str, ...]) -> str:
    """What the table says of the peers that have no column."""
    told = [(impl, cell(row)) for impl, row in rows.items() if impl not in (OURS, *columns)]
    return ", ".join(f"{impl} {ratio}" for impl, ratio in told if ratio)


def table(result: dict[str, Any]) -> str:
    """The whole text between the marks."""
    columns = PEERS[result["settings"]["suite"]]
    lines = [
        f"| per | {OURS} | {' | '.join(columns)} | others |",
        f"|---|{'---:|' * (1 + len(columns))}---|",
    ]
    versions: dict[str, str] = {}
    for section in result["sections"]:
        rows = {row["impl"]: row for row in section["rows"]}
        metric = section["metric"]
        ours = rows[OURS]
        if ours["value"] is None:
            sys.exit(f"{section['workload']}: there is no figure for {OURS}")
        figure = quantity(ours["value"]["median"], metric["unit"])
        peers = " | ".join(cell(rows.get(peer)) for peer in columns)
        name = f"{section['workload']}: {metric['per']}"
        lines.append(f"| {name} | {figure} | {peers} | {others(rows, columns)} |")
        versions.update({impl: row["version"] for impl, row in rows.items() if row["version"]})
    machine = result["machine"]
    told = ", ".join(f"{name} {versions[name]}" for name in columns if name in versions)
    return (
        "\n".join(lines) + f"\n\nCPython {machine['python']}, {machine['processor']}, "
        f"{result['settings']['rounds']} rounds; {told}.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Put benchmark results into README.md.")
    parser.add_argument("result", type=Path, help="what benches/run.py --json wrote")
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    if result["settings"]["quick"] or result["ours_failed"]:
        sys.exit(f"{options.result}: a quick or a failed run is not for the README")
    text = options.readme.read_text()
    suite = result["settings"]["suite"]
    marked = re.compile(MARKED.format(suite=suite), re.DOTALL)
    filled, count = marked.subn(lambda marks: marks[1] + table(result) + marks[2], text)
    if count != 1:
        sys.exit(f"{options.readme}: found {count} tables of numbers of {suite}, expected one")
    options.readme.write_text(filled)
    return 0


if __name__ == "__main__":
    sys.exit(main())

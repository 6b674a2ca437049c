"""The demo: 1,000 URLs fetched with `requests`, one by one, by greenlets and by threads.

Starts an HTTP and an HTTPS server on loopback that answer every request after 50 ms, has each
way of fetching run in a process of its own, and prints what each took in one table. Exits with
status 1 if any answer was missing or wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Seconds. Hang guard for one way of fetching; the slowest takes a small part of it.
TIMEOUT = 600
SHOWN_ERRORS = 5

# What runs each way: the interpreter's arguments and what the table calls it.
WAYS = {
    "sequential": (["sequential.py"], "one by one"),
    "greenloop": (["-m", "greenloop", "greenlets.py"], "greenloop greenlets"),
    "gevent": (["greenlets.py"], "gevent greenlets"),
    "threads": (["threads.py"], "native threads"),
}


def environment() -> dict[str, str]:
    """The environment of every process of the demo: no proxy stands before loopback."""
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    # Set by a greenloop program for its children. Each way here says for itself what it runs on.
    for name in ("GREENLOOP_DROPIN", "GREENLOOP_PATCH"):
        kept.pop(name, None)
    return kept


@contextmanager
def servers(delay: float) -> Iterator[dict[str, Any]]:
    """Run the servers; give the ports and the certificate authority as fields of a Job."""
    with (
        tempfile.TemporaryDirectory(prefix="greenloop-demo-") as directory,
        subprocess.Popen(
            [sys.executable, "server.py", str(delay), directory],
            cwd=HERE,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"demo: the server ended with status {process.wait()}")
            facts = json.loads(line)
            yield {
                "http_port": facts["ports"]["http"],
                "https_port": facts["ports"]["https"],
                "authority": facts["authority"],
            }
        finally:
            process.stdin.close()  # tells it to end


def fetch(way: str, job: dict[str, Any]) -> dict[str, Any]:
    """Have *way* do *job* in a process of its own and return its measurement."""
    command, label = WAYS[way]
    done = subprocess.run(
        [sys.executable, *command, json.dumps({"label": label, **job})],
        cwd=HERE,
        env=environment(),
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"demo: {label} ended with status {done.returncode}")
    measurement: dict[str, Any] = json.loads(done.stdout)
    return measurement


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out *rows*, the first being the headings: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def row(label: str, measurement: dict[str, Any], factor: float = 1.0) -> list[str]:
    """One line of the table; *factor* scales the times of a sample to the whole."""
    return [
        label,
        f"{measurement['wall'] * factor:.2f}",
        f"{measurement['cpu'] * factor:.2f}",
        f"{measurement['peak'] / 1024:.0f}",
        str(len(measurement["errors"])),
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fetch many URLs in several ways and compare.")
    parser.add_argument("--count", type=int, default=1000, help="URLs to fetch (1000)")
    parser.add_argument("--pool", type=int, default=200, help="greenlets or threads (200)")
    parser.add_argument("--delay", type=float, default=0.05, help="of an answer, seconds (0.05)")
    parser.add_argument(
        "--sample", type=int, default=20, help="URLs fetched one by one for the estimate (20)"
    )
    parser.add_argument(
        "--impl",
        action="append",
        choices=["greenloop", "gevent"],
        help="whose greenlets to measure; repeat it to compare (greenloop)",
    )
    options = parser.parse_args()
    for name in ("count", "pool", "sample"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    options.impl = list(dict.fromkeys(options.impl or ["greenloop"]))
    for package in ("requests", "trustme", *options.impl):
        if find_spec(package) is None:
            parser.error(f"the package {package} is not installed: see demo/requirements.txt")
    return options


def main() -> int:
    options = arguments()
    sample = min(options.sample, options.count)
    errors: list[str] = []
    rows = [["", "wall time (s)", "CPU time (s)", "peak memory (MiB)", "wrong"]]
    with servers(options.delay) as job:
        job["pool"] = options.pool
        measurement = fetch("sequential", {**job, "count": sample})
        errors += measurement["errors"]
        label = f"one by one (estimate from {sample})"
        rows.append(row(label, measurement, options.count / sample))
        for way in (*options.impl, "threads"):
            measurement = fetch(way, {**job, "count": options.count})
            errors += measurement["errors"]
            rows.append(row(f"{WAYS[way][1]} (pool of {options.pool})", measurement))
    print(
        f"\n{options.count} URLs, half HTTP and half HTTPS, each answered after "
        f"{options.delay * 1000:g} ms\n\n{table(rows)}"
    )
    for error in errors[:SHOWN_ERRORS]:
        print(f"demo: {error}", file=sys.stderr)
    if len(errors) > SHOWN_ERRORS:
        print(f"demo: and {len(errors) - SHOWN_ERRORS} more", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

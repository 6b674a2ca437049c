"""Importing the package and patching everything, in a process that has done nothing else.

Each figure is the median of some processes: seconds of the two statements, and of CPU time.
"""

from __future__ import annotations

import os
import statistics
import sys

from benches.harness import Bench, Metrics, check, main

# What hands the drop-in on to children must not be measured here; compiled files must be there, as
# they are in an installation.
NOT_FOR_CHILDREN = ("GREENLOOP", "PYTHONDONTWRITEBYTECODE")

PROGRAM = """
import time
start, cpu = time.perf_counter(), time.process_time()
import {name}.monkey
{name}.monkey.patch_all()
print(time.perf_counter() - start, time.process_time() - cpu)
"""


def run(name: str) -> tuple[float, float]:
    """Run the program; return its two figures."""
    output, child_output = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", PROGRAM.format(name=name)],
        {key: value for key, value in os.environ.items() if not key.startswith(NOT_FOR_CHILDREN)},
        file_actions=[(os.POSIX_SPAWN_DUP2, child_output, 1)],
    )
    os.close(child_output)
    with open(output) as lines:
        figures = lines.read().split()
    _, status = os.waitpid(pid, 0)
    check(status == 0, f"the program ended with status {status}")
    wall, cpu = map(float, figures)
    return wall, cpu


def greenlets(bench: Bench) -> Metrics:
    run(bench.impl)  # Has the files read and compiled.
    figures = [run(bench.impl) for _ in range(3 if bench.quick else 9)]
    wall, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
    return {"time": wall, "cpu": cpu}


if __name__ == "__main__":
    main(greenlets=greenlets)

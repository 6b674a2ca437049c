"""What a workload program needs: choosing the implementation, timing, reporting.

A workload module defines a function per programming model and calls `main`:

* ``greenlets(bench)`` runs on greenloop, gevent and greenlet. It imports `gevent` or `greenlet`
  in its body, after the implementation was chosen, so all of them run the very same code.
* ``tasks(bench)`` is the same work as coroutines, for asyncio, uvloop and rloop.
* ``generator(bench)``, rarely, is the bare interpreter's floor.

Each returns its metrics by name, in seconds or bytes: lower is better. The program writes them as
one line of JSON, the last of its standard output. The garbage collector keeps its default settings
everywhere.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

Metrics = dict[str, float]

GREENLETS = ("greenloop", "gevent", "greenlet")
TASKS = ("asyncio", "uvloop", "rloop")
GENERATOR = "generator"


@dataclass(frozen=True)
class Bench:
    """How a workload is to be measured.

    `size` is the number of greenlets, tasks, requests or connections, for workloads that have one.
    `companion_cpu` is the CPU for the other end of a connection, None where there is but one.
    """

    impl: str
    size: int
    quick: bool
    companion_cpu: int | None = None

    def seconds_per_op(self, batch: Callable[[int], object]) -> float:
        """Time `batch(ops)`, which does `ops` operations; return the seconds one takes."""
        plan = self._plan()
        ops = next(plan)
        while True:
            gc.collect()
            start = time.perf_counter()
            batch(ops)
            elapsed = time.perf_counter() - start
            try:
                ops = plan.send(elapsed)
            except StopIteration as stop:
                return float(stop.value)

    async def seconds_per_op_async(self, batch: Callable[[int], Awaitable[object]]) -> float:
        """The same for a `batch` that is a coroutine function."""
        plan = self._plan()
        ops = next(plan)
        while True:
            gc.collect()
            start = time.perf_counter()
            await batch(ops)
            elapsed = time.perf_counter() - start
            try:
                ops = plan.send(elapsed)
            except StopIteration as stop:
                return float(stop.value)

    def _plan(self) -> Generator[int, float, float]:
        """Yield the operations of each next batch, be sent its seconds, return seconds per op.

        The batches that find the number of operations are the warm-up. Every implementation is
        given the same time rather than the same count: they differ by up to a factor of 30. An
        operation that is long by itself is repeated less often, but measured at least once.
        """
        batch_seconds, batches, total_seconds = (0.05, 3, 0.3) if self.quick else (0.15, 5, 1.5)
        ops = 1
        while (elapsed := (yield ops)) < batch_seconds / 5:
            ops *= 4
        one = elapsed / ops
        ops = max(1, round(batch_seconds / one))
        samples: list[float] = []
        for _ in range(min(batches, max(1, int(total_seconds / (ops * one))))):
            elapsed = yield ops
            samples.append(elapsed / ops)
        return statistics.median(samples)


def main(
    *,
    greenlets: Callable[[Bench], Metrics],
    tasks: Callable[[Bench], Awaitable[Metrics]] | None = None,
    generator: Callable[[Bench], Metrics] | None = None,
    size: int = 0,
) -> None:
    """Parse the command line, run the workload on the implementation it names, report."""
    impls: list[str] = list(GREENLETS)
    if tasks is not None:
        impls += TASKS
    if generator is not None:
        impls.append(GENERATOR)
    parser = argparse.ArgumentParser()
    parser.add_argument("--impl", required=True, choices=impls)
    parser.add_argument("--size", type=int, default=size)
    parser.add_argument("--quick", action="store_true", help="shorter, less precise")
    options = parser.parse_args()
    bench = Bench(options.impl, options.size, options.quick, pin_cpus())

    try:
        module = select(bench.impl)
    except ModuleNotFoundError as error:
        # A module missing further down is a broken installation, and fails with its traceback.
        if error.name not in (bench.impl, "gevent", "greenlet"):
            raise
        report({"missing": str(error)})
        return

    if bench.impl in GREENLETS:
        metrics = greenlets(bench)
    elif bench.impl == GENERATOR:
        assert generator is not None
        metrics = generator(bench)
    else:
        assert tasks is not None
        metrics = run_tasks(module, tasks, bench)
    report({"version": str(getattr(module, "__version__", "unknown")), "metrics": metrics})


def select(impl: str) -> Any:
    """Make `import gevent` and `import greenlet` mean `impl`; return the implementation's module.

    Raises RuntimeError if something else would be measured than the name says.
    """
    if impl == GENERATOR or impl == "asyncio":
        return _Interpreter
    if impl != "greenloop":
        module = importlib.import_module(impl)
        if "greenloop" in sys.modules:
            raise RuntimeError(f"greenloop is loaded: this would not measure {impl}")
        return module
    greenloop: Any = importlib.import_module("greenloop")
    greenloop.install_as_gevent()
    for name in ("gevent", "greenlet"):
        if importlib.import_module(name).__name__.partition(".")[0] != "greenloop":
            raise RuntimeError(f"{name} is not greenloop's: this would not measure greenloop")
    return greenloop


class _Interpreter:
    __version__ = ".".join(map(str, sys.version_info[:3]))


def run_tasks(module: Any, tasks: Callable[[Bench], Awaitable[Metrics]], bench: Bench) -> Metrics:
    """Run the coroutine function `tasks` on the event loop that `module` provides."""
    # Not at the top: it loads ssl and threading, which a program that is to be patched does not.
    import asyncio

    async def body() -> Metrics:
        return await tasks(bench)

    factory = asyncio.new_event_loop if bench.impl == "asyncio" else module.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        if bench.impl != "asyncio" and type(loop).__module__.split(".")[0] == "asyncio":
            raise RuntimeError(f"asyncio's own loop runs: this would not measure {bench.impl}")
        return runner.run(body())


def report(result: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def pin_cpus() -> int | None:
    """Keep this process on the last CPU it may use; return the first, for a companion program.

    So a worker does not wander between CPUs, and the other end of its connections does not
    compete with it. Where there is a single CPU nothing is pinned, and None returned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return None
    os.sched_setaffinity(0, {cpus[-1]})
    return cpus[0]


def cpu_seconds() -> float:
    """User plus system time of this process so far, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def raise_descriptor_limit(descriptors: int) -> None:
    """Let this process open `descriptors` files. Raises ValueError if the hard limit forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))


def check(condition: bool, message: str) -> None:
    """Raise RuntimeError unless `condition`: a wrong result makes a fast time worthless."""
    if not condition:
        raise RuntimeError(message)

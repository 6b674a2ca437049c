"""What a workload program needs: choosing the implementation, timing, reporting.

A workload module defines a function per programming model and calls `main`:

* ``greenlets(bench)`` runs on greenloop, gevent and greenlet. It imports `gevent` or `greenlet`
  in its body, after the implementation was chosen, so all of them run the very same code.
* ``tasks(bench)`` is the same work as coroutines, for asyncio, uvloop and rloop.
* ``protocols(bench)`` is the same with asyncio's transports and protocols, for the same loops.
* ``loops(bench)``, instead of these, is a coroutine function that asyncio's loops run, greenloop's
  among them (`greenloop.asyncio`): all of them the very same code.
* ``bridge(bench)`` is one that asyncio-gevent's loop runs, where coroutines meet greenlets.
* ``servers(bench)`` measures a server that is a process of its own, from outside.
* ``generator(bench)``, ``blocking(bench)``, ``native(bench)``, rarely, are floors: the bare
  interpreter, the standard library's blocking call, a program without Python.

Each returns its metrics by name, in seconds or bytes: lower is better. The program writes them as
one line of JSON, the last of its standard output. The garbage collector keeps its default settings
everywhere.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.metadata
import json
import mmap
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
PROTOCOLS = tuple(f"{name}_protocol" for name in TASKS)
#: HTTP servers, and the packages that have them.
SERVERS = {
    "greenloop": "greenloop",
    "greenloop_serve": "greenloop",
    "bjoern": "bjoern",
    "granian": "granian",
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "gevent": "gevent",
}
BRIDGE = "asyncio_gevent"
GENERATOR = "generator"
BLOCKING = "blocking"
NATIVE = "native"


@dataclass(frozen=True)
class Bench:
    """How a workload is to be measured.

    `size` is the number of greenlets, tasks, requests or connections, for workloads that have one.
    `companion_cpu` is the CPU for the other end of a connection, None where there is but one.
    `parameter` is a second number: the bytes of a message, how many requests are made at a time.
    """

    impl: str
    size: int
    quick: bool
    companion_cpu: int | None = None
    parameter: int = 0

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


def main_of_servers(
    servers: Callable[[Bench], Metrics], *, size: int = 0, parameter: int = 0
) -> None:
    """As `main`, for a program that measures servers. It imports none of the packages itself."""
    bench = parse_arguments([*SERVERS], size, parameter)
    package = SERVERS[bench.impl]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        report({"missing": f"No package named {package!r}"})
        return
    report({"version": version, "metrics": servers(bench)})


def parse_arguments(impls: list[str], size: int, parameter: int) -> Bench:
    """What the command line asks for. The process is pinned to its CPU from now on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--impl", required=True, choices=impls)
    parser.add_argument("--size", type=int, default=size)
    parser.add_argument("--parameter", type=int, default=parameter)
    parser.add_argument("--quick", action="store_true", help="shorter, less precise")
    options = parser.parse_args()
    return Bench(options.impl, options.size, options.quick, pin_cpus(), options.parameter)


def main(
    *,
    greenlets: Callable[[Bench], Metrics] | None = None,
    tasks: Callable[[Bench], Awaitable[Metrics]] | None = None,
    protocols: Callable[[Bench], Awaitable[Metrics]] | None = None,
    loops: Callable[[Bench], Awaitable[Metrics]] | None = None,
    bridge: Callable[[Bench], Awaitable[Metrics]] | None = None,
    generator: Callable[[Bench], Metrics] | None = None,
    blocking: Callable[[Bench], Metrics] | None = None,
    native: Callable[[Bench], Metrics] | None = None,
    size: int = 0,
    parameter: int = 0,
) -> None:
    """Parse the command line, run the workload on the implementation it names, report."""
    floors = {
        name: floor
        for name, floor in ((GENERATOR, generator), (BLOCKING, blocking), (NATIVE, native))
        if floor is not None
    }
    coroutines: dict[str, Callable[[Bench], Awaitable[Metrics]]] = {}
    if tasks is not None:
        coroutines |= dict.fromkeys(TASKS, tasks)
    if protocols is not None:
        coroutines |= dict.fromkeys(PROTOCOLS, protocols)
    if loops is not None:
        coroutines |= dict.fromkeys(("greenloop", *TASKS), loops)
    if bridge is not None:
        coroutines[BRIDGE] = bridge
    switching = GREENLETS if greenlets is not None else ()
    bench = parse_arguments([*switching, *coroutines, *floors], size, parameter)
    try:
        module = select(bench.impl)
    except ModuleNotFoundError as error:
        # A module missing further down is a broken installation, and fails with its traceback.
        if error.name not in (bench.impl.removesuffix("_protocol"), "gevent", "greenlet"):
            raise
        report({"missing": str(error)})
        return

    if greenlets is not None and bench.impl in GREENLETS:
        metrics = greenlets(bench)
    elif bench.impl in floors:
        metrics = floors[bench.impl](bench)
    else:
        metrics = run_tasks(module, coroutines[bench.impl], bench)
    report({"version": str(getattr(module, "__version__", "unknown")), "metrics": metrics})


def select(impl: str) -> Any:
    """Make `import gevent` and `import greenlet` mean `impl`; return the implementation's module.

    Raises RuntimeError if something else would be measured than the name says.
    """
    impl = impl.removesuffix("_protocol")
    if impl in (GENERATOR, BLOCKING, NATIVE, "asyncio"):
        return _Interpreter
    if impl == BRIDGE:
        # Without that it calls from one thread into another.
        importlib.import_module("gevent.monkey").patch_all()
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

    plain = bench.impl.removesuffix("_protocol") == "asyncio"
    if plain:
        factory = asyncio.new_event_loop
    elif bench.impl == "greenloop":
        factory = importlib.import_module("greenloop.asyncio").new_event_loop
    else:
        factory = module.EventLoop if bench.impl == BRIDGE else module.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        if not plain and type(loop).__module__.split(".")[0] == "asyncio":
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


def resident() -> int:
    """The resident memory of this process in bytes, after a collection."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    return pages * mmap.PAGESIZE


def raise_descriptor_limit(descriptors: int) -> None:
    """Let this process open `descriptors` files. Raises ValueError if the hard limit forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))


def check(condition: bool, message: str) -> None:
    """Raise RuntimeError unless `condition`: a wrong result makes a fast time worthless."""
    if not condition:
        raise RuntimeError(message)

"""Measuring an HTTP server from outside: what it has used, and load from wrk."""

from __future__ import annotations

import mmap
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, check

ROOT = Path(__file__).resolve().parent.parent
#: Where tools/http_bench.py puts wrk if the machine has none.
UNPACKED = ROOT / "build" / "http-bench" / "usr" / "bin" / "wrk"
#: Seconds that wrk waits for an answer before it counts it as lost; its default is 2.
ANSWER = 20
#: Seconds of CPU time in 0.3 s that an idle server may use.
IDLE_CPU = 0.03
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Server:
    """A server that runs, with all the processes it has started."""

    port: int
    pid: int

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of CPU time used so far."""
        # The number that Linux gives to the CPU clock of another process.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def resident(self) -> int:
        """Bytes of memory."""
        statms = [Path(f"/proc/{pid}/statm").read_text() for pid in self.pids()]
        return sum(int(statm.split()[1]) for statm in statms) * mmap.PAGESIZE


@contextmanager
def serving(bench: Bench, application: str) -> Iterator[Server]:
    """Have the server that is measured serve an application, on this process' CPU."""
    with Companion("wsgi_server", bench.impl, application, cpu=None) as companion:
        told = companion.read()
        yield Server(told["port"], told["pid"])


def find_wrk() -> str | None:
    return shutil.which("wrk") or (str(UNPACKED) if UNPACKED.exists() else None)


def load(bench: Bench, url: str, connections: int, *options: str, seconds: int) -> str:
    """Requests from so many connections, each sending one when it has the answer to the last, from
    wrk on the other CPU. Returns what wrk writes."""
    wrk = find_wrk()
    if wrk is None:
        raise RuntimeError("wrk is not installed: `make bench-http` has it unpacked")
    command = [wrk, "--threads", "1", "--connections", str(connections), "--latency"]
    command += ["--duration", f"{seconds}s", "--timeout", f"{ANSWER}s", *options, url]
    if bench.companion_cpu is not None:
        command = ["taskset", "--cpu-list", str(bench.companion_cpu), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def result(text: str) -> Metrics:
    """What wrk has written: the seconds for a request (`time`), and the latency that 99 of 100 stay
    below (`p99`). Raises RuntimeError if any was not answered well."""
    count = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    trouble = re.search(r"Non-2xx.*|Socket errors.*", text)
    check(trouble is None, f"wrk says: {trouble and trouble[0].strip()}")
    if count is None or p99 is None or int(count[1]) == 0:
        raise RuntimeError(f"wrk says: {text.strip()}")
    seconds = float(count[2]) * UNITS[count[3]]
    return {"time": seconds / int(count[1]), "p99": float(p99[1]) * UNITS[p99[2]]}


def measure(
    bench: Bench,
    server: Server,
    *options: str,
    path: str = "/",
    connections: int | None = None,
    seconds: int = 4,
) -> Metrics:
    """Load after a warm-up: as `result`, and the server's CPU time for a request (`cpu`)."""
    url, count = server.url(path), bench.size if connections is None else connections
    load(bench, url, count, *options, seconds=1)
    cpu, begin = server.cpu(), time.perf_counter()
    seen = result(load(bench, url, count, *options, seconds=1 if bench.quick else seconds))
    share = (server.cpu() - cpu) / (time.perf_counter() - begin)
    return {**seen, "cpu": share * seen["time"]}


def main_application(application: str, *options: str) -> None:
    """A workload program that measures one application."""
    from benches.harness import main_of_servers

    def servers(bench: Bench) -> Metrics:
        with serving(bench, application) as server:
            return measure(bench, server, *options)

    main_of_servers(servers, size=64)


def clients(bench: Bench, server: Server, kind: str, seconds: float, count: int = 1) -> Companion:
    """Clients of http_clients.py on the other CPU."""
    arguments = ["--port", server.port, "--connections", count, "--seconds", seconds]
    return Companion("http_clients", kind, *arguments, cpu=bench.companion_cpu)


def settled(server: Server) -> int:
    """The memory of a server that has done what it had to do: its use of the CPU stands still."""
    used = -1.0
    while (now := server.cpu()) - used > IDLE_CPU:
        used = now
        time.sleep(0.3)
    return server.resident()

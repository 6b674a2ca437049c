"""What the three ways of fetching share: the URLs, one fetch and its check, and the measuring.

Everything here is plain blocking code, the same for all three.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from progress import Progress

HOST = "127.0.0.1"
# Seconds. Far above what any request needs: it turns a lost answer into an error.
TIMEOUT = 60.0


def page(path: str) -> bytes:
    """The body the servers give for *path*: 1 KiB of text that no other path has."""
    return (hashlib.sha256(path.encode()).hexdigest() * 16).encode("ascii")


@dataclass(frozen=True)
class Job:
    """What to fetch."""

    label: str
    count: int
    pool: int
    http_port: int
    https_port: int
    authority: str

    @classmethod
    def from_command_line(cls) -> Job:
        """The job that run.py passed as JSON."""
        return cls(**json.loads(sys.argv[1]))

    def urls(self) -> list[str]:
        """The URLs, by turns HTTP and HTTPS."""
        bases = (f"http://{HOST}:{self.http_port}", f"https://{HOST}:{self.https_port}")
        return [f"{bases[number % 2]}/page/{number}" for number in range(self.count)]

    def fetch(self, url: str) -> str | None:
        """Get *url* and compare the answer; return what is wrong with it, None if nothing is."""
        import requests

        try:
            response = requests.get(url, verify=self.authority, timeout=TIMEOUT)
        except requests.RequestException as error:
            return f"{url}: {error!r}"
        if response.status_code != 200:
            return f"{url}: status {response.status_code}"
        if response.content != page(response.request.path_url):
            return f"{url}: wrong content"
        return None


@dataclass(frozen=True)
class Measurement:
    """What fetching cost: seconds, seconds, KiB; and what went wrong."""

    wall: float
    cpu: float
    peak: int
    errors: list[str]


def measure(job: Job, fetch_all: Callable[[list[str]], Iterable[str | None]]) -> None:
    """Run *fetch_all*, counting its results as they come, and print the Measurement as JSON.

    Time counts from the first request to the last answer, without the start of the interpreter.
    """
    import requests  # noqa: F401 - its import is not to be measured

    progress = Progress(job.label, job.count)
    errors = []
    answers = 0
    wall, cpu = time.perf_counter(), _cpu_time()
    for error in fetch_all(job.urls()):
        answers += 1
        if error is not None:
            errors.append(error)
        progress.show(answers)
    wall, cpu = time.perf_counter() - wall, _cpu_time() - cpu
    progress.end()
    if answers != job.count:
        errors.append(f"{answers} answers to {job.count} requests")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(asdict(Measurement(wall, cpu, peak, errors))))


def _cpu_time() -> float:
    """Seconds of processor time this process has used, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

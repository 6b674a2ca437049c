"""What is counted, in memory that all processes of a server share, and told to Prometheus."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Metrics", "WorkerMetrics", "admin_application"]

#: The limits of the classes of durations, in seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# What a worker has, numbers of 8 bytes each.
_IN_PROGRESS = 0
_CONNECTIONS = 1
_BYTES = 2
_SECONDS = 3
_CLASSES = 4  # 1xx to 5xx
_DURATIONS = 9
_WIDTH = _DURATIONS + len(_BUCKETS) + 1

#: How many workers have numbers of their own; others share.
_MAX_WORKERS = 512


class Metrics:
    """The numbers of all workers. Made by the supervisor, inherited by the workers.

    What is counted belongs to the place of a worker, and goes on with the next that takes it.
    Doubles are exact up to 2**53.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (_MAX_WORKERS * _WIDTH + 2) * 8)
        self._numbers = memoryview(self._memory).cast("d")

    def worker(self, place: int) -> WorkerMetrics:
        """The numbers of the worker at a place, for that worker."""
        start = place % _MAX_WORKERS * _WIDTH
        return WorkerMetrics(self._numbers[start : start + _WIDTH])

    def worker_is_gone(self, place: int) -> None:
        """A worker is no more: neither are its connections."""
        self.worker(place).clear()

    def set_workers(self, ready: int) -> None:
        """So many workers serve."""
        self._numbers[-2] = ready

    def count_death(self) -> None:
        """A worker has died that should not have."""
        self._numbers[-1] += 1

    @property
    def ready_workers(self) -> int:
        """How many workers serve."""
        return int(self._numbers[-2])

    def text(self) -> str:
        """The numbers of all, as Prometheus reads them (text format 0.0.4)."""
        total = [
            sum(self._numbers[index : _MAX_WORKERS * _WIDTH : _WIDTH]) for index in range(_WIDTH)
        ]
        lines: list[str] = []

        def add(name: str, kind: str, help: str, values: Iterable[tuple[str, float]]) -> None:
            lines.append(f"# HELP greenloop_{name} {help}")
            lines.append(f"# TYPE greenloop_{name} {kind}")
            lines.extend(f"greenloop_{name}{label} {value:.15g}" for label, value in values)

        add("workers", "gauge", "Workers that serve.", [("", self._numbers[-2])])
        add("worker_deaths_total", "counter", "Workers that died.", [("", self._numbers[-1])])
        add("connections", "gauge", "Open connections.", [("", total[_CONNECTIONS])])
        add(
            "requests_in_progress",
            "gauge",
            "Requests that the application is at.",
            [("", total[_IN_PROGRESS])],
        )
        add(
            "requests_total",
            "counter",
            "Requests by the class of their status.",
            [(f'{{status="{i + 1}xx"}}', total[_CLASSES + i]) for i in range(5)],
        )
        add(
            "response_bytes_total",
            "counter",
            "Bytes of the bodies of responses.",
            [("", total[_BYTES])],
        )
        count = 0.0
        buckets = []
        for index, limit in enumerate((*_BUCKETS, "+Inf")):
            count += total[_DURATIONS + index]
            buckets.append((f'_bucket{{le="{limit}"}}', count))
        add(
            "request_duration_seconds",
            "histogram",
            "How long requests took.",
            [*buckets, ("_sum", total[_SECONDS]), ("_count", count)],
        )
        return "\n".join(lines) + "\n"


class WorkerMetrics:
    """The numbers of one worker."""

    def __init__(self, numbers: memoryview[Any]) -> None:
        self._numbers = numbers

    def clear(self) -> None:
        """Forget what is only true of a worker that runs."""
        self._numbers[_IN_PROGRESS] = self._numbers[_CONNECTIONS] = 0

    def set_connections(self, count: int) -> None:
        """So many are open."""
        self._numbers[_CONNECTIONS] = count

    def set_in_progress(self, count: int) -> None:
        """The application is at so many requests."""
        self._numbers[_IN_PROGRESS] = count

    def count(self, status: int, length: int, seconds: float) -> None:
        """Count a request."""
        numbers = self._numbers
        numbers[_BYTES] += length
        numbers[_SECONDS] += seconds
        numbers[_CLASSES + min(max(status // 100, 1), 5) - 1] += 1
        numbers[_DURATIONS + bisect_left(_BUCKETS, seconds)] += 1


def admin_application(metrics: Metrics) -> Callable[..., list[bytes]]:
    """The WSGI application of the admin address."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kind = "text/plain; charset=utf-8"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", "only GET and HEAD\n"
        elif environ["PATH_INFO"] == "/metrics":
            status, text = "200 OK", metrics.text()
            kind = "text/plain; version=0.0.4; charset=utf-8"
        elif environ["PATH_INFO"] == "/health":
            ready = metrics.ready_workers
            status = "200 OK" if ready else "503 Service Unavailable"
            text = f"{ready} workers\n"
        else:
            status, text = "404 Not Found", "there are /metrics and /health\n"
        body = text.encode()
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(status, headers)
        return [body]

    return application

"""The workloads in suites, each of which is a run of its own."""

from __future__ import annotations

from benches.targets import HTTP_WORKLOADS, WORKLOADS
from benches.targets_asyncio import ASYNCIO_WORKLOADS

SUITES = {"greenlets": WORKLOADS, "http": HTTP_WORKLOADS, "asyncio": ASYNCIO_WORKLOADS}

"""What the measurements say: ratios, targets reached or missed; as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benches.runner import Measured
from benches.targets import OURS, Metric, Workload

JSON_FORMAT = 1


@dataclass(frozen=True)
class Spread:
    """Median and extremes over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        samples = list(values)
        if not samples:
            return None
        return cls(statistics.median(samples), min(samples), max(samples))


@dataclass(frozen=True)
class Row:
    """One implementation's figure for one metric.

    `value` is in the metric's unit. `ratio` is this implementation's value over greenloop's: how
    many times better greenloop is. `target` is the ratio to reach, or for greenloop itself the
    value to stay below; `strict` if exactly the target is not enough. `reached` is None where
    there is no target or nothing to compare. `samples` are the rounds' figures, in order.
    """

    impl: str
    version: str
    value: Spread | None
    ratio: Spread | None
    target: float | None
    strict: bool
    reached: bool | None
    samples: tuple[float, ...]
    missing: str | None
    failure: str | None


@dataclass(frozen=True)
class Section:
    """The rows of one metric of one workload, greenloop's first."""

    workload: str
    informational: bool
    metric: Metric
    rows: tuple[Row, ...]


def summarize(workload: Workload, results: list[Measured]) -> list[Section]:
    """Compare the results of one workload, a section for each metric.

    A ratio is taken in each round, between neighbours in time, and then the median of those: the
    machine's drift over the run cancels out. So it can differ a little from the ratio of medians.
    """
    ours = next(result for result in results if result.impl == OURS)
    sections = []
    for metric in workload.metrics:
        rows = tuple(_row(metric, ours, result) for result in results)
        sections.append(Section(workload.name, workload.informational, metric, rows))
    return sections


def _row(metric: Metric, ours: Measured, result: Measured) -> Row:
    key = metric.key
    samples = tuple(figures[key] for figures in result.rounds.values())
    value = Spread.of(samples)
    ratio, target, strict, reached = None, None, False, None
    if result is ours:
        target, strict = metric.limit, True
        if target is not None and value is not None:
            reached = value.median < target
    else:
        ratio = Spread.of(
            figures[key] / ours.rounds[number][key]
            for number, figures in result.rounds.items()
            if number in ours.rounds
        )
        if (wanted := metric.target(result.impl)) is not None:
            target, strict = wanted
            if ratio is not None:
                reached = ratio.median > target if strict else ratio.median >= target
    return Row(
        result.impl,
        result.version,
        value,
        ratio,
        target,
        strict,
        reached,
        samples,
        result.missing,
        result.failure,
    )


def ours_failed(sections: Iterable[Section]) -> bool:
    """Whether greenloop itself is missing or failed anywhere: the run is worth nothing."""
    return any(
        row.impl == OURS and (row.missing is not None or row.failure is not None)
        for section in sections
        for row in section.rows
    )


HEADINGS = ("workload", "implementation", "median", "min .. max", "ratio", "target", "reached")


def table(sections: list[Section]) -> str:
    """The sections as one text table, with a summary of the targets below."""
    groups = [[HEADINGS]] + [_lines(section) for section in sections]
    widths = [max(len(line[i]) for group in groups for line in group) for i in range(7)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = []
    for group in groups:
        for line in group:
            cells = [
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            text.append("  ".join(cells).rstrip())
        text.append(rule)
    return "\n".join(text + _remarks(sections))


Line = tuple[str, str, str, str, str, str, str]


def _lines(section: Section) -> list[Line]:
    metric = section.metric
    labels = [section.workload, f"  per {metric.per}"]
    if section.informational:
        labels.append("  (for information)")
    labels += [""] * (len(section.rows) - len(labels))
    rows = list(section.rows) + [None] * (len(labels) - len(section.rows))
    return [_line(label, metric, row) for label, row in zip(labels, rows, strict=True)]


def _line(label: str, metric: Metric, row: Row | None) -> Line:
    if row is None:
        return (label, "", "", "", "", "", "")
    median = span = ratio = target = ""
    if row.value is not None:
        median = quantity(row.value.median, metric.unit)
        span = f"{quantity(row.value.min, metric.unit)} .. {quantity(row.value.max, metric.unit)}"
    if row.missing is not None:
        median = "NOT INSTALLED"
    elif row.failure is not None:
        median = "FAILED"
    if row.ratio is not None:
        ratio = times(row.ratio.median)
    if row.target is not None:
        if row.impl == OURS:
            target = f"< {quantity(row.target, metric.unit)}"
        else:
            target = f"{'>' if row.strict else '>='} {row.target:g}x"
    reached = {None: "-" if row.target is not None else "", True: "yes", False: "NO"}[row.reached]
    return (label, row.impl, median, span, ratio, target, reached)


def _remarks(sections: list[Section]) -> list[str]:
    remarks = [
        "ratio: that implementation's figure over greenloop's of the same round, median of the",
        "rounds; above 1x greenloop takes less, or does more a second. Lower is better, except for",
        "what is counted a second.",
    ]
    trouble: dict[str, None] = {}
    missed = []
    reached = unmeasured = 0
    for section in sections:
        for row in section.rows:
            if row.missing is not None:
                trouble[f"not installed: {row.impl} ({row.missing})"] = None
            elif row.failure is not None:
                trouble[f"FAILED: {section.workload}, {row.impl}: {row.failure}"] = None
            if row.target is None:
                continue
            if row.reached is None:
                unmeasured += 1
            elif row.reached:
                reached += 1
            else:
                missed.append(f"{section.workload}, {row.impl}, per {section.metric.per}")
    remarks += trouble
    if reached + len(missed) + unmeasured:
        line = f"targets: {reached} reached, {len(missed)} missed"
        remarks.append(line + (f", {unmeasured} not measured" if unmeasured else ""))
    return remarks + [f"  missed: {what}" for what in missed]


def quantity(value: float, unit: str) -> str:
    """A value with a readable unit: 74.1 ns, 1.30 s, 41,496/s, 1,040 B, 1.52x."""
    if unit == "/s":
        return f"{1 / value:,.0f}/s"
    if unit == "x":
        return times(value)
    if unit == "B":
        return f"{value:,.0f} B"
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{_three_digits(value / scale)} {name}"
    return f"{_three_digits(value / 1e-9)} ns"


def times(ratio: float) -> str:
    return f"{_three_digits(ratio)}x"


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def document(sections: list[Section], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything as one JSON-ready object: the machine, the settings, each row."""
    return {
        "format": JSON_FORMAT,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "settings": settings,
        "ours_failed": ours_failed(sections),
        "sections": [asdict(section) for section in sections],
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()

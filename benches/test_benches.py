"""The comparison itself: ratios, targets, failures, and what the table and chart make of them."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benches import chart, report, runner
from benches.harness import Bench
from benches.runner import Measured
from benches.suites import SUITES
from benches.targets import OURS, WORKLOADS, Metric, Workload

WORKLOAD = Workload(
    "sample",
    "sample",
    ("fast", "slow"),
    (Metric("time", "s", "thing", ratios=(("slow", 3.0),), faster_than=("fast",), limit=2.0),),
)


def measured(impl: str, *values: float) -> Measured:
    return Measured(impl, "1.0", {i: {"time": value} for i, value in enumerate(values, 1)})


def rows(*results: Measured) -> dict[str, report.Row]:
    (section,) = report.summarize(WORKLOAD, list(results))
    return {row.impl: row for row in section.rows}


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The machine slows down threefold: the ratio of medians would be 2/3.
    slow = rows(measured(OURS, 1, 1, 3), measured("slow", 2, 6, 6))["slow"]
    assert slow.ratio == report.Spread(2, 2, 6)
    assert slow.value == report.Spread(6, 2, 6)
    assert slow.reached is False


@pytest.mark.parametrize(("value", "reached"), [(2.9, False), (3.0, True), (3.1, True)])
def test_a_ratio_target_is_reached_at_exactly_the_ratio(value: float, reached: bool) -> None:
    assert rows(measured(OURS, 1), measured("slow", value))["slow"].reached is reached


@pytest.mark.parametrize(("value", "reached"), [(0.9, False), (1.0, False), (1.1, True)])
def test_faster_than_is_strict(value: float, reached: bool) -> None:
    assert rows(measured(OURS, 1), measured("fast", value))["fast"].reached is reached


@pytest.mark.parametrize(("value", "reached"), [(1.9, True), (2.0, False)])
def test_limit_is_for_ours_and_strict(value: float, reached: bool) -> None:
    result = rows(measured(OURS, value), measured("slow", 1))
    assert result[OURS].reached is reached
    assert result[OURS].ratio is None


def test_only_rounds_that_both_finished_are_paired() -> None:
    slow = measured("slow", 2, 5)
    slow.failure = "killed by SIGSEGV"
    row = rows(measured(OURS, 1, 1, 1), slow)["slow"]
    assert row.ratio == report.Spread(3.5, 2, 5)
    assert row.failure == "killed by SIGSEGV"


def test_missing_peer_is_said_and_not_held_against_ours() -> None:
    sections = report.summarize(
        WORKLOAD, [measured(OURS, 1), Measured("fast", missing="No module named 'fast'")]
    )
    text = report.table(sections)
    assert "NOT INSTALLED" in text
    assert "not installed: fast (No module named 'fast')" in text
    assert "1 not measured" in text
    assert not report.ours_failed(sections)


@pytest.mark.parametrize(
    "ours", [Measured(OURS, missing="no module"), Measured(OURS, failure="LoopExit")]
)
def test_failure_of_ours_fails_the_run(ours: Measured) -> None:
    sections = report.summarize(WORKLOAD, [ours, measured("slow", 1)])
    assert report.ours_failed(sections)
    assert rows(ours, measured("slow", 1))["slow"].reached is None


def test_json_holds_the_samples() -> None:
    sections = report.summarize(WORKLOAD, [measured(OURS, 1, 2), measured("slow", 4, 8)])
    text = json.dumps(report.document(sections, {"rounds": 2}))
    (section,) = json.loads(text)["sections"]
    assert section["rows"][1]["samples"] == [4, 8]
    assert section["rows"][1]["ratio"]["median"] == 4
    assert section["rows"][1]["reached"] is True


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7.412e-8, "s", "74.1 ns"),
        (9.999e-7, "s", "1000 ns"),
        (1e-6, "s", "1.00 us"),
        (1 / 41_496, "/s", "41,496/s"),
        (0.0213, "s", "21.3 ms"),
        (1.3, "s", "1.30 s"),
        (1040.4, "B", "1,040 B"),
        (1.517, "x", "1.52x"),
    ],
)
def test_quantities(value: float, unit: str, text: str) -> None:
    assert report.quantity(value, unit) == text


def test_chart_is_well_formed_and_draws_each_ratio() -> None:
    workload = next(w for w in WORKLOADS if w.name == "sleep0")
    results = [
        measured(impl, value) for impl, value in zip(workload.impls, (1, 8, 4, 2, 0.5), strict=True)
    ]
    text = chart.svg(report.summarize(workload, results), "a < b", "c & d")
    root = ElementTree.fromstring(text)
    labels = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for label in ("a < b", "8.00x", "4.00x", "2.00x", "0.50x (missed)", "1/2x"):
        assert label in labels


def test_every_peer_has_a_color_and_every_target_a_peer() -> None:
    for workload in [workload for suite in SUITES.values() for workload in suite]:
        assert set(workload.peers) <= set(chart.COLORS)
        for metric in workload.metrics:
            assert {peer for peer, _ in metric.ratios} | set(metric.faster_than) <= set(
                workload.peers
            )
        assert (runner.ROOT / "benches" / "workloads" / f"{workload.module}.py").is_file()


def test_operations_are_scaled_to_the_batch_and_the_median_taken() -> None:
    counts: list[int] = []
    plan = Bench("asyncio", 0, quick=True)._plan()
    ops = next(plan)
    result = None
    while result is None:
        counts.append(ops)
        try:
            ops = plan.send(ops * 1e-4)  # each operation takes 100 us
        except StopIteration as stop:
            result = stop.value
    assert counts == [1, 4, 16, 64, 256, 500, 500, 500]
    assert result == pytest.approx(1e-4)


def test_a_long_operation_is_measured_once() -> None:
    plan = Bench("asyncio", 0, quick=False)._plan()
    assert next(plan) == 1
    assert plan.send(9.0) == 1
    with pytest.raises(StopIteration) as stop:
        plan.send(7.0)
    assert stop.value.value == 7.0


def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Measured:
    package = tmp_path / "benches" / "workloads"
    package.mkdir(parents=True)
    (package / "sample.py").write_text(body)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    result = Measured("slow")
    runner.run_once(WORKLOAD, result, 1, quick=False, timeout=30)
    return result


def test_runner_reads_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = 'print("noise"); print(\'{"version": "3", "metrics": {"time": 2}}\')'
    result = run_program(tmp_path, monkeypatch, body)
    assert (result.version, result.rounds, result.failure) == ("3", {1: {"time": 2}}, None)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("raise ValueError('wrong result')", "ValueError: wrong result"),
        ("raise SystemExit(7)", "exit status 7"),
        ("print('done')", "it ended without reporting a result"),
        ("", "it ended without reporting a result"),
        # Reported, and then crashed while the interpreter shut down: that is a failure too.
        ("print('{\"version\": \"\", \"metrics\": {}}', flush=True); import os; os.abort()",
         "killed by SIGABRT"),
    ],
)  # fmt: skip
def test_runner_says_why_a_program_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, failure: str
) -> None:
    result = run_program(tmp_path, monkeypatch, body)
    assert (result.failure, result.rounds) == (failure, {})


def test_runner_gives_up_on_a_program_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benches" / "workloads").mkdir(parents=True)
    (tmp_path / "benches" / "workloads" / "sample.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    result = Measured("slow")
    runner.run_once(WORKLOAD, result, 1, quick=False, timeout=1)
    assert result.failure == "no result within 1 s"


def test_command_line_names_the_workloads_and_refuses_others() -> None:
    command = [sys.executable, str(runner.ROOT / "benches" / "run.py")]
    for name, suite in SUITES.items():
        arguments = ["--suite", name, "--list"]
        listed = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        assert listed.stdout.split() == [workload.name for workload in suite]
    for arguments in (["--only", "nothing"], ["--only", "http_hello"], ["--rounds", "0"]):
        assert subprocess.run([*command, *arguments], capture_output=True).returncode == 2

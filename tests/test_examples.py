"""Every example runs as its first lines say, and prints what it should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from scripts import USE_PEER

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NUMBER = r"-?\d+\.\d+"

# Name, arguments that keep it small, and the whole output as a regular expression.
CASES: list[tuple[str, list[str], str]] = [
    (
        "websocket_chat",
        [],
        "Ann: hello; Ann: hello; Ann: hello\nBen: hello; Ben: hello; Ben: hello\n"
        "Cleo: hello; Cleo: hello; Cleo: hello\n",
    ),
    (
        "asgi_site",
        [],
        rf"""\{{"path": "/now", "notes": 1\}}
30 requests of 50 ms each, at once: (yes|{NUMBER})
21 notes
""",
    ),
    (
        "many_sleeps",
        ["200"],
        rf"greenlets: 200 tasks done in {NUMBER} s, memory grew by {NUMBER} MiB\n"
        rf"asyncio: 200 tasks done in {NUMBER} s, memory grew by {NUMBER} MiB\n",
    ),
    (
        "blocking_calls",
        ["50", "2"],
        rf"round 1 of 2, 50 calls\n  greenlets: {NUMBER} s, {NUMBER} MiB\n"
        rf"  asyncio: {NUMBER} s, {NUMBER} MiB\n"
        rf"round 2 of 2, 50 calls\n  greenlets: {NUMBER} s, {NUMBER} MiB\n"
        rf"  asyncio: {NUMBER} s, {NUMBER} MiB\n"
        rf"mean\n  greenlets: {NUMBER} s, {NUMBER} MiB\n  asyncio: {NUMBER} s, {NUMBER} MiB\n",
    ),
    (
        "greenlet_switch",
        [],
        "main -> first\nfirst -> second\nsecond -> first\nfirst -> main: first is done\n"
        "first is dead: True, second is dead: False\n",
    ),
    (
        "gevent_tasks",
        ["0.01"],
        rf"task 1 started\ntask 2 started\ntask 1 resumed\ntask 2 resumed\ntotal: {NUMBER} s\n",
    ),
    (
        "asyncio_tasks",
        ["0.01"],
        rf"task 1 started\ntask 2 started\ntask 1 resumed\ntask 2 resumed\ntotal: {NUMBER} s\n",
    ),
    (
        "await_order",
        ["0.01"],
        rf"asyncio, task awaited first: {NUMBER} units\n"
        rf"gevent, task joined first: {NUMBER} units\n"
        rf"asyncio, task awaited last: {NUMBER} units\n"
        rf"gevent, task joined last: {NUMBER} units\n",
    ),
    (
        "compute_bound",
        [],
        "without giving way: step 0, step 1, step 2, beat, beat, beat\n"
        r"with sleep\(0\):      step 0, beat, step 1, beat, step 2, beat\n",
    ),
    (
        "find_blocking",
        [],
        r"held the thread longest: rude\nfor at least 0\.3 s: True\n",
    ),
    ("echo_server", ["20"], "20 clients had 60 lines echoed\n"),
    (
        "wsgi_app",
        ["0.01"],
        rf"this is /page/19\n20 pages in {NUMBER} s; one takes 0\.01 s\n",
    ),
    (
        "producer_consumer",
        [],
        "40 items consumed, each exactly once: True\nleft in the queue: 0\n",
    ),
    ("pool_crawler", ["15"], rf"15 pages in {NUMBER} s, 10 at a time\neach once: True\n"),
    (
        "timeouts",
        [],
        r"raises: ended after 0\.05 s\nstays_quiet: gave up\nown_exception: no answer\n"
        "in_time: in time\nnested: the inner one\nwaiting_for_a_result: no result yet\n"
        "whole_call: the value for lateness\n",
    ),
]


@pytest.mark.parametrize(("name", "args", "output"), CASES, ids=[case[0] for case in CASES])
def test_example(run_script: Any, name: str, args: list[str], output: str) -> None:
    out = run_script(EXAMPLES / f"{name}.py", *args).check_quiet()
    assert re.fullmatch(output, out), out


def test_greenlets_that_block(run_script: Any) -> None:
    out = run_script(EXAMPLES / "greenlets_that_block.py", "0.05").check_quiet()
    told = [re.fullmatch(r"(.*) after (\d+) pauses", line) for line in out.splitlines()]
    assert all(told), out
    lines = [match.groups() for match in told if match]
    assert [text for text, _ in lines] == [
        "task 1 started",
        "task 1 gives way",
        "task 2 started",
        "task 2 gives way",
        "task 1 resumed",
        "task 1 completed",
        "task 2 resumed",
        "task 2 completed",
        "both done",
    ]
    # The sleeps follow one another, so each adds to the time; a slow machine adds more.
    pauses = [int(count) for _, count in lines]
    assert all(
        have >= least for have, least in zip(pauses, [0, 1, 1, 2, 2, 3, 3, 4, 4], strict=True)
    )


def test_fetch_urls(run_script: Any) -> None:
    out = run_script(EXAMPLES / "fetch_urls.py").check_quiet()
    *lines, summary = out.splitlines()
    asked = re.findall(r"^asking for (\S+)$", out, re.MULTILINE)
    answered = re.findall(r"^(http://\S+): \d+ bytes$", out, re.MULTILINE)
    assert len(lines) == 20, out
    assert len(set(asked)) == 10
    assert sorted(answered) == sorted(asked)
    # The second is under way before the first is answered.
    assert lines[1].startswith("asking for "), out
    assert re.fullmatch(rf"10 answers, \d+ bytes, {NUMBER} s", summary)


@pytest.mark.skipif(USE_PEER, reason="needs greenloop.asyncio")
def test_asyncio_and_greenlets(run_script: Any) -> None:
    out = run_script(EXAMPLES / "asyncio_and_greenlets.py", "0.05").check_quiet()
    assert out == (
        "12 plums: 60\n2 pears: 10\n3 apples: 18\nprices asked for at once: 3\n"
        "too late for cherries\ntoo late for a coroutine\n"
    )


def test_fork_and_timer(run_script: Any) -> None:
    out = run_script(EXAMPLES / "fork_and_timer.py", "0.1").check_quiet()
    lines = out.splitlines()
    assert sorted(lines[:2]) == ["magic in the parent", "the child starts greenlets of its own"]
    assert lines[2:] == ["the child ended with status 0"]


def test_greenlet_lifecycle(run_script: Any) -> None:
    result = run_script(EXAMPLES / "greenlet_lifecycle.py")
    assert result.check() == (
        "countdown 3\ncountdown 2\ncountdown 1\ncountdown returned 3\n"
        "it failed: ZeroDivisionError('division by zero')\n"
        "successful: False\nget() raised: division by zero\n"
        "asked to end while waiting; tidying up\n"
        "killed: dead True, value GreenletExit()\n"
    )
    report = result.stderr
    assert "in divide" in report
    assert "ZeroDivisionError: division by zero" in report
    assert re.search(r"<Greenlet [^>]*divide\(1, 0\)[^>]*> failed with ZeroDivisionError", report)


def test_every_example_is_listed_and_tested() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.py")}
    listed = set(re.findall(r"`(\w+)\.py`", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert listed == files
    tested = {name for name, _, _ in CASES} | set(
        re.findall(r'"(\w+)\.py"', Path(__file__).read_text(encoding="utf-8"))
    )
    assert tested == files - {"local_site"}

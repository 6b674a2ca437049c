"""coverage.py in programs of greenlets: exactly the lines and branches that ran are reported.

With the real packages it may miss lines: its tracer notices a switch at the next call or return
only. Switches of greenloop show it one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from scripts import SCRIPT_TIMEOUT, USE_PEER

pytest.importorskip("coverage")

pytestmark = pytest.mark.skipif(USE_PEER, reason="the real packages lose lines")

# Lines that never run are marked so. No call stands between a switch and the lines after it.
PROGRAM = {
    "one": """
        import gevent
        from greenlet import getcurrent


        def work(n):
            if n % 2:
                gevent.sleep(0)
                text = "odd"
            else:
                text = "even"
            for i in range(n):
                gevent.sleep(0)
                if i == 2:
                    break
            else:
                text += "!"
            if text == "none":
                text = "some"  # never
            return text


        def unused():
            return 1  # never


        def thrown(parent):
            value = parent.switch(1)
            try:
                value = parent.switch(value)
                value = None  # never
            except KeyError:
                value = "thrown"
            return value
        """,
    "two": """
        from gevent.event import Event
        from gevent.queue import Queue

        ready, queue = Event(), Queue()


        def take(count):
            taken = []
            while len(taken) < count:
                item = queue.get()
                if item is None:
                    raise ValueError  # never
                taken.append(item)
            return taken


        def put(count):
            ready.wait()
            for i in range(count):
                queue.put(i)
            if count < 0:
                count = 0  # never
            return count
        """,
    "main": """
        import gevent
        import one
        import two
        from greenlet import getcurrent, greenlet

        jobs = [gevent.spawn(one.work, n) for n in range(6)]
        jobs += [gevent.spawn(two.take, 3), gevent.spawn(two.put, 2), gevent.spawn(two.put, 1)]
        gevent.sleep(0)
        two.ready.set()
        gevent.joinall(jobs)
        values = [job.value for job in jobs]
        if len(values) != 9:
            values = []  # never
        raw = greenlet(one.thrown)
        first = raw.switch(getcurrent())
        second = raw.switch(2)
        third = raw.throw(KeyError)
        if third is None:
            third = 0  # never
        expected = (1, 2, "thrown")
        assert (first, second, third) == expected
        print(values)
        """,
}
VALUES = ["even!", "odd!", "even!", "odd", "even", "odd", [0, 1, 0], 2, 1]


@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
@pytest.mark.parametrize("core", ["ctrace", "sysmon"])
@pytest.mark.parametrize("concurrency", ["greenlet", "gevent", "thread"])
def test_what_ran_is_covered(tmp_path: Path, concurrency: str, core: str, branch: bool) -> None:
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with 3.12")
    # sys.monitoring has events for branches since 3.14; before, coverage takes its other tracer.
    by_stack = core == "ctrace" or (branch and sys.version_info < (3, 14))
    if concurrency == "thread" and by_stack:
        pytest.skip("one stack for all greenlets: lines of one file are taken for another's")
    for name, source in PROGRAM.items():
        (tmp_path / f"{name}.py").write_text(dedent(source).lstrip())
    (tmp_path / ".coveragerc").write_text(
        f"[run]\nconcurrency = {concurrency}\nbranch = {branch}\ncore = {core}\n"
        "disable_warnings = no-ctracer,no-sysmon\n"
    )

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "greenloop", "-m", "coverage", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SCRIPT_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("run", "main.py").splitlines()[-1] == repr(VALUES)
    run("json", "-o", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())["files"]
    for name in PROGRAM:
        lines = (tmp_path / f"{name}.py").read_text().splitlines()
        never = [n for n, line in enumerate(lines, 1) if line.endswith("# never")]
        assert report[f"{name}.py"]["missing_lines"] == never
        if branch:
            # Of branches, those to lines that never ran.
            missing = report[f"{name}.py"]["missing_branches"]
            to_never = [n for n in never if re.match(r"\s*(if|while|for)", lines[n - 2])]
            assert [target for _, target in missing] == to_never

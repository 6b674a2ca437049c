"""Stepping through one greenlet with pdb while others run: the others do not get in the way."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from scripts import SCRIPT_TIMEOUT, script_command

PROGRAM = """
    import gevent

    def other():
        for _ in range(100):
            gevent.sleep(0)

    def inner(n):
        gevent.sleep(0)  # first
        x = n + 1  # second
        gevent.sleep(0)  # third
        return x  # last of inner

    def debugged():
        a = 1  # a
        b = inner(a)  # b
        for i in range(3):  # loop
            gevent.sleep(0)  # in the loop
        c = inner(b)  # c
        return a + b + c  # last

    def start():
        breakpoint()
        result = debugged()  # start
        return result  # end

    others = [gevent.spawn(other) for _ in range(3)]
    greenlet = gevent.spawn(start)
    gevent.joinall([greenlet, *others])
    print("value", greenlet.value, [other.successful() for other in others])
"""


def session(tmp_path: Path, *commands: str) -> tuple[list[str], str]:
    """The marks of the lines at which pdb stops, and all output."""
    script = tmp_path / "program.py"
    script.write_text(dedent(PROGRAM).lstrip())
    done = subprocess.run(
        script_command(script),
        input="".join(f"{command}\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = script.read_text().splitlines()
    stops = []
    for number in re.findall(r"^(?:\(Pdb\) )?> \S*program\.py\((\d+)\)", done.stdout, re.MULTILINE):
        _, _, mark = lines[int(number) - 1].partition("  # ")
        stops.append(mark or lines[int(number) - 1].strip())
    return stops, done.stdout


# Since 3.13 breakpoint() stops at its own line, before at the next one.
def after_breakpoint(stops: list[str]) -> list[str]:
    return stops[1:] if stops[0] == "breakpoint()" else stops


def commands(*words: str, tmp_path: Path) -> tuple[list[str], str]:
    """As `session`, starting at the line marked start."""
    stops, _ = session(tmp_path, "continue")
    lead = ["next"] if stops[0] == "breakpoint()" else []
    stops, out = session(tmp_path, *lead, *words)
    return after_breakpoint(stops), out


def test_next_steps_over_switches(tmp_path: Path) -> None:
    stops, out = commands("step", *["next"] * 3, "p b", "continue", tmp_path=tmp_path)
    assert stops == ["start", "def debugged():", "a", "b", "loop"]
    assert "(Pdb) 2\n" in out
    assert "value 6 [True, True, True]" in out


def test_stepping_in_the_callee(tmp_path: Path) -> None:
    words = ["step", "next", "next", "step", *["next"] * 4, "continue"]
    stops, _ = commands(*words, tmp_path=tmp_path)
    assert stops == [
        "start",
        "def debugged():",
        "a",
        "b",
        "def inner(n):",
        "first",
        "second",
        "third",
        "last of inner",
    ]


def test_return_runs_to_the_end_of_the_function(tmp_path: Path) -> None:
    words = ["step", "next", "next", "step", "return", "p x", "next", "next", "continue"]
    stops, out = commands(*words, tmp_path=tmp_path)
    end = ["def inner(n):", "last of inner", "loop", "in the loop"]
    assert stops == ["start", "def debugged():", "a", "b", *end]
    assert "(Pdb) 2\n" in out


def test_until_leaves_the_loop(tmp_path: Path) -> None:
    words = ["step", "next", "next", "next", "next", "until", "until", "where", "continue"]
    stops, out = commands(*words, tmp_path=tmp_path)
    assert stops[4:8] == ["loop", "in the loop", "c", "last"]
    shown = re.findall(r"program\.py\(\d+\)(\w+)\(\)", out[out.index("(Pdb)") :])
    assert "other" not in shown
    assert "value 6 [True, True, True]" in out


@pytest.mark.parametrize("mark", ["second", "last"])
def test_breakpoints(tmp_path: Path, mark: str) -> None:
    lines = dedent(PROGRAM).lstrip().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# {mark}")]
    count = 2 if mark == "second" else 1
    stops, out = commands(f"break {number}", *["continue"] * (count + 1), tmp_path=tmp_path)
    assert stops == ["start", *[mark] * count]
    assert "value 6 [True, True, True]" in out

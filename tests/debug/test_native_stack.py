"""What debuggers and profilers that read a process from outside see of a running greenlet.

The stacks of greenlets carry unwinding information: a walk up the native stack comes to the
greenlet's outermost function, and stops there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from scripts import SCRIPT_TIMEOUT, USE_PEER, RunScript, script_command, tail

pytestmark = pytest.mark.skipif(USE_PEER, reason="the stacks are greenloop's")

# The outermost function on every greenlet's stack.
BOTTOM = re.compile(r"greenloop_stack::arch::\w+::start")


def gdb(script: Path, *commands: str) -> str:
    """Run a script under gdb until it signals itself with SIGUSR1; the output of the commands."""
    program = shutil.which("gdb")
    if program is None:
        pytest.skip("gdb is not installed")
    asked = ["run", *commands, "kill"]
    options = ["-nx", "-batch", "-iex", "set debuginfod enabled off"]
    options += [word for command in asked for word in ("-ex", command)]
    done = subprocess.run(
        [program, *options, "--args", *script_command(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=2 * SCRIPT_TIMEOUT,
        check=False,
    )
    if re.search(r"ptrace: Operation not permitted|Could not trace the inferior", done.stdout):
        pytest.skip("this system forbids ptrace")
    assert "SIGUSR1" in done.stdout, tail(done.stdout)
    return done.stdout


def write(tmp_path: Path, source: str) -> Path:
    script = tmp_path / "script.py"
    script.write_text(dedent(source), encoding="utf-8")
    return script


def frames(backtrace: str) -> list[str]:
    """The lines of a gdb backtrace that show a frame."""
    return re.findall(r"^#\d+ .*", backtrace, re.MULTILINE)


STOPS_IN_A_GREENLET = """
    import os, signal
    from greenlet import getcurrent, greenlet

    def wait():
        while True:
            getcurrent().parent.switch()

    def stop():
        os.kill(os.getpid(), signal.SIGUSR1)

    def descend(depth):
        if depth:
            # Through C, so that the interpreter's loop is entered anew.
            return list(map(descend, [depth - 1]))
        stop()

    others = [greenlet(wait) for _ in range(100)]
    for other in others:
        other.switch()
"""


def test_gdb_finds_the_bottom_of_a_greenlet(tmp_path: Path) -> None:
    script = write(tmp_path, STOPS_IN_A_GREENLET + "\n    greenlet(descend).switch(5)\n")
    out = gdb(script, "bt")
    found = frames(out)
    assert len(found) > 10, tail(out)
    assert BOTTOM.search(found[-1]), tail(out)
    assert sum(1 for frame in found if BOTTOM.search(frame)) == 1
    # What gdb says when it gives up: corrupt stack, inner to this frame, identical.
    assert "Backtrace stopped" not in out
    assert "previous frame" not in out


def test_gdb_finds_the_bottom_of_a_greenlet_that_was_moved(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        STOPS_IN_A_GREENLET
        + """
    def later():
        getcurrent().parent.switch()
        descend(3)

    moved = greenlet(later)
    moved.switch()
    # More than there are slots: the one above is copied out, and in again.
    for other in others:
        other.switch()
    more = [greenlet(wait) for _ in range(300)]
    for other in more:
        other.switch()
    moved.switch()
""",
    )
    out = gdb(script, "bt")
    found = frames(out)
    assert BOTTOM.search(found[-1]), tail(out)
    assert "Backtrace stopped" not in out


def test_backtrace_of_the_c_library_ends_at_the_bottom(run_script: RunScript) -> None:
    result = run_script(
        """
        import ctypes
        from greenlet import greenlet

        libc = ctypes.CDLL(None)
        libc.backtrace_symbols.restype = ctypes.c_void_p

        def walk():
            addresses = (ctypes.c_void_p * 1000)()
            return libc.backtrace(addresses, 1000)

        def descend(depth):
            return list(map(descend, [depth - 1]))[0] if depth else walk()

        def run(depth):
            g = greenlet(descend)
            return g.switch(depth)

        def run_far_down(depth):
            return list(map(run_far_down, [depth - 1]))[0] if depth else run(0)

        shallow, deep = run(0), run(20)
        assert 5 < shallow < shallow + 20 <= deep < 1000, (shallow, deep)
        # A greenlet's stack begins anew, wherever it was started from.
        assert run_far_down(20) < shallow + 20
        print("ended")
        """
    )
    assert result.check_quiet() == "ended\n"


@pytest.mark.parametrize("option", [None, "--native"])
def test_py_spy_shows_the_running_greenlet(tmp_path: Path, option: str | None) -> None:
    program = Path(sys.executable).with_name("py-spy")
    if not program.is_file():
        pytest.skip("py-spy is not installed for this interpreter")
    script = write(
        tmp_path,
        """
        import ctypes, sys
        from greenlet import getcurrent, greenlet

        # PR_SET_PTRACER, PR_SET_PTRACER_ANY: where only ancestors may look, anybody may.
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)

        def suspended():
            getcurrent().parent.switch()

        def inner():
            print("ready", flush=True)
            sys.stdin.read()

        def outer():
            inner()

        def starter():
            greenlet(outer).switch()

        other = greenlet(suspended)
        other.switch()
        starter()
        """,
    )
    with subprocess.Popen(
        script_command(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            command = [program, "dump", "--pid", str(process.pid), *([option] if option else [])]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SCRIPT_TIMEOUT, check=False
            )
        finally:
            process.stdin.close()
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("this system forbids ptrace")
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^ +(\w+) \((?:\S*/)?script\.py:\d+\)", done.stdout, re.MULTILINE)
    # The running greenlet from its innermost frame out. Whoever started it is not among its
    # callers, no more than in a traceback.
    assert shown == ["inner", "outer"], done.stdout

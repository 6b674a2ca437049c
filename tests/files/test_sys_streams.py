"""monkey.patch_sys: standard streams that let others run while they wait."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent

import pytest

# Seconds. A guard against hangs: nothing is expected to take so long.
GUARD = 60.0

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Start:
    """Starts a script with pipes for its streams; it is patched, and `gevent` imported."""

    def start(source: str, *options: str) -> subprocess.Popen[bytes]:
        prelude = """
            from gevent import monkey
            monkey.patch_sys()
            import gevent, os, sys
        """
        script = dedent(prelude) + dedent(source)
        return subprocess.Popen(
            [sys.executable, *options, "-m", "greenloop", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )

    return start


def ends(process: subprocess.Popen[bytes], given: bytes = b"") -> tuple[str, str]:
    """What a script prints to the end, if it succeeds."""
    output, error = process.communicate(given, timeout=GUARD)
    assert process.returncode == 0, error.decode()
    return output.decode(), error.decode()


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_others_run_while_input_is_waited_for(start: Start, options: tuple[str, ...]) -> None:
    process = start(
        """
        def other():
            print("waiting", flush=True)

        gevent.spawn(other)
        print("got", input("? "))
        print(sys.stdin.readline(), [line for line in sys.stdin])
        sys.stderr.write("error")
        """,
        *options,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    # Nothing is sent before the other greenlet has run.
    seen = b""
    while not seen.endswith(b"waiting\n"):
        piece = os.read(process.stdout.fileno(), 100)
        assert piece, process.communicate()
        seen += piece
    assert seen == b"? waiting\n"
    output, error = ends(process, b"one\ntwo\nthree\n\xc3\xa9")
    assert output == "got one\ntwo\n ['three\\n', 'é']\n"
    assert error == "error"


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_others_run_while_nobody_reads(start: Start, options: tuple[str, ...]) -> None:
    process = start(
        """
        def other():
            os.write(2, b"running")

        gevent.spawn(other)
        sys.stdout.write("x" * 1_000_000)
        sys.stdout.flush()
        """,
        *options,
    )
    assert process.stderr is not None
    # The pipe is full by now, or will be.
    assert os.read(process.stderr.fileno(), 100) == b"running"
    output, _ = ends(process)
    assert output == "x" * 1_000_000


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_greenlets_take_turns(start: Start, options: tuple[str, ...]) -> None:
    process = start(
        """
        def write(letter):
            sys.stdout.write(letter * 200_000 + "\\n")
            sys.stdout.buffer.write(letter.encode() * 200_000 + b"\\n")

        gevent.joinall([gevent.spawn(write, letter) for letter in "abc"], raise_error=True)
        """,
        *options,
    )
    output, _ = ends(process)
    assert sorted(output.split()) == sorted(letter * 200_000 for letter in "aabbcc")


def test_greenlets_share_the_input(start: Start) -> None:
    process = start(
        """
        greenlets = [gevent.spawn(sys.stdin.readline) for _ in range(3)]
        gevent.joinall(greenlets, raise_error=True)
        print(sorted(greenlet.value for greenlet in greenlets))
        """
    )
    assert ends(process, b"1\n2\n3\n")[0] == "['1\\n', '2\\n', '3\\n']\n"


def test_the_descriptors_stay_as_they_are(start: Start) -> None:
    process = start(
        """
        sys.stdin.readline()
        print([os.get_blocking(fd) for fd in range(3)], flush=True)
        print(sys.stdin.name, sys.stdin.mode, sys.stdout.name, sys.stderr.errors)
        print(sys.stdout is not sys.__stdout__, monkey.is_object_patched("sys", "stdin"))
        before = sys.stdin, sys.stdout, sys.stderr
        monkey.patch_sys()
        print(before == (sys.stdin, sys.stdout, sys.stderr))
        """
    )
    assert ends(process, b"\n")[0].splitlines() == [
        "[True, True, True]",
        "<stdin> r <stdout> backslashreplace",
        "True True",
        "True",
    ]


def test_errors_are_reported_while_a_greenlet_writes_them(start: Start) -> None:
    # The hub prints them, which cannot wait for the greenlet.
    process = start(
        """
        def fail():
            os.write(1, b"failing")
            raise LookupError("of the callback")

        gevent.spawn(sys.stderr.write, "x" * 1_000_000)
        gevent.sleep(0)
        gevent.get_hub().loop.run_callback(fail)
        gevent.wait()
        """
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == b"failing"
    _, error = ends(process)
    assert error.count("x") >= 1_000_000
    assert "LookupError: of the callback" in error


def test_a_child_does_not_wait_for_greenlets_of_its_parent(start: Start) -> None:
    process = start(
        """
        gevent.spawn(sys.stdin.readline)
        gevent.sleep(0)
        pid = os.fork()
        if not pid:
            print("child", flush=True)
            os._exit(0)
        print(os.waitpid(pid, 0)[1])
        """
    )
    assert ends(process)[0] == "child\n0\n"


def test_what_is_printed_last_is_not_lost(start: Start) -> None:
    assert ends(start("print('last', end='')"))[0] == "last"
    assert ends(start("sys.stdout.buffer.write(b'last')"))[0] == "last"


def test_streams_of_the_program_are_left_alone(start: Start) -> None:
    process = start(
        """
        import io
        sys.stdout = mine = io.StringIO()
        sys.stdin = None
        monkey.patch_sys()
        assert sys.stdout is mine
        assert sys.stdin is None
        """
    )
    ends(process)


def test_streams_on_disk(start: Start, tmp_path: object) -> None:
    path = f"{tmp_path}/data"
    with open(path, "w") as file:
        file.write("line\n" * 3)
    script = (
        "from gevent import monkey; monkey.patch_sys(); import gevent, sys;"
        " gevent.sleep(0); print(sys.stdin.read().count('line'))"
    )
    with open(path) as given, open(f"{path}.out", "w") as taken:
        subprocess.run(
            [sys.executable, "-m", "greenloop", "-c", script],
            stdin=given,
            stdout=taken,
            timeout=GUARD,
            check=True,
        )
    with open(f"{path}.out") as file:
        assert file.read() == "3\n"

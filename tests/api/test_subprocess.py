"""gevent.subprocess in a program that patches nothing."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess as standard
import sys
from typing import Any

import gevent
import pytest
from gevent import subprocess
from gevent.event import Event
from gevent.socket import socketpair

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1", reason="gevent does it differently"
)

PIPE = subprocess.PIPE
# The child waits for a line.
GATED = [sys.executable, "-S", "-c", "import sys; print(sys.stdin.readline(), end='')"]


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_waiting_for_the_end_lets_others_run():
    child = subprocess.Popen(GATED, stdin=PIPE, stdout=PIPE)
    waiting = [gevent.spawn(child.wait) for _ in range(3)]
    gevent.sleep(0.01)
    assert not any(greenlet.ready() for greenlet in waiting)
    # What ends the wait happens in this greenlet.
    assert child.communicate(b"x\n") == (b"x\n", None)
    assert [greenlet.get() for greenlet in waiting] == [0, 0, 0]


def test_reading_a_pipe_lets_others_run():
    with subprocess.Popen(GATED, stdin=PIPE, stdout=PIPE) as child:
        reading = gevent.spawn(child.stdout.read)
        gevent.sleep(0.01)
        assert not reading.ready()
        child.stdin.write(b"a line\n")
        child.stdin.close()
        assert reading.get() == b"a line\n"


def test_writing_to_a_full_pipe_lets_others_run():
    with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0) as child:
        data = b"x" * 300_000

        def write() -> None:
            left = memoryview(data)
            while left:
                left = left[child.stdin.write(left) :]
            child.stdin.close()

        writing = gevent.spawn(write)
        gevent.sleep(0.05)
        assert not writing.ready()
        assert child.stdout.read() == data
        writing.get()


def test_text_by_lines():
    with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as child:
        for line in ("one\n", "two\n"):
            child.stdin.write(line)
            assert child.stdout.readline() == line


def test_check_output_of_one_pipe_lets_others_run(tmp_path: Any):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    output = gevent.spawn(subprocess.check_output, ["cat", str(gate)])
    gevent.sleep(0.01)
    assert not output.ready()
    gate.write_bytes(b"through")
    assert output.get() == b"through"


def test_communicate_again_after_a_timeout_loses_nothing():
    read, write = os.pipe()
    child = subprocess.Popen(
        ["sh", "-c", f"cat - /dev/fd/{read}; echo error >&2"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=[read],
    )
    os.close(read)
    with pytest.raises(standard.TimeoutExpired) as caught:
        child.communicate(b"x" * 200_000, timeout=0.3)
    os.write(write, b"the rest\n")
    os.close(write)
    stdout, stderr = child.communicate()
    assert stdout == b"x" * 200_000 + b"the rest\n"
    assert stdout.startswith(caught.value.output or b"")
    assert stderr == b"error\n"
    assert child.returncode == 0


def test_functions():
    assert subprocess.call(["sh", "-c", "exit 3"]) == 3
    assert subprocess.check_call(["true"]) == 0
    with pytest.raises(standard.CalledProcessError):
        subprocess.check_call(["false"])
    assert subprocess.getoutput("echo out; echo err >&2") == "out\nerr"
    assert subprocess.getstatusoutput("echo out; exit 4") == (4, "out")
    assert subprocess.check_output(["cat"], input="text", text=True) == "text"
    assert subprocess.check_output(["cat"], input=None) == b""
    done = subprocess.run(["sh", "-c", "cat; exit 5"], input=b"x", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"x", b"")
    with pytest.raises(standard.CalledProcessError) as failed:
        subprocess.run("echo out; exit 6", shell=True, stdout=PIPE, check=True)
    assert (failed.value.returncode, failed.value.output) == (6, b"out\n")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("run", {"input": b"", "stdin": PIPE}),
        ("run", {"capture_output": True, "stdout": PIPE}),
        ("check_output", {"stdout": PIPE}),
    ],
)
def test_arguments_that_contradict_each_other(function: str, arguments: dict[str, Any]):
    with pytest.raises(ValueError, match="argument"):
        getattr(subprocess, function)(["true"], **arguments)


@pytest.mark.parametrize("function", [subprocess.run, subprocess.call, subprocess.check_output])
def test_a_timeout_ends_the_child(function: Any):
    with pytest.raises(standard.TimeoutExpired):
        function(["sleep", "60"], timeout=0.01)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_greenlet_that_is_killed_in_run_ends_the_child():
    running = gevent.spawn(subprocess.run, ["sleep", "60"], stdout=PIPE)
    gevent.sleep(0.05)
    running.kill()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_wait_takes_processes():
    children = [subprocess.Popen(["sh", "-c", f"exit {code}"]) for code in (1, 2)]
    assert set(gevent.wait(children)) == set(children)
    assert sorted(child.returncode for child in children) == [1, 2]


def test_rawlink():
    done = Event()
    told = []

    def tell(child: Any) -> None:
        told.append(child)
        done.set()

    child = subprocess.Popen(GATED, stdin=PIPE, stdout=PIPE)
    child.rawlink(tell)
    child.communicate(b"\n")
    assert done.wait(30)
    assert told == [child]


@ours_only
def test_unlink():
    done = Event()
    told = []
    child = subprocess.Popen(GATED, stdin=PIPE, stdout=PIPE)
    child.rawlink(told.append)
    child.rawlink(lambda _: done.set())
    child.unlink(told.append)
    child.communicate(b"\n")
    assert done.wait(30)
    assert told == []


def test_no_descriptors_are_left():
    gc.collect()
    before = open_files()
    for command in (["cat"], ["this-does-not-exist"]):
        try:
            with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
                child.communicate(b"x")
        except OSError as error:
            assert error.errno == errno.ENOENT
    assert open_files() == before


@ours_only
def test_no_descriptors_are_left_by_arguments_that_are_refused():
    before = open_files()
    with pytest.raises((KeyError, ValueError)):
        subprocess.Popen(["true"], stdin=PIPE, stdout=PIPE, stderr=PIPE, user="no such user")
    assert open_files() - before == set()


def test_a_socket_is_blocking_for_the_child():
    here, there = socketpair()
    with here:
        with there:
            child = subprocess.Popen(["cat"], stdin=there, stdout=PIPE)
        gevent.sleep(0.05)
        here.sendall(b"late")
        here.close()
        assert child.communicate() == (b"late", None)
    assert child.returncode == 0


def test_a_pipe_between_two_children():
    with (
        subprocess.Popen(GATED, stdin=PIPE, stdout=PIPE) as first,
        subprocess.Popen(["cat"], stdin=first.stdout, stdout=PIPE) as second,
    ):
        first.stdout.close()
        gevent.sleep(0.01)
        first.stdin.write(b"through both\n")
        first.stdin.close()
        assert second.communicate() == (b"through both\n", None)


@ours_only
def test_the_with_statement_ends_with_a_reader_in_the_pipe():
    with subprocess.Popen(["sleep", "60"], stdout=PIPE) as child:
        reading = gevent.spawn(child.stdout.read)
        gevent.sleep(0.01)
        child.kill()
    assert child.stdout.closed
    assert child.returncode == -signal.SIGKILL
    reading.join()


@ours_only
def test_in_another_thread(run_script: Any):
    script = """
        import threading
        from gevent import subprocess

        threads = [
            threading.Thread(
                target=lambda: results.append(subprocess.check_output(["echo", "out"]))
            )
            for _ in range(3)
        ]
        results = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(results)
        """
    assert run_script(script).check_quiet() == "[b'out\\n', b'out\\n', b'out\\n']\n"


@ours_only
def test_it_is_a_standard_process_with_the_standard_exceptions():
    assert issubclass(subprocess.Popen, standard.Popen)
    assert subprocess.TimeoutExpired is standard.TimeoutExpired
    assert set(standard.__all__) <= set(dir(subprocess))
    with pytest.warns(RuntimeWarning, match="line buffering"):
        subprocess.Popen(["true"], stdout=PIPE, bufsize=1).communicate()

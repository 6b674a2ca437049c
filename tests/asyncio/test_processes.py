"""Child processes and pipes of event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_support import Run

import greenloop.asyncio

PYTHON = sys.executable
#: More than pipes hold.
DATA = bytes(range(256)) * 2048


def threads() -> set[str]:
    """The threads of the process, of whatever kind. Those that other tests have left may end."""
    return {path.name for path in Path("/proc/self/task").iterdir()}


async def start(program: str, **options: Any) -> asyncio.subprocess.Process:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
    arguments = ("-I", "-S", "-c", program)
    return await asyncio.create_subprocess_exec(PYTHON, *arguments, **{**pipes, **options})


def test_children(run: Run) -> None:
    async def main() -> None:
        copy = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()); sys.exit(7)"
        child = await start(copy)
        assert await child.communicate(DATA) == (DATA, b"")
        assert child.returncode == 7
        assert await child.wait() == 7

        child = await start("import sys; print('text', file=sys.stderr); sys.stdin.read()")
        assert child.stderr is not None
        assert await child.stderr.readline() == b"text\n"
        assert child.returncode is None
        child.terminate()
        assert await child.wait() == -signal.SIGTERM
        # Newer Pythons ignore a signal to an ended child until its pipes are seen closed.
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        assert child.returncode == -signal.SIGTERM

        child = await asyncio.create_subprocess_shell("exit 3")
        assert await child.wait() == 3
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/nowhere/program")

        child = await start("import time; time.sleep(60)")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.wait(), 0.001)
        child.kill()
        assert await child.wait() == -signal.SIGKILL

    run(main())


@pytest.fixture(params=["pidfd", "none"])
def descriptors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With descriptors of processes, and where the system has none."""

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError("refused")

    if request.param == "none":
        monkeypatch.setattr(os, "pidfd_open", refuse)
        monkeypatch.setattr("greenloop.os._pidfd_open", refuse)


def in_this_thread(function: Callable[[], Any]) -> None:
    function()


def in_another_thread(function: Callable[[], Any]) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("where", [in_this_thread, in_another_thread])
@pytest.mark.usefixtures("descriptors")
def test_children_need_no_thread(where: Callable[..., None]) -> None:
    async def main() -> None:
        before = threads()
        children = [await start("input()") for _ in range(5)]
        assert threads() <= before
        # Nobody is held up while they run.
        await greenloop.spawn(greenloop.sleep, 0.001)
        for child in children:
            await child.communicate(b"\n")
        assert [child.returncode for child in children] == [0] * 5

    where(lambda: greenloop.asyncio.run(main()))


@pytest.mark.usefixtures("descriptors")
def test_no_signal_is_sent_to_a_number_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: set[int] = set()
    stray: list[int] = []
    wait, kill = os.waitpid, os.kill

    def noting_wait(pid: int, options: int) -> tuple[int, int]:
        found = wait(pid, options)
        ended.add(found[0])
        return found

    def noting_kill(pid: int, number: int) -> None:
        if pid in ended:
            stray.append(pid)
        else:
            kill(pid, number)

    monkeypatch.setattr(os, "waitpid", noting_wait)
    monkeypatch.setattr(os, "kill", noting_kill)

    async def main() -> None:
        child = await start("input()")
        while child.returncode is None:
            child.kill()
            await asyncio.sleep(0)
        assert await child.wait() == -signal.SIGKILL

    greenloop.asyncio.run(main())
    assert stray == []


@pytest.mark.usefixtures("descriptors")
def test_a_child_whose_status_somebody_else_has_taken(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        child = await start("input()")
        assert child.stdin is not None
        child.stdin.write(b"\n")
        await child.stdin.drain()
        # Blocks the loop and the hub: nobody of these takes it.
        os.waitpid(child.pid, 0)
        assert await child.wait() == 255

    greenloop.asyncio.run(main())
    assert "already read" in caplog.text


def test_a_loop_that_is_closed_before_the_child_ends() -> None:
    # What other tests have left is closed now.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    async def main() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(PYTHON, "-c", "import time; time.sleep(60)")

    for _ in range(3):
        child: Any = greenloop.asyncio.run(main())
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        del child
        with pytest.warns(ResourceWarning):
            gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_patched(run_script: Any) -> None:
    script = """
        from greenloop import monkey
        monkey.patch_all()
        import asyncio, subprocess, sys
        import greenloop, greenloop.asyncio

        COPY = [sys.executable, "-c", "import sys; print(sys.stdin.read() + 'end')"]

        async def child(number):
            child = await asyncio.create_subprocess_exec(*COPY, stdin=-1, stdout=-1)
            output, _ = await child.communicate(b"%d " % number)
            return output.decode(), child.returncode

        def blocking_child(number):
            done = subprocess.run(COPY, input=f"{number} ", stdout=-1, encoding="utf-8")
            return done.stdout, done.returncode

        async def in_task(number):
            return blocking_child(number)

        async def main():
            calls = [way(n) for n in range(3) for way in (child, in_task)]
            calls += [greenloop.spawn(blocking_child, n) for n in range(3)]
            return await asyncio.gather(*calls)

        found = greenloop.asyncio.run(main())
        numbers = [0, 0, 1, 1, 2, 2, 0, 1, 2]
        assert found == [(f"{n} end\\n", 0) for n in numbers], found
        print("done")
        """
    assert run_script(script, dropin=False).check_quiet() == "done\n"


class Collecting(asyncio.Protocol):
    """Collects what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(error)

    def pause_writing(self) -> None:
        self.told.append("paused")

    def resume_writing(self) -> None:
        self.told.append("resumed")


def test_pipes(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ends = os.pipe()
        reading, writing = os.fdopen(ends[0], "rb", 0), os.fdopen(ends[1], "wb", 0)
        reader, receiver = await loop.connect_read_pipe(Collecting, reading)
        writer, sender = await loop.connect_write_pipe(Collecting, writing)
        assert writer.get_extra_info("pipe") is writing
        reader.pause_reading()
        writer.write(DATA)
        assert sender.told == ["made", "paused"]
        assert writer.get_write_buffer_size() > 0
        reader.resume_reading()
        while writer.get_write_buffer_size():
            await asyncio.sleep(0)
        assert sender.told == ["made", "paused", "resumed"]
        writer.write_eof()
        assert await receiver.lost is None
        assert await sender.lost is None
        assert b"".join(part for part in receiver.told if isinstance(part, bytes)) == DATA
        assert receiver.told[-2:] == ["eof", "lost"]

    run(main())


def test_a_pipe_whose_reader_is_gone(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        writer, sender = await loop.connect_write_pipe(Collecting, os.fdopen(writing, "wb", 0))
        os.close(reading)
        writer.write(b"text")
        error = await sender.lost
        assert error is None or isinstance(error, BrokenPipeError)
        assert writer.is_closing()

    run(main())

"""What file objects promise beyond gevent's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.fileobject import FileObjectBlock, FileObjectPosix, FileObjectThread

import greenloop._fileobjectposix as implementation

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0

CLASSES = [FileObjectPosix, FileObjectThread, FileObjectBlock]


class Gate:
    """Holds native threads up until a greenlet opens it."""

    def __init__(self) -> None:
        self._reached = gevent.event.Event()
        self._open = threading.Event()

    def pass_through(self) -> None:
        self._reached.set()
        assert self._open.wait(GUARD)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(GUARD)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found in the page cache."""

    def refuse(*_: Any) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", refuse)
    monkeypatch.setattr(os, "pwritev", refuse)


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch, uncached: None) -> Callable[[str], Gate]:
    """A function that has a function of `os` wait at a gate."""

    def hold(name: str) -> Gate:
        gate = Gate()
        original = getattr(os, name)

        def held(*args: Any) -> Any:
            gate.pass_through()
            return original(*args)

        monkeypatch.setattr(os, name, held)
        return gate

    return hold


@pytest.mark.parametrize("cls", CLASSES)
def test_text_without_buffer_is_written_at_once(cls: Any, pipe: tuple[int, int]) -> None:
    with cls(pipe[1], "w", 0, closefd=False) as file:
        file.write("at once")
        assert os.read(pipe[0], 100) == b"at once"


@pytest.mark.parametrize("cls", CLASSES)
def test_a_path_has_to_be_closed(cls: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="closefd"):
        cls(tmp_path / "new", "w", closefd=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("cls", CLASSES)
def test_an_object_of_others_stays_open(cls: Any, tmp_path: Path) -> None:
    with open(tmp_path / "new", "x+b") as native:
        with cls(native, "r+", closefd=False) as file:
            file.write("abc")
        assert not native.closed
        native.seek(0)
        assert native.read() == b"abc"


@pytest.mark.parametrize("cls", CLASSES)
def test_a_file_on_disk_can_be_truncated(cls: Any, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"abcdef")
    with cls(path, "r+b") as file:
        assert file.truncate(2) == 2
    assert path.read_bytes() == b"ab"


@pytest.mark.parametrize("cls", CLASSES)
def test_using_a_closed_file_is_the_standard_error_too(cls: Any, tmp_path: Path) -> None:
    file = cls(tmp_path / "new", "w")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write("x")


def test_a_descriptor_that_is_not_closed_is_blocking_again(pipe: tuple[int, int]) -> None:
    for end, mode in zip(pipe, ("rb", "wb"), strict=True):
        with FileObjectPosix(end, mode, closefd=False):
            assert not os.get_blocking(end)
        assert os.get_blocking(end)
        os.set_blocking(end, False)
        FileObjectPosix(end, mode, closefd=False).close()
        assert not os.get_blocking(end), "it was so before"


def test_greenlets_share_a_reader(pipe: tuple[int, int]) -> None:
    # A standard buffer raises RuntimeError ("reentrant call") for the second.
    with FileObjectPosix(pipe[0], "rb") as reader:
        greenlets = [gevent.spawn(reader.readline) for _ in range(5)]
        gevent.sleep(0)
        os.write(pipe[1], b"".join(b"%d\n" % i for i in range(5)))
        gevent.joinall(greenlets, timeout=GUARD)
        assert [g.value for g in greenlets] == [b"%d\n" % i for i in range(5)]


def test_greenlets_share_a_writer(pipe: tuple[int, int]) -> None:
    lines = [f"{i}" * 50_000 for i in range(5)]
    with FileObjectPosix(pipe[0], "r") as reader:
        writer = FileObjectPosix(pipe[1], "w")
        greenlets = [gevent.spawn(writer.write, line + "\n") for line in lines]
        closing = gevent.spawn_later(0.01, writer.close)
        assert sorted(line.rstrip("\n") for line in reader) == lines
        gevent.joinall([*greenlets, closing], timeout=GUARD, raise_error=True)


def test_reading_and_writing_without_buffer_do_not_wait_for_each_other() -> None:
    first, second = gevent.socket.socketpair()
    with second, FileObjectPosix(first, "r+b", 0) as file:
        reading = gevent.spawn(file.read, 10)
        gevent.sleep(0)
        assert file.write(b"request") == 7
        assert second.recv(10) == b"request"
        second.sendall(b"answer")
        assert reading.get(timeout=GUARD) == b"answer"


@pytest.mark.parametrize("mode", ["r", "rb"])
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("count", [1, 3])
def test_close_ends_the_wait_of_readers(
    mode: str, buffering: int, count: int, pipe: tuple[int, int]
) -> None:
    if mode == "rb" and buffering == 0 and count > 1:
        count = 1  # Nobody makes them take turns: an error for the second.
    file = FileObjectPosix(pipe[0], mode, buffering)
    readers = [gevent.spawn(file.read, 10) for _ in range(count)]
    gevent.sleep(0)
    file.close()
    gevent.joinall(readers, timeout=GUARD)
    for reader in readers:
        assert isinstance(reader.exception, OSError), reader.exception
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe[0])


def test_close_lets_a_writer_finish(pipe: tuple[int, int]) -> None:
    data = b"x" * 300_000
    writer = FileObjectPosix(pipe[1], "wb")
    writing = gevent.spawn(writer.write, data)
    gevent.sleep(0)
    closing = gevent.spawn(writer.close)
    with FileObjectPosix(pipe[0], "rb") as reader:
        assert reader.read() == data
    gevent.joinall([writing, closing], timeout=GUARD, raise_error=True)


def test_a_close_that_is_given_up_closes_all_the_same(pipe: tuple[int, int]) -> None:
    writer = FileObjectPosix(pipe[1], "wb")
    writing = gevent.spawn(writer.write, b"x" * 300_000)
    gevent.sleep(0)
    with gevent.Timeout(0.01, False):
        writer.close()
    writing.join(timeout=GUARD)
    assert isinstance(writing.exception, OSError)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe[1])


def test_others_run_while_a_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    # Opening one end waits for the other.
    reading = gevent.spawn(lambda: FileObjectPosix(path).read())
    gevent.sleep(0)
    with FileObjectPosix(path, "w") as writer:
        writer.write("through")
    assert reading.get(timeout=GUARD) == "through"


@pytest.mark.parametrize("operation", ["read", "readline", "readinto"])
def test_others_run_while_a_disk_is_read(
    operation: str, tmp_path: Path, gated: Callable[[str], Gate]
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"line\n")
    gate = gated("pread")
    with FileObjectPosix(path, "rb") as file:
        buffer = bytearray(5)
        arguments = (buffer,) if operation == "readinto" else ()
        reading = gevent.spawn(getattr(file, operation), *arguments)
        gate.wait_until_reached()
        assert not reading.dead
        gate.open()
        result = reading.get(timeout=GUARD)
        assert (bytes(buffer) if operation == "readinto" else result) == b"line\n"


def test_a_read_of_a_disk_that_is_given_up_takes_nothing(
    tmp_path: Path, gated: Callable[[str], Gate]
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"first\nsecond\n")
    gate = gated("pread")
    with FileObjectPosix(path, "rb") as file:
        reading = gevent.spawn(file.readline)
        gate.wait_until_reached()
        reading.kill(timeout=GUARD)
        assert reading.dead
        gate.open()
        assert file.readline() == b"first\n"


def test_a_write_to_a_disk_is_not_left_halfway(
    tmp_path: Path, gated: Callable[[str], Gate]
) -> None:
    path = tmp_path / "data"
    gate = gated("write")
    file = FileObjectPosix(path, "ab")
    file.write(b"once")
    flushing = gevent.spawn(file.flush)
    gate.wait_until_reached()
    flushing.kill(block=False)
    gevent.sleep(0)
    assert not flushing.dead
    gate.open()
    flushing.join(timeout=GUARD)
    assert isinstance(flushing.value, gevent.GreenletExit)
    file.close()
    assert path.read_bytes() == b"once"


def test_what_is_longer_than_a_call_takes(tmp_path: Path, uncached: None) -> None:
    data = os.urandom(1 << 16) * 50
    path = tmp_path / "data"
    with FileObjectPosix(path, "wb", 0) as file:
        assert file.write(data) == len(data)
    for buffering in (0, -1):
        with FileObjectPosix(path, "rb", buffering) as file:
            assert file.read() == data
    with FileObjectPosix(path, "rb") as file:
        buffer = bytearray(len(data))
        assert file.readinto(buffer) == len(data)
        assert buffer == data


def test_file_systems_that_know_nothing_of_their_cache() -> None:
    with FileObjectPosix("/proc/self/status") as file:
        assert file.readline().startswith("Name:")
        assert "Threads:" in file.read()


def test_a_device_that_is_full_is_told_of() -> None:
    file = FileObjectPosix("/dev/full", "wb")
    file.write(b"x")
    with pytest.raises(OSError, match="No space"):
        file.flush()
    with pytest.raises(OSError, match="No space"):
        file.close()
    assert file.closed
    assert file.fileio.closed


def test_what_was_written_before_an_error_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uncached: None
) -> None:
    monkeypatch.setattr(implementation, "CHUNK", 3)
    original = os.write
    calls: list[int] = []

    def fail_second(fd: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return original(fd, data)

    monkeypatch.setattr(os, "write", fail_second)
    with FileObjectPosix(tmp_path / "data", "wb", 0) as file:
        assert file.write(b"abcdef") == 3
        assert file.write(b"def") == 3
    assert (tmp_path / "data").read_bytes() == b"abcdef"


def test_a_thread_keeps_the_lock_of_a_call_that_is_given_up() -> None:
    gate = Gate()
    order: list[str] = []

    class Slow:
        closed = False
        name = "slow"
        read1 = None

        def fileno(self) -> int:
            raise OSError

        def read(self, label: str) -> None:
            if label == "first":
                gate.pass_through()
            order.append(label)

        def close(self) -> None:
            self.closed = True

    file = FileObjectThread(Slow(), "rb")
    first = gevent.spawn(file.read, "first")
    gate.wait_until_reached()
    first.kill(timeout=GUARD)
    second = gevent.spawn(file.read, "second")
    gevent.sleep(0)
    assert order == []
    gate.open()
    second.join(timeout=GUARD)
    assert order == ["first", "second"]
    file.close()

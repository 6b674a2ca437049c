"""gevent.fileobject: as documented, for all its classes."""

from __future__ import annotations

import array
import io
import os
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import fileobject, socket
from gevent.fileobject import FileObjectBlock, FileObjectPosix, FileObjectThread
from gevent.lock import Semaphore
from scripts import RunScript

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0

CLASSES = [FileObjectPosix, FileObjectThread, FileObjectBlock]
COOPERATIVE = [FileObjectPosix, FileObjectThread]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three lines of text."""
    path = tmp_path / "lines"
    path.write_bytes("erste\nzweite\ndritte \N{SNOWMAN}\n".encode())
    return path


def is_blocking(fd: int) -> bool:
    return os.get_blocking(fd)


def test_the_default_is_the_posix_class() -> None:
    assert fileobject.FileObject is FileObjectPosix


@pytest.mark.parametrize("name", ["posix", "thread", "block"])
def test_the_class_is_chosen_by_a_setting(name: str, run_script: RunScript) -> None:
    result = run_script(
        "from gevent import fileobject; print(fileobject.FileObject.__name__)",
        env={"GEVENT_FILE": name},
    )
    assert result.stdout == f"FileObject{name.capitalize()}\n"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("mode", ["r", "rt", "rb", "r+", "r+b"])
@pytest.mark.parametrize("how", ["path", "text path", "bytes path", "descriptor", "object"])
def test_reads_what_open_reads(cls: Any, mode: str, how: str, path: Path) -> None:
    with open(path, mode) as native:
        expected = native.read(), type(native), set(native.mode)
    given: Any = {"path": path, "text path": str(path), "bytes path": os.fsencode(path)}.get(how)
    if how == "descriptor":
        given = os.open(path, os.O_RDWR)
    elif how == "object":
        given = open(path, mode)  # noqa: SIM115 - closed by the file object
    with cls(given, mode) as file:
        assert (file.read(), type(file.io), set(file.mode)) == expected
        assert file.tell() == path.stat().st_size
    assert file.closed
    if how == "object":
        assert given.closed
    if how == "descriptor":
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.close(given)


@pytest.mark.parametrize("cls", CLASSES)
def test_lines_and_seeking(cls: Any, path: Path) -> None:
    expected = path.read_text("utf-8").splitlines(keepends=True)
    with cls(path, encoding="utf-8") as file:
        assert list(file) == expected
        file.seek(0)
        assert file.readlines() == expected
        file.seek(0)
        assert file.readline() == next(iter(expected))
        assert next(file) == expected[1]
    with cls(path, "rb") as file:
        assert file.seekable()
        assert file.seek(-5, os.SEEK_END) == path.stat().st_size - 5
        assert file.peek(1)[:1] == file.read1(1)
        buffer = array.array("H", [0])
        assert file.readinto(buffer) == 2


@pytest.mark.parametrize("cls", CLASSES)
def test_writing_text(cls: Any, tmp_path: Path) -> None:
    path = tmp_path / "new"
    with cls(path, "x", encoding="latin-1", errors="replace", newline="\r\n") as file:
        file.write("ä\N{SNOWMAN}\n")
        file.writelines(["b\n"])
    assert path.read_bytes() == b"\xe4?\r\nb\r\n"
    with cls(path, "a", newline="") as file:
        file.write("c\n")
    with cls(path, "r", newline="", encoding="latin-1") as file:
        assert file.readlines() == ["ä?\r\n", "b\r\n", "c\n"]
    with cls(path, "r+b") as file:
        file.write(b"X")
        assert file.read(1) == b"?"
    assert path.read_bytes() == b"X?\r\nb\r\nc\n"


@pytest.mark.parametrize("cls", CLASSES)
def test_when_writing_reaches_the_file(cls: Any, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    os.set_blocking(read_end, False)

    def arrived() -> bytes:
        try:
            return os.read(read_end, 100)
        except BlockingIOError:
            return b""

    with cls(write_end, "wb", 0, closefd=False) as file:
        file.write(b"at once")
        assert arrived() == b"at once"
    with cls(write_end, "w", 1, closefd=False) as file:
        file.write("no line")
        assert arrived() == b""
        file.write(", a line\n")
        assert arrived() == b"no line, a line\n"
    with cls(write_end, "wb", closefd=False) as file:
        file.write(b"kept back")
        assert arrived() == b""
        file.flush()
        assert arrived() == b"kept back"
        file.write(b"until closed")
    assert arrived() == b"until closed"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"mode": 42}, TypeError, "invalid mode"),
        ({"mode": "rw"}, ValueError, "read/write/append mode at once"),
        ({"mode": "rbt"}, ValueError, "text and binary mode at once"),
        ({"mode": "b"}, ValueError, "exactly one of"),
        ({"mode": "rr"}, ValueError, "invalid mode"),
        ({"mode": "rb", "encoding": "ascii"}, ValueError, "take an encoding"),
        ({"mode": "rb", "errors": "strict"}, ValueError, "take an errors"),
        ({"mode": "rb", "newline": ""}, ValueError, "take a newline"),
        ({"newline": "x"}, ValueError, "newline"),
        ({"encoding": "none such"}, LookupError, "unknown encoding"),
        ({"buffering": "x"}, TypeError, "invalid buffering"),
        ({"buffering": 1, "bufsize": 2}, TypeError, "both"),
        ({"closefd": True, "close": False}, TypeError, "both"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_arguments_that_do_not_fit(
    cls: Any, arguments: dict[str, Any], error: type[Exception], text: str, path: Path
) -> None:
    with pytest.raises(error, match=text):
        cls(path, **arguments)


@pytest.mark.parametrize("cls", CLASSES)
def test_files_that_cannot_be_opened(cls: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cls(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        cls(tmp_path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cls(1_000_000)
    with pytest.raises(ValueError, match="negative"):
        cls(-1)
    with pytest.raises(TypeError):
        cls(object())


@pytest.mark.parametrize("cls", CLASSES)
def test_a_closed_file(cls: Any, path: Path) -> None:
    file = cls(path)
    file.close()
    file.close()
    assert file.closed
    assert file.name == str(path)
    assert "closed" in repr(file)
    for use in (
        file.__next__,
        file.__iter__().__next__,
        lambda: file.read(),
        lambda: file.fileno(),
    ):
        with pytest.raises(OSError, match="FileObject was closed"):
            use()


@pytest.mark.parametrize("cls", COOPERATIVE)
def test_others_run_while_a_pipe_is_read(cls: Any, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with cls(read_end, "rb") as reader, cls(write_end, "wb", 0) as writer:
        greenlet = gevent.spawn(reader.readline)
        gevent.sleep(0)
        assert not greenlet.dead
        writer.write(b"half ")
        gevent.sleep(0)
        writer.write(b"line\n")
        assert greenlet.get(timeout=GUARD) == b"half line\n"


@pytest.mark.parametrize("cls", COOPERATIVE)
def test_more_than_a_pipe_holds(cls: Any, pipe: tuple[int, int]) -> None:
    data = bytes(range(256)) * 4096
    read_end, write_end = pipe

    def write() -> None:
        with cls(write_end, "wb") as writer:
            assert writer.write(data) == len(data)

    writing = gevent.spawn(write)
    with cls(read_end, "rb") as reader:
        assert reader.read() == data
    writing.get(timeout=GUARD)


@pytest.mark.parametrize("cls", COOPERATIVE)
def test_text_mode_over_a_pipe_decodes_across_reads(cls: Any, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with cls(read_end, "r", encoding="utf-8") as reader:
        reading = gevent.spawn(reader.readline)
        snowman = "\N{SNOWMAN}".encode()
        for byte in (snowman[:1], snowman[1:], b"\n"):
            os.write(write_end, byte)
            gevent.sleep(0)
        assert reading.get(timeout=GUARD) == "\N{SNOWMAN}\n"


def test_a_timeout_ends_a_read_and_the_file_goes_on(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with FileObjectPosix(read_end, "rb") as reader:
        with gevent.Timeout(0.01, False):
            reader.readline()
        os.write(write_end, b"later\n")
        assert reader.readline() == b"later\n"


def test_the_descriptor_is_non_blocking_meanwhile(pipe: tuple[int, int]) -> None:
    file = FileObjectPosix(pipe[0], "rb", closefd=False)
    assert not is_blocking(pipe[0])
    file.close()
    os.fstat(pipe[0])


def test_a_thread_file_leaves_the_descriptor_blocking(pipe: tuple[int, int]) -> None:
    with FileObjectThread(pipe[0], "rb", closefd=False):
        assert is_blocking(pipe[0])


def test_fileio_reads_without_the_buffer(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"abc")
    with FileObjectPosix(pipe[0], "rb", closefd=False) as file:
        assert isinstance(file.fileio, io.RawIOBase)
        assert file.fileio.read(2) == b"ab"
        assert file.fileio.readinto(bytearray(5)) == 1


def test_a_socket_can_be_wrapped() -> None:
    first, second = socket.socketpair()
    with second:
        with FileObjectPosix(first, "rb") as reader, FileObjectPosix(first, "wb", 0) as writer:
            reading = gevent.spawn(reader.readline)
            gevent.sleep(0)
            writer.write(b"ping\n")
            assert second.recv(10) == b"ping\n"
            # A wait for the same socket by another way is not in its way.
            first.sendall(b"again\n")
            second.sendall(b"pong\n")
            assert reading.get(timeout=GUARD) == b"pong\n"
        assert first.fileno() == -1


def test_two_files_on_one_descriptor_wait_at_the_same_time() -> None:
    first, second = socket.socketpair()
    fd = first.detach()
    with second, FileObjectPosix(fd, "rb") as reader:
        writer = FileObjectPosix(fd, "wb", 0, closefd=False, atomic_write=True)
        data = b"x" * 1_000_000
        reading = gevent.spawn(reader.readline)
        writing = gevent.spawn(writer.write, data)
        gevent.sleep(0)
        assert not reading.dead
        assert not writing.dead
        received = 0
        while received < len(data):
            received += len(second.recv(65536))
        second.sendall(b"done\n")
        assert reading.get(timeout=GUARD) == b"done\n"
        assert writing.get(timeout=GUARD) == len(data)


def test_calls_in_threads_are_made_one_by_one(path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            import time

            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()
            return super().read(size)

    with FileObjectThread(Slow(b"abcdef"), "rb") as file:
        greenlets = [gevent.spawn(file.read, 1) for _ in range(4)]
        gevent.joinall(greenlets, timeout=GUARD)
        assert {g.value for g in greenlets} == {b"a", b"b", b"c", b"d"}
    assert max(most) == 1


def test_the_lock_of_a_thread_file_can_be_given() -> None:
    lock = Semaphore()
    with FileObjectThread(io.BytesIO(b"abc"), "rb", lock=lock) as file:
        assert file.lock is lock
        with lock:
            reading = gevent.spawn(file.read)
            gevent.sleep(0.01)
            assert not reading.dead
        assert reading.get(timeout=GUARD) == b"abc"
    with pytest.raises(TypeError, match="Semaphore or boolean"):
        FileObjectThread(io.BytesIO(), "rb", lock=object())


def test_atomic_write_writes_everything(pipe: tuple[int, int]) -> None:
    data = b"x" * 200_000
    with FileObjectPosix(pipe[1], "wb", 0, atomic_write=True) as writer:
        writing = gevent.spawn(writer.write, data)
        with FileObjectPosix(pipe[0], "rb") as reader:
            assert reader.read(len(data)) == data
        assert writing.get(timeout=GUARD) == len(data)

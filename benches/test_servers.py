"""What echo servers are measured with: the native programs, and how workloads use them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benches.companions import launch
from benches.companions.launch import Companion
from benches.harness import Bench, select
from benches.runner import ROOT
from benches.workloads import echo_server, recv_ready

SECONDS = 30  # within which anything here ends, unless it hangs
QUICK = ["--warm-up", "0.05", "--seconds", "0.2"]

needs_native = pytest.mark.skipif(
    not (launch.NATIVE / "echo_load").exists(), reason="`make native-benches` builds the programs"
)


@pytest.fixture
def native_server() -> Iterator[Companion]:
    with Companion("echo_server", "--bytes", 4096, cpu=None, native=True) as server:
        yield server


def run_load(port: int, pid: int, connections: int, size: int) -> subprocess.CompletedProcess[str]:
    arguments = ["--port", port, "--pid", pid, "--connections", connections, "--bytes", size]
    command = [str(launch.NATIVE / "echo_load"), *map(str, arguments), *QUICK]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # It ends when its standard input does, which is open until it has ended by itself.
    with subprocess.Popen(command, text=True, **pipes) as load:
        output, errors = load.stdout.read(), load.stderr.read()  # type: ignore[union-attr]
        status = load.wait(SECONDS)
    return subprocess.CompletedProcess(command, status, output, errors)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], object]], int]]:
    """Starts a server that calls a function with one connection, in a thread; returns its port."""
    threads = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)

        def start(handle: Callable[[socket.socket], object]) -> int:
            def run() -> None:
                with listener.accept()[0] as connection:
                    connection.settimeout(SECONDS)
                    handle(connection)

            threads.append(threading.Thread(target=run))
            threads[-1].start()
            return int(listener.getsockname()[1])

        yield start
        for thread in threads:
            thread.join()


def echo(connection: socket.socket) -> int:
    """Echo until the other side has finished; return how many bytes."""
    total = 0
    while data := connection.recv(65536):
        connection.sendall(data)
        total += len(data)
    return total


@needs_native
@pytest.mark.parametrize(("connections", "size"), [(1, 1), (20, 1024), (3, 1 << 20)])
def test_load_on_the_native_server(native_server: Companion, connections: int, size: int) -> None:
    port = native_server.read()["port"]
    done = run_load(port, native_server.pid, connections, size)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["messages"] > 0
    assert seen["seconds"] >= 0.2
    # The server has no threads: it cannot have used more than one CPU.
    assert 0 < seen["cpu"] <= seen["seconds"] * 1.1


@needs_native
def test_load_counts_messages_and_reads_the_clock_of_the_process_it_is_told(
    serve: Callable[[Callable[[socket.socket], object]], int],
) -> None:
    received: list[int] = []
    port = serve(lambda connection: received.append(echo(connection)))
    # A process that does nothing: its clock stands still, whoever serves.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        done = run_load(port, idle.pid, 1, 100)
        idle.communicate(b"\n")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["cpu"] < seen["seconds"]
    # All came whole, also those of the warm-up and the one that was under way at the end.
    (total,) = received
    assert total % 100 == 0
    assert total // 100 > seen["messages"]


@needs_native
@pytest.mark.parametrize(
    ("handle", "complaint"),
    [
        (lambda connection: connection.recv(10), "closed a connection"),
        (lambda connection: connection.sendall(connection.recv(100) * 2), "more than it got"),
    ],
)
def test_load_fails_if_the_server_is_wrong(
    serve: Callable[[Callable[[socket.socket], object]], int],
    handle: Callable[[socket.socket], object],
    complaint: str,
) -> None:
    done = run_load(serve(handle), os.getpid(), 1, 100)
    assert done.returncode != 0
    assert complaint in done.stderr or "reset" in done.stderr
    assert done.stdout == ""


@needs_native
@pytest.mark.parametrize("name", ["echo_load", "echo_server"])
def test_native_programs_refuse_wrong_arguments(name: str) -> None:
    for arguments in (["--nothing", "1"], ["--cpu"], ["--cpu", "x"], []):
        done = subprocess.run(
            [launch.NATIVE / name, *arguments],
            stdin=subprocess.PIPE,
            capture_output=True,
            timeout=SECONDS,
        )
        assert done.returncode == 2
        assert done.stderr


@needs_native
def test_native_programs_end_with_their_standard_input() -> None:
    with Companion("echo_server", "--bytes", 16, cpu=None, native=True) as server:
        port = server.read()["port"]
        arguments = ["--port", port, "--pid", server.pid, "--connections", 2, "--bytes", 16]
        times = ["--warm-up", SECONDS, "--seconds", SECONDS]
        with (
            Companion("echo_load", *arguments, *times, cpu=None, native=True) as client,
            pytest.raises(EOFError),
        ):
            client.finish()


def test_a_native_program_that_is_not_built_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "NATIVE", tmp_path)
    with pytest.raises(FileNotFoundError, match="make native-benches"):
        Companion("echo_server", cpu=None, native=True)


def test_result_is_per_message_and_needs_enough_of_them() -> None:
    class Client:
        def __init__(self, messages: int) -> None:
            self.messages = messages

        def read(self) -> dict[str, Any]:
            return {"messages": self.messages, "seconds": 3.0, "cpu": 1.5}

    bench = Bench("greenloop", 10, quick=True)
    client: Any = Client(10)
    assert echo_server.result(bench, client) == pytest.approx({"time": 0.3, "cpu": 0.15})
    client = Client(9)
    with pytest.raises(RuntimeError, match="only 9 messages"):
        echo_server.result(bench, client)


@pytest.mark.parametrize(
    ("workload", "keys"),
    [
        ("echo_server", {"time", "cpu"}),
        ("tls_echo", {"time", "cpu"}),
        ("memory_connections", {"memory"}),
        ("recv_ready", {"time"}),
        ("import_patch", {"time", "cpu"}),
    ],
)
@needs_native
def test_workloads_run(workload: str, keys: set[str]) -> None:
    pytest.importorskip("trustme")
    command = [sys.executable, "-m", f"benches.workloads.{workload}", "--impl", "greenloop"]
    done = subprocess.run(
        [*command, "--quick", "--size", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    assert set(metrics) == keys
    # So few connections may fit into memory that the process has already.
    assert all(value > 0 or workload == "memory_connections" for value in metrics.values())


@pytest.mark.parametrize("ops", [1, 511, 512, 513, 1000, 1024, 5000])
def test_recv_is_never_asked_for_more_than_was_sent(ops: int) -> None:
    calls = 0

    class Counting:
        """A socket that counts the reads of single messages; nobody waits for what is not sent."""

        def __init__(self, wrapped: socket.socket) -> None:
            wrapped.settimeout(1)
            self.wrapped = wrapped

        def recv(self, size: int) -> bytes:
            nonlocal calls
            calls += size == recv_ready.BYTES
            return self.wrapped.recv(size)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *error: object) -> None:
            self.wrapped.close()

    class Once:
        def seconds_per_op(self, batch: Callable[[int], object]) -> float:
            batch(ops)
            return 1.0

    def make_connection() -> tuple[Any, Any]:
        here, there = socket.socketpair()
        return Counting(here), there

    bench: Any = Once()
    assert recv_ready.measure(bench, make_connection) == {"time": 1.0}
    assert ops - recv_ready.CALLS_PER_FILL < calls <= ops + recv_ready.CALLS_PER_FILL


def test_floors_and_protocols_stand_for_what_they_are_named_for() -> None:
    for floor in ("native", "blocking", "generator"):
        assert select(floor).__version__ == sys.version.split()[0]
    with pytest.raises(ModuleNotFoundError):
        select("nothing_protocol")

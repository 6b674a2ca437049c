"""Servers that tests start: they are up when they are said to be, and leave nothing behind."""

from __future__ import annotations

import importlib
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"

# Listens for as long as a child that it has lets it, and has said who that is.
LISTENS = """
    import socket, subprocess, sys
    from pathlib import Path

    child = subprocess.Popen(["sleep", "1000"])
    Path("child").write_text(str(child.pid))
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    child.wait()
"""


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    servers = importlib.import_module("servers")
    if servers.services.find("setpriv") is None:
        pytest.skip("setpriv is not installed")
    return servers


@pytest.fixture
def plan(servers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that adds a server called "program", which is a Python program."""

    def add(source: str, **options: object) -> None:
        def make(directory: Path, port: int) -> object:
            # The interpreter may lie where an unprivileged user cannot go.
            command = [sys.executable, "-c", dedent(source), str(port)]
            return servers.Plan(command, f"test://{port}", as_root=True, **options)

        monkeypatch.setitem(servers.SERVERS, "program", make)

    return add


def running(pid: int) -> bool:
    """Whether a process runs. One that ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_servers_are_up_and_stop_with_their_children(
    servers: ModuleType, plan: Callable[..., None]
) -> None:
    plan(LISTENS)
    with servers.running("program") as server:
        socket.create_connection((servers.HOST, server.port)).close()
        child = int((server.directory / "child").read_text())
        assert running(child)
    assert server.process.returncode is not None
    while running(child):  # it is killed already, and needs the processor once more to end
        time.sleep(0.01)
    assert not server.directory.exists()


def test_they_are_stopped_when_the_body_fails(
    servers: ModuleType, plan: Callable[..., None]
) -> None:
    plan(LISTENS)
    with pytest.raises(ZeroDivisionError), servers.running("program") as server:
        raise ZeroDivisionError
    assert server.process.returncode is not None


def test_more_than_the_socket_can_be_asked_for(
    servers: ModuleType, plan: Callable[..., None]
) -> None:
    asked = iter([False, False, True])
    plan(LISTENS, ready=lambda: next(asked))
    with servers.running("program"):
        assert list(asked) == []


def test_a_server_that_ends_says_why(servers: ModuleType, plan: Callable[..., None]) -> None:
    plan("raise SystemExit('no such luck')")
    with pytest.raises(servers.ServerError, match="ended at once:\nno such luck"):
        servers.running("program").__enter__()


def test_missing_programs_are_told_from_errors(
    servers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers.services, "find", lambda name: None)
    for name in servers.SERVERS:
        with pytest.raises(servers.ProgramMissingError, match="is not installed"):
            servers.running(name).__enter__()


def test_ports_are_none_that_clients_get(servers: ModuleType) -> None:
    with socket.create_server((servers.HOST, 0)) as server:
        given = server.getsockname()[1]
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert given >= first
    if first < 20_000:
        pytest.skip(f"clients get ports from {first} on")
    ports = {servers.free_port() for _ in range(50)}
    assert max(ports) < first
    assert len(ports) > 1

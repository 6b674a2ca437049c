"""gevent.backdoor: consoles for those who connect."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.backdoor import BackdoorServer

# Seconds. Guards against hangs: nothing is expected to take so long.
GUARD = 30.0

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"

beyond_gevent = pytest.mark.skipif(PEER, reason="what greenloop promises beyond gevent")


class Console:
    """A connection to a backdoor."""

    def __init__(self, server: Any) -> None:
        self.sock = socket.create_connection(server.address, timeout=GUARD)
        self.banner = self.read_to_prompt()

    def read_to_prompt(self) -> str:
        """What comes until the next prompt, or the end."""
        data = b""
        while not data.endswith((b">>> ", b"... ")):
            piece = self.sock.recv(1000)
            if not piece:
                break
            data += piece
        text = data.decode()
        return text.removesuffix(">>> ").removesuffix("... ")

    def __call__(self, line: str | bytes) -> str:
        self.sock.sendall((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.read_to_prompt()


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Console]]:
    """Starts a backdoor, and connects to it. No console may end by an error."""
    errors: list[Any] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *args: errors.append(args))
    servers: list[Any] = []
    consoles: list[Console] = []

    def connect(**arguments: Any) -> Console:
        if arguments or not servers:
            servers.append(BackdoorServer(("127.0.0.1", 0), **arguments))
            servers[-1].start()
        consoles.append(Console(servers[-1]))
        return consoles[-1]

    connect.servers = servers  # type: ignore[attr-defined]
    yield connect
    for console in consoles:
        console.sock.close()
    for server in servers:
        server.stop()
    assert errors == []


def test_expressions_and_statements(connect: Callable[..., Console]) -> None:
    console = connect()
    assert console("2 + 2") == "4\n"
    assert console("x = 5") == ""
    assert console("for i in range(2):") == ""
    assert console("    print(i)") == ""
    assert console("") == "0\n1\n"
    assert console("x") == "5\n"
    assert console("'\N{SNOWMAN}'") == "'\N{SNOWMAN}'\n"
    assert console("_") == "'\N{SNOWMAN}'\n"
    assert console("None") == ""


def test_errors_are_shown(connect: Callable[..., Console]) -> None:
    console = connect()
    shown = console("1/0").splitlines()
    assert (shown[0], shown[-1]) == (
        "Traceback (most recent call last):",
        "ZeroDivisionError: division by zero",
    )
    assert "backdoor" not in "".join(shown)
    assert "SyntaxError" in console("1 +")
    assert "KeyboardInterrupt" in console("raise KeyboardInterrupt")


def test_the_banner_and_the_names(connect: Callable[..., Console]) -> None:
    assert connect().banner.startswith(f"Python {sys.version}")
    names = {"answer": 42}
    console = connect(banner="Welcome!", locals=names)
    assert console.banner == "Welcome!\n"
    assert console("answer") == "42\n"
    console("answer = 43")
    assert names == {"answer": 42}
    assert Console(connect.servers[-1])("answer") == "42\n"  # type: ignore[attr-defined]
    assert len(console("locals()")) < 300


@pytest.mark.parametrize("line", ["quit()", "exit()", "import sys; sys.exit(3)"])
def test_the_end(line: str, connect: Callable[..., Console]) -> None:
    console = connect()
    assert console(line) == ""
    assert console.sock.recv(1) == b""


def test_streams_are_those_of_the_connection(
    connect: Callable[..., Console], capsys: pytest.CaptureFixture[str]
) -> None:
    console = connect(locals={"gevent": gevent})
    assert console("import sys; _ = sys.stderr.write('error\\n')") == "error\n"
    assert console("gevent.sleep(0.001); print('after a switch')") == "after a switch\n"
    console.sock.sendall(b"name = input('name? ')\n")
    prompt = b""
    while prompt != b"name? ":
        prompt += console.sock.recv(10)
    console("Ann")
    assert console("name") == "'Ann'\n"
    assert console("gevent.spawn(print, 'elsewhere').join()") == ""
    print("here")
    assert capsys.readouterr().out == "elsewhere\nhere\n"


def test_consoles_do_not_meet(connect: Callable[..., Console]) -> None:
    first, second = connect(), connect()
    first("x = 1")
    assert "NameError" in second("x")
    assert first("print('first')") == "first\n"
    assert second("print('second')") == "second\n"
    first("quit()")
    assert second("print('second')") == "second\n"


def test_streams_are_restored(connect: Callable[..., Console]) -> None:
    before = sys.stdin, sys.stdout, sys.stderr, sys.displayhook
    console = connect()
    console("quit()")
    gevent.sleep(0.01)
    assert (sys.stdin, sys.stdout, sys.stderr, sys.displayhook) == before


def test_stopping_ends_the_consoles(connect: Callable[..., Console]) -> None:
    console = connect()
    connect.servers[0].stop(timeout=0.01)  # type: ignore[attr-defined]
    assert console.sock.recv(1) == b""


@beyond_gevent
def test_stopping_ends_what_runs_in_a_console(connect: Callable[..., Console]) -> None:
    console = connect(locals={"gevent": gevent, "GUARD": GUARD})
    console.sock.sendall(b"gevent.sleep(GUARD)\n")
    gevent.sleep(0.01)
    connect.servers[0].stop(timeout=0.01)  # type: ignore[attr-defined]
    assert console.sock.recv(1) == b""


@beyond_gevent
def test_the_last_value_is_the_consoles_own(connect: Callable[..., Console]) -> None:
    # Programs have their translations there.
    assert not hasattr(builtins, "_")
    connect()("2 + 2")
    assert not hasattr(builtins, "_")


@beyond_gevent
def test_tracebacks_go_to_the_console_whatever_the_hook(
    connect: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: seen.append(args))
    assert "ZeroDivisionError" in connect()("1/0")
    assert seen == []


@beyond_gevent
def test_what_is_no_text_does_not_end_a_console(connect: Callable[..., Console]) -> None:
    console = connect()
    assert "SyntaxError" in console(b"\xfe")
    # What telnet sends for Ctrl-C, and Ctrl-D.
    assert console(b"\xff\xf4\xff\xfd\x062 + 2") == "4\n"
    assert console(b"\x04") == ""
    assert console.sock.recv(1) == b""


@beyond_gevent
def test_programs_without_streams(
    connect: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    console = connect()
    assert console("2 + 2") == "4\n"
    print("nowhere")
    console("quit()")
    gevent.sleep(0.01)
    assert sys.stdout is None


@beyond_gevent
def test_what_the_program_puts_there_meanwhile_stays(
    connect: Callable[..., Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sys.stdout
    console = connect()
    other = open(os.devnull, "w")  # noqa: SIM115 - closed below
    sys.stdout = other
    console("quit()")
    gevent.sleep(0.01)
    assert sys.stdout is other
    sys.stdout = original
    other.close()

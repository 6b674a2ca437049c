"""Workers of `greenloop serve`: how they are started, watched over, replaced and stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from scripts import SCRIPT_TIMEOUT
from serve_support import APP, Load, Served, eventually, get


def test_an_orderly_end(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        assert server.get() == "hello"
        assert server.stop() == 0
        assert "stopping" in server.text
        assert "Traceback" not in server.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_requests(tmp_path: Path, number: int) -> None:
    with Served(tmp_path, "--workers", "2") as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        server.send(number)
        server.wait_for("stopping")
        (tmp_path / "go").touch()
        answer = b""
        while data := sock.recv(65536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"waited")
        assert server.end() == 0


def test_a_stop_does_not_wait_longer_than_is_said(tmp_path: Path) -> None:
    with Served(tmp_path, "--graceful-timeout", "0.2") as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        assert server.stop() == 0
        # The client is told that there will be no answer.
        assert b"waited" not in sock.recv(65536)


def test_a_worker_that_gives_no_way_is_killed(tmp_path: Path) -> None:
    source = """\
    import time
    from pathlib import Path


    def app(environ, start_response):
        Path("begun").touch()
        while True:
            pass
    """
    arguments = ("--graceful-timeout", "0.1")
    with Served(tmp_path, *arguments, source=source) as server, server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually((tmp_path / "begun").exists)
        assert server.stop() == 0
        assert "does not end; killed" in server.text


def test_sigquit_stops_at_once(tmp_path: Path) -> None:
    with Served(tmp_path) as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        assert server.stop(signal.SIGQUIT) == 0


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with Served(tmp_path) as server, server.connect() as sock:
        sock.sendall(b"GET /wait?a HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually((tmp_path / "begun-a").exists)
        server.send(signal.SIGINT)
        server.wait_for("stopping")
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_under_load_loses_nothing(tmp_path: Path, whole_group: bool) -> None:
    with Served(tmp_path, "--workers", "2") as server:
        server.pids(2)
        with Load(("127.0.0.1", server.port), clients=12) as load:
            if whole_group:
                os.killpg(server.process.pid, signal.SIGTERM)
            else:
                server.send(signal.SIGTERM)
            load.join_refused()
        assert server.end() == 0
        assert not any(load.failures), load.failures
        assert len(load.refused) == 12


def test_sigterm_under_load_loses_nothing_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Served(tmp_path, "--workers", "2", "--bind", f"unix:{path}", bind=False) as server:
        with Load(path) as load:
            server.send(signal.SIGTERM)
            load.join_refused()
        assert server.end() == 0
        assert not any(load.failures), load.failures
        assert not path.exists()


def test_a_worker_that_is_killed_loses_only_its_requests(tmp_path: Path) -> None:
    with Served(tmp_path, "--workers", "2") as server:
        victim = min(server.pids(2))
        with Load(("127.0.0.1", server.port), clients=8) as load:
            os.kill(int(victim), signal.SIGKILL)
            load.wait_for_answers(10)
            server.wait_for(f"worker {victim} has died: SIGKILL")
            load.wait_for_answers(3)
        assert not load.refused
        # A client has one request at a time.
        assert all(len(failures) <= 1 for failures in load.failures), load.failures
        assert victim not in server.pids(2)
        assert server.stop() == 0


def test_connections_wait_for_the_next_worker(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        pid = server.get("/pid")
        os.kill(int(pid), signal.SIGSTOP)
        with server.connect() as sock:
            sock.sendall(b"GET /pid HTTP/1.0\r\n\r\n")
            os.kill(int(pid), signal.SIGKILL)
            with sock.makefile("rb") as file:
                answer = file.read()
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
        assert not answer.endswith(pid.encode())


def test_sighup_replaces_workers_and_loses_nothing(tmp_path: Path) -> None:
    with Served(tmp_path, "--workers", "2") as server:
        before = server.pids(2)
        with Load(("127.0.0.1", server.port)) as load:
            (tmp_path / "app.py").write_text(APP.replace("hello", "changed"))
            server.send(signal.SIGHUP)
            after = server.pids(2, without=before)
        assert not any(load.failures), load.failures
        assert not load.refused
        assert len(after) == 2
        assert server.get() == "changed"
        assert server.stop() == 0


def test_workers_go_on_if_the_new_application_cannot_be_loaded(tmp_path: Path) -> None:
    with Served(tmp_path, "--workers", "2") as server:
        before = server.pids(2)
        (tmp_path / "app.py").write_text("1 / 0\n")
        server.send(signal.SIGHUP)
        server.wait_for("the workers that are there go on")
        assert "ZeroDivisionError" in server.text
        assert server.pids(2) == before
        (tmp_path / "app.py").write_text(APP)
        server.send(signal.SIGHUP)
        server.pids(2, without=before)


def test_the_number_of_workers_can_be_changed(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        first = server.pids(1)
        server.send(signal.SIGTTIN)
        server.wait_for("2 workers from now on")
        assert first < server.pids(2)
        server.send(signal.SIGTTOU)
        server.wait_for("1 workers from now on")
        server.pids(1)
        server.send(signal.SIGTTOU)
        server.wait_for("1 workers from now on", 2)
        server.pids(1)
        assert server.stop() == 0


def test_sigterm_to_a_worker_replaces_it(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        (pid,) = server.pids(1)
        with Load(("127.0.0.1", server.port)) as load:
            os.kill(int(pid), signal.SIGTERM)
            server.pids(1, without={pid})
        assert not any(load.failures), load.failures
        assert not load.refused
        assert "has died" not in server.text


def test_max_requests(tmp_path: Path) -> None:
    arguments = ("--max-requests", "20", "--max-requests-jitter", "5")
    with Served(tmp_path, *arguments) as server:
        with Load(("127.0.0.1", server.port), clients=3) as load:
            eventually(lambda: len({pid for pids in load.answers for pid in pids}) >= 3)
        assert not any(load.failures), load.failures
        assert not load.refused
        assert "has died" not in server.text


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    with Served(tmp_path, "--workers", "2") as server:
        pids = server.pids(2)
        server.send(signal.SIGKILL)
        server.process.wait(SCRIPT_TIMEOUT)
        eventually(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_worker_that_dies_again_and_again(tmp_path: Path) -> None:
    source = """\
    import os

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/die":
            os._exit(7)
        start_response("200 OK", [])
        return [b"hello"]
    """
    with Served(tmp_path, source=source) as server:
        for count in range(1, 4):
            with server.connect() as sock:
                sock.sendall(b"GET /die HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(1) == b""
            server.wait_for("has died: exit status 7", count)
        # Others are started, more and more slowly.
        assert server.get() == "hello"
        assert server.stop() == 0


def test_a_server_whose_first_worker_dies(tmp_path: Path) -> None:
    with Served(tmp_path, source="import os; os._exit(3)") as server:
        assert server.end() == 1
        assert "has died: exit status 3" in server.text
        assert "no worker could be started" in server.text


def test_reload(tmp_path: Path) -> None:
    with Served(tmp_path, "--reload") as server:
        assert server.get() == "hello"
        (tmp_path / "app.py").write_text(APP.replace("hello", "changed"))
        eventually(lambda: server.get() == "changed")
        # A mistake: what is there goes on until it is corrected.
        (tmp_path / "app.py").write_text("this is no Python\n")
        server.wait_for("waiting for a file to change")
        assert "SyntaxError" in server.text
        assert server.get() == "changed"
        (tmp_path / "app.py").write_text(APP.replace("hello", "corrected"))
        eventually(lambda: server.get() == "corrected")
        assert server.stop() == 0


def test_reload_begins_with_a_mistake(tmp_path: Path) -> None:
    with Served(tmp_path, "--reload", source="1 / 0\n") as server:
        server.wait_for("waiting for a file to change")
        (tmp_path / "app.py").write_text(APP)
        assert server.get() == "hello"
        assert server.stop() == 0


def test_reload_stops_while_it_waits_for_a_change(tmp_path: Path) -> None:
    with Served(tmp_path, "--reload", source="1 / 0\n") as server:
        server.wait_for("waiting for a file to change")
        assert server.stop() == 0


def test_an_inherited_listener_stays_usable(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        arguments = ("--bind", f"fd://{listener.fileno()}")
        for _ in range(2):
            fds = (listener.fileno(),)
            with Served(tmp_path, *arguments, bind=False, pass_fds=fds) as server:
                assert get(address) == "hello"
                assert server.stop() == 0

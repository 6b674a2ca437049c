"""Watchers of processes, files and forks; which loop a hub gets."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import gevent
import pytest
from gevent import core, get_hub

GUARD = 60


@pytest.fixture
def loop():
    return get_hub().loop


def start_child(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, **options)


def forget(child):
    """What was waited for by a watcher is nothing that subprocess should wait for."""
    child.stdin.close()
    child.returncode = 0


# --- children


def test_the_end_of_a_child_is_told(loop):
    child = start_child("import sys; sys.stdin.read(); sys.exit(3)")
    watcher = loop.child(child.pid)
    assert (watcher.pid, watcher.rpid, watcher.rstatus) == (child.pid, 0, 0)
    assert not watcher.active
    gevent.spawn_later(0.01, child.stdin.close)
    with gevent.Timeout(GUARD):
        get_hub().wait(watcher)
    assert (watcher.rpid, os.waitstatus_to_exitcode(watcher.rstatus)) == (child.pid, 3)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    forget(child)


def test_two_watchers_of_one_child_are_told(loop):
    child = start_child("import sys; sys.stdin.read()")
    watchers = [loop.child(child.pid, ref=ref) for ref in (True, False)]
    told = []
    for watcher in watchers:
        watcher.start(told.append, watcher)
    os.kill(child.pid, signal.SIGKILL)
    with gevent.Timeout(GUARD):
        while len(told) < 2:
            gevent.sleep(0.005)
    assert set(told) == set(watchers)
    assert [watcher.rstatus for watcher in watchers] == [signal.SIGKILL] * 2
    for watcher in watchers:
        watcher.close()
    gevent.sleep(0.01)
    assert len(told) == 2
    forget(child)


def test_stops_and_continuations_are_told_with_trace(loop):
    child = start_child("import sys; sys.stdin.read()")
    watcher = loop.child(child.pid, trace=True)
    told = []
    watcher.start(lambda: told.append(watcher.rstatus))

    def wait_for(count):
        with gevent.Timeout(GUARD):
            while len(told) < count:
                gevent.sleep(0.005)

    os.kill(child.pid, signal.SIGSTOP)
    wait_for(1)
    assert os.WIFSTOPPED(told[0])
    os.kill(child.pid, signal.SIGCONT)
    wait_for(2)
    assert os.WIFCONTINUED(told[1])
    child.stdin.close()
    wait_for(3)
    assert told[2] == 0
    watcher.close()
    forget(child)


def test_a_watcher_of_any_child_is_told_of_each(loop):
    told = {}
    watcher = loop.child(0)
    watcher.start(lambda: told.__setitem__(watcher.rpid, watcher.rstatus))
    children = {}
    for code in (3, 4, 5):
        pid = os.fork()
        if pid == 0:
            os._exit(code)
        children[pid] = code
    # All have ended before the loop looks.
    time.sleep(0.1)
    with gevent.Timeout(GUARD):
        while len(told) < 3:
            gevent.sleep(0.001)
    assert {pid: os.waitstatus_to_exitcode(status) for pid, status in told.items()} == children
    watcher.stop()


def test_a_watcher_of_any_child_that_stops_is_told_no_more(loop):
    told = []
    watcher = loop.child(0)
    watcher.start(lambda: (told.append(watcher.rpid), watcher.stop()))
    for _ in range(2):
        if os.fork() == 0:
            os._exit(0)
    time.sleep(0.1)
    with gevent.Timeout(GUARD):
        while not told:
            gevent.sleep(0.001)
    gevent.sleep(0.01)
    assert len(told) == 1
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def test_child_watchers_are_for_the_default_loop_only():
    loop = core.loop(default=False)
    with pytest.raises(TypeError, match="only available on the default loop"):
        loop.child(1)
    loop.destroy()


def test_child_refuses_what_is_no_number(loop):
    with pytest.raises(TypeError):
        loop.child("x")


def test_a_process_that_is_no_child_is_not_told_of(loop):
    watcher = loop.child(99_999_999)
    watcher.start(pytest.fail)
    gevent.sleep(0.01)
    assert watcher.active
    watcher.stop()


def test_sigchld_can_be_installed_and_reset(loop):
    before = signal.getsignal(signal.SIGCHLD)
    assert loop.install_sigchld() is None
    assert loop.reset_sigchld() is None
    assert signal.getsignal(signal.SIGCHLD) is before


# --- forks


@pytest.mark.filterwarnings("ignore:This process")
def test_a_fork_is_told_in_the_child_only(run_script):
    result = run_script(
        """
        import os
        import gevent
        from gevent import core

        told = []
        loop = gevent.get_hub().loop
        watcher = loop.fork(ref=False)
        watcher.start(lambda: told.append(os.getpid()))
        apart = core.loop(default=False)
        other = apart.fork(ref=False)
        other.start(lambda: told.append("apart"))
        gevent.sleep(0.001)
        assert told == []
        pid = gevent.fork()
        gevent.sleep(0.001)
        gevent.sleep(0.001)
        apart.run(nowait=True)
        if not pid:
            expected = [os.getpid(), "apart"]
            os._exit(0 if told == expected else 1)
        assert told == [], told
        print(os.waitpid(pid, 0)[1])
        """
    )
    assert result.check_quiet() == "0\n"


# --- files


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "file"
    made.write_text("")
    return made


def wait_for_change(watcher, change, *args):
    """Change something once the watcher waits, and go on when it tells."""
    gevent.spawn_later(0.05, change, *args)
    with gevent.Timeout(GUARD):
        get_hub().wait(watcher)


def test_a_write_is_told(loop, path):
    watcher = loop.stat(str(path), interval=-1)
    assert (watcher.path, watcher.interval) == (str(path), -1)
    assert watcher.attr is None
    assert watcher.prev is None
    wait_for_change(watcher, path.write_text, "more")
    assert watcher.interval > 0
    assert (watcher.prev.st_size, watcher.attr.st_size) in ((0, 4), (0, 0))
    assert isinstance(watcher.attr, os.stat_result)
    watcher.close()


def test_a_removal_is_told(loop, path):
    watcher = loop.stat(str(path))
    wait_for_change(watcher, path.unlink)
    assert watcher.attr is None
    assert watcher.prev.st_size == 0
    watcher.close()


def test_a_file_that_appears_is_told(loop, tmp_path):
    path = tmp_path / "new"
    watcher = loop.stat(str(path))
    wait_for_change(watcher, path.write_text, "x")
    assert watcher.prev is None
    assert watcher.attr.st_mode
    watcher.close()


def test_stat_without_ref_does_not_keep_the_loop_running(path):
    loop = core.loop(default=False)
    watcher = loop.stat(str(path), 1.0, ref=False)
    watcher.start(print)
    assert loop.run() is None
    assert watcher.active
    watcher.ref = True
    assert loop.activecnt == 1
    watcher.stop()
    assert loop.activecnt == 0
    loop.destroy()


def test_stat_refuses_what_is_no_path(loop):
    for wrong in (5, None, b"bytes"):
        with pytest.raises(TypeError):
            loop.stat(wrong)
    with pytest.raises(TypeError):
        loop.stat("x", "y")


# --- signals


def test_several_watchers_of_a_signal(loop):
    told = []
    watchers = [loop.signal(signal.SIGUSR2, ref=False) for _ in range(3)]
    for number, watcher in enumerate(watchers):
        watcher.start(told.append, number)
    watchers[1].stop()
    os.kill(os.getpid(), signal.SIGUSR2)
    with gevent.Timeout(GUARD):
        while len(told) < 2:
            gevent.sleep(0.005)
    assert sorted(told) == [0, 2]
    for watcher in watchers:
        watcher.close()
    for wrong in (0, 65, 1000):
        with pytest.raises(ValueError, match=f"illegal signal number: {wrong}"):
            loop.signal(wrong)


# --- the choice


@pytest.mark.parametrize("backend", ["epoll", "poll"])
def test_the_environment_chooses_the_backend(run_script, backend):
    script = """
        import gevent
        gevent.sleep(0.001)
        print(gevent.get_hub().loop.backend)
    """
    chosen = run_script(script, env={"GEVENT_LOOP": "libev-cext", "GEVENT_BACKEND": backend})
    assert chosen.check_quiet() == f"{backend}\n"


def test_now_goes_on_with_the_clock(loop):
    loop.update_now()
    first = loop.now()
    time.sleep(0.01)
    loop.update_now()
    assert 0.009 < loop.now() - first < GUARD

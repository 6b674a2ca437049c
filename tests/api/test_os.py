"""gevent.os: descriptors that may block, child processes."""

from __future__ import annotations

import errno
import os
import signal
import threading

import gevent
import gevent.os
import pytest
from gevent import Timeout

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1",
    reason="gevent blocks for children that it did not fork itself",
)


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end is not None:
            os.close(end)


def child(status=0, gate=None):
    """A process that ends with a status, once something can be read from a descriptor."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if gate is not None:
            os.read(gate, 1)
    finally:
        os._exit(status)


def exit_status(pair):
    return os.waitstatus_to_exitcode(pair[1])


def test_make_nonblocking(pipe):
    assert os.get_blocking(pipe[0])
    assert gevent.os.make_nonblocking(pipe[0]) is True
    assert gevent.os.make_nonblocking(pipe[0]) is None
    assert not os.get_blocking(pipe[0])


def test_make_nonblocking_of_what_is_no_descriptor(pipe):
    os.close(pipe[0])
    with pytest.raises(OSError) as caught:
        gevent.os.make_nonblocking(pipe[0])
    assert caught.value.errno == errno.EBADF
    pipe[0] = None


def test_read_and_write_let_others_run(pipe):
    source, target = pipe
    gevent.os.make_nonblocking(source)
    gevent.os.make_nonblocking(target)
    data = bytes(range(256)) * 2000

    def write():
        left = memoryview(data)
        while left:
            left = left[gevent.os.nb_write(target, left) :]
        os.close(target)
        pipe[1] = None

    writer = gevent.spawn(write)
    got = bytearray()
    while part := gevent.os.nb_read(source, 5000):
        assert len(part) <= 5000
        got += part
    writer.get()
    assert got == data


def test_a_read_that_is_given_up_leaves_the_descriptor_usable(pipe):
    source, target = pipe
    gevent.os.make_nonblocking(source)
    with pytest.raises(Timeout), Timeout(0.001):
        gevent.os.nb_read(source, 1)
    reader = gevent.spawn(gevent.os.nb_read, source, 10)
    gevent.sleep(0)
    os.write(target, b"now")
    assert reader.get() == b"now"


def test_errors_are_those_of_the_system(pipe):
    source, target = pipe
    with pytest.raises(OSError) as caught:
        gevent.os.nb_read(target, 1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError) as caught:
        gevent.os.nb_write(source, b"x")
    assert caught.value.errno == errno.EBADF


def test_in_native_threads(pipe):
    """Blocking descriptors, of regular files too."""
    source, target = pipe
    reader = gevent.spawn(gevent.os.tp_read, source, 10)
    gevent.sleep(0)
    assert gevent.os.tp_write(target, b"blocking") == 8
    assert reader.get() == b"blocking"


@ours_only
def test_waitpid_lets_others_run(pipe):
    pid = child(7, gate=pipe[0])
    waiter = gevent.spawn(gevent.os.waitpid, pid, 0)
    gevent.sleep(0.01)
    assert not waiter.ready()
    assert gevent.os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.write(pipe[1], b"x")
    pair = waiter.get()
    assert pair[0] == pid
    assert exit_status(pair) == 7


@ours_only
def test_waitpid_that_is_given_up_takes_nothing_away(pipe):
    pid = child(3, gate=pipe[0])
    with pytest.raises(Timeout), Timeout(0.001):
        gevent.os.waitpid(pid, 0)
    os.write(pipe[1], b"x")
    assert exit_status(gevent.os.waitpid(pid, 0)) == 3


@ours_only
def test_waitpid_without_a_child():
    with pytest.raises(ChildProcessError):
        gevent.os.waitpid(os.getpid(), 0)
    with pytest.raises(ChildProcessError):
        gevent.os.waitpid(-1, 0)


@ours_only
def test_waitpid_for_any_child(pipe):
    pids = {child(n, gate=pipe[0]) for n in range(3)}
    waiters = [gevent.spawn(gevent.os.waitpid, -1, 0) for _ in pids]
    gevent.sleep(0)
    os.write(pipe[1], b"xxx")
    assert {waiter.get()[0] for waiter in waiters} == pids
    assert sorted(exit_status(waiter.value) for waiter in waiters) == [0, 1, 2]


@ours_only
def test_waitpid_is_told_of_stops(pipe):
    pid = child(gate=pipe[0])
    waiter = gevent.spawn(gevent.os.waitpid, pid, os.WUNTRACED)
    gevent.sleep(0)
    os.kill(pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(waiter.get()[1])
    os.kill(pid, signal.SIGKILL)
    assert exit_status(gevent.os.waitpid(pid, 0)) == -signal.SIGKILL


@ours_only
@pytest.mark.parametrize("uses_greenlets", [True, False])
def test_waitpid_in_another_thread(pipe, uses_greenlets):
    results = []

    def wait():
        if uses_greenlets:
            gevent.sleep(0)
        results.append(gevent.os.waitpid(pid, 0))

    pid = child(5, gate=pipe[0])
    thread = threading.Thread(target=wait)
    thread.start()
    os.write(pipe[1], b"x")
    thread.join()
    assert [exit_status(pair) for pair in results] == [5]


def test_fork_and_watch(pipe):
    seen = []

    def fork():
        return child(9, gate=pipe[0])

    pid = gevent.os.fork_and_watch(lambda watcher: seen.append(watcher.pid), fork=fork)
    assert gevent.os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.write(pipe[1], b"x")
    assert exit_status(gevent.os.waitpid(pid, 0)) == 9
    assert seen == [pid]


def test_forkpty_and_watch():
    def forkpty():
        pid, descriptor = os.forkpty()
        if pid == 0:
            os._exit(4)
        return pid, descriptor

    ended = []
    pid, descriptor = gevent.os.forkpty_and_watch(ended.append, forkpty=forkpty)
    try:
        assert exit_status(gevent.os.waitpid(pid, 0)) == 4
        while not ended:
            gevent.sleep(0.001)
    finally:
        os.close(descriptor)


def wait3(pid):
    return gevent.os.wait3(0)


def wait4(pid):
    return gevent.os.wait4(pid, 0)


def waitid(pid):
    result = gevent.os.waitid(os.P_PID, pid, os.WEXITED)
    return result.si_pid, result.si_status << 8


@ours_only
@pytest.mark.parametrize("wait", [lambda pid: gevent.os.wait(), wait3, wait4, waitid])
def test_other_waits_let_others_run(pipe, wait):
    pid = child(6, gate=pipe[0])
    waiter = gevent.spawn(wait, pid)
    gevent.sleep(0.01)
    assert not waiter.ready()
    os.write(pipe[1], b"x")
    pair = waiter.get()
    assert pair[0] == pid
    assert exit_status(pair) == 6


@ours_only
def test_other_waits_need_not_wait(pipe):
    pid = child(gate=pipe[0])
    gevent.sleep(0)
    assert gevent.os.wait3(os.WNOHANG)[:2] == (0, 0)
    assert gevent.os.wait4(pid, os.WNOHANG)[:2] == (0, 0)
    assert gevent.os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    os.write(pipe[1], b"x")
    # A look at it, which leaves it to be waited for.
    seen = gevent.os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert (seen.si_pid, seen.si_status) == (pid, 0)
    pair = gevent.os.wait4(pid, 0)
    assert (pair[0], exit_status(pair)) == (pid, 0)
    for call in (gevent.os.wait, lambda: gevent.os.wait3(0), lambda: gevent.os.wait4(pid, 0)):
        with pytest.raises(ChildProcessError):
            call()


@ours_only
def test_close_tells_who_waits(pipe):
    source, _ = pipe
    gevent.os.make_nonblocking(source)
    reader = gevent.spawn(gevent.os.nb_read, source, 1)
    gevent.sleep(0)
    gevent.os.close(source)
    pipe[0] = None
    with pytest.raises(OSError) as caught:
        reader.get(timeout=30)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError) as caught:
        gevent.os.close(source)
    assert caught.value.errno == errno.EBADF


@ours_only
def test_the_module_has_the_standard_names():
    assert {name for name in dir(os) if not name.startswith("_")} <= set(dir(gevent.os))
    assert gevent.os.getpid is os.getpid

"""What a socket shows of the greenlets that wait on it: `ref`, `_read_event`, `_write_event`; and
`wait` and `cancel_wait`."""

from __future__ import annotations

import errno

import gevent
import pytest
from conftest import GUARD
from gevent import socket
from gevent.exceptions import ConcurrentObjectUseError, LoopExit
from gevent.hub import get_hub


class Interrupted(Exception):
    pass


def test_sockets_keep_the_loop_running_unless_told(pair, run_script):
    sock = pair[0]
    assert sock.ref is True
    sock.ref = False
    assert sock.ref is False
    assert sock._read_event.ref is False
    assert sock._write_event.ref is False
    sock._read_event.ref = True
    assert sock.ref is True
    # The program's main greenlet waits for ever otherwise.
    result = run_script(
        """
        import gevent
        from gevent import socket
        from gevent.exceptions import LoopExit

        first, second = socket.socketpair()
        first.ref = False
        for wait in first.recv, first._read_event.wait:
            try:
                wait(10) if wait == first.recv else wait()
            except LoopExit:
                print("nothing left to do")
        # A wait with a limit ends by itself.
        first.settimeout(0.01)
        try:
            first.recv(10)
        except TimeoutError:
            print("late")
        gevent.spawn(second.sendall, b"data")
        print(first.recv(10))
        """
    )
    assert result.stdout.split("\n")[:4] == [
        "nothing left to do",
        "nothing left to do",
        "late",
        "b'data'",
    ]


def test_hub_is_joined_while_sockets_without_reference_wait(pair):
    sock = pair[0]
    sock.ref = False
    reader = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    assert get_hub().join(timeout=GUARD) is True
    assert not reader.dead
    pair[1].sendall(b"x")
    assert reader.get(timeout=GUARD) == b"x"


def test_names_of_the_parts(pair):
    sock = pair[0]
    assert sock.hub is get_hub()
    assert sock._sock.fileno() == sock.fileno()
    read, write = sock._read_event, sock._write_event
    assert (read.fd, read.events) == (sock.fileno(), 1)
    assert (write.fd, write.events) == (sock.fileno(), 2)
    assert read.loop is get_hub().loop
    assert read == sock._read_event
    assert hash(read) == hash(sock._read_event)
    assert read != write
    assert read != pair[1]._read_event
    assert read != 1
    assert "reading" in repr(read)
    assert "writing" in repr(write)


def test_event_tells_who_waits(pair):
    sock = pair[0]
    assert sock._read_event.callback is None
    assert not sock._read_event.active
    reader = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    assert sock._read_event.active
    assert sock._read_event.callback.__self__ is reader
    assert sock._write_event.callback is None
    pair[1].sendall(b"x")
    assert reader.get(timeout=GUARD) == b"x"
    assert not sock._read_event.active


def test_waiting_for_an_event(pair):
    first, second = pair
    waiting = [
        gevent.spawn(socket.wait, first._read_event),
        gevent.spawn(get_hub().wait, second._read_event),
    ]
    gevent.sleep(0)
    assert not waiting[0].dead
    assert not waiting[1].dead
    with pytest.raises(ConcurrentObjectUseError):
        socket.wait(first._read_event)
    with pytest.raises(ConcurrentObjectUseError):
        first.recv(1)
    first.sendall(b"x")
    second.sendall(b"x")
    gevent.joinall(waiting, timeout=GUARD, raise_error=True)
    assert first.recv(10) == second.recv(10) == b"x"
    socket.wait(first._write_event)


def test_waiting_for_an_event_with_a_limit(pair):
    sock = pair[0]
    with pytest.raises(TimeoutError, match="timed out"):
        socket.wait(sock._read_event, timeout=0.001)
    with pytest.raises(Interrupted):
        socket.wait(sock._read_event, timeout=0.001, timeout_exc=Interrupted)
    with pytest.raises(gevent.Timeout):
        socket.wait(sock._read_event, timeout=0.001, timeout_exc=None)
    assert socket.wait(sock._read_event, timeout=0.001, timeout_exc=False) is None
    sock.settimeout(0.001)
    with pytest.raises(TimeoutError, match="timed out"):
        sock._wait(sock._read_event)
    with pytest.raises(Interrupted):
        sock._wait(sock._read_event, timeout_exc=Interrupted)
    sock.settimeout(0)
    sock._wait(sock._write_event)


def test_limit_of_a_wait_counts_from_the_call():
    class Slow:
        callback = None

        def start(self, *args):
            gevent.sleep(GUARD)

        def stop(self):
            pass

    with pytest.raises(TimeoutError):
        socket.wait(Slow(), timeout=0.001)


def test_waiting_for_a_watcher(pair):
    first, second = pair
    watcher = get_hub().loop.io(first.fileno(), 1)
    try:
        waiting = gevent.spawn(socket.wait, watcher)
        gevent.sleep(0)
        with pytest.raises(ConcurrentObjectUseError):
            socket.wait(watcher)
        second.sendall(b"x")
        waiting.get(timeout=GUARD)
        assert not watcher.active
        first.recv(1)
        with pytest.raises(TimeoutError):
            socket.wait(watcher, timeout=0.001)
        with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.001) as clock:
            socket.wait(watcher, timeout=GUARD)
        assert caught.value is clock
        assert not watcher.active
    finally:
        watcher.close()


def test_waiting_for_an_event_of_a_closed_socket(pair):
    sock = pair[0]
    waiting = gevent.spawn(socket.wait, sock._read_event)
    gevent.sleep(0)
    event = sock._read_event
    sock.close()
    with pytest.raises(OSError) as caught:
        waiting.get(timeout=GUARD)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError) as caught:
        socket.wait(event)
    assert caught.value.errno == errno.EBADF
    assert not event.active


def by_function(event, error):
    socket.cancel_wait(event, error)


def by_hub(event, error):
    get_hub().cancel_wait(event, error)


def by_hub_and_closing(event, error):
    called = []
    get_hub().cancel_waits_close_and_then([None, event], error, called.append, "then")
    assert called == ["then"]


@pytest.mark.parametrize("cancel", [by_function, by_hub, by_hub_and_closing])
@pytest.mark.parametrize("error", [Interrupted, Interrupted("now")])
def test_a_wait_in_a_call_is_cancelled(pair, cancel, error):
    sock = pair[0]
    cancel(sock._read_event, error)  # Nobody waits.
    reader = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    cancel(sock._write_event, error)  # Nobody waits for that.
    gevent.sleep(0)
    assert not reader.dead
    cancel(sock._read_event, error)
    with pytest.raises(Interrupted) as caught:
        reader.get(timeout=GUARD)
    if isinstance(error, Interrupted):
        assert caught.value is error
    # Nothing is left of it.
    pair[1].sendall(b"x")
    assert sock.recv(10) == b"x"


def test_cancelled_with_the_usual_error(pair):
    reader = gevent.spawn(pair[0].recv, 10)
    gevent.sleep(0)
    socket.cancel_wait(pair[0]._read_event)
    with pytest.raises(socket.cancel_wait_ex):
        reader.get(timeout=GUARD)
    socket.cancel_wait(None)


def test_cancelling_comes_too_late_for_a_wait_that_is_over(pair):
    sock, peer = pair
    reader = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    peer.sendall(b"x")
    # Data is there, but the hub has not looked.
    assert not reader.dead
    gevent.sleep(0.001)
    socket.cancel_wait(sock._read_event, Interrupted)
    assert reader.get(timeout=GUARD) == b"x"


def test_each_of_two_cancelled_greenlets_gets_its_error(pair):
    sock = pair[0]
    first = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    one, two = Interrupted("one"), Interrupted("two")
    socket.cancel_wait(sock._read_event, one)
    # Waits in its place before the first one has run.
    second = gevent.spawn(sock.recv, 10)
    second_cancelled = gevent.spawn(lambda: socket.cancel_wait(sock._read_event, two))
    gevent.joinall([first, second, second_cancelled], timeout=GUARD)
    assert first.exception is one
    assert second.exception is two


def test_cancelled_and_killed(pair):
    sock = pair[0]
    reader = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    socket.cancel_wait(sock._read_event, Interrupted)
    reader.kill(timeout=GUARD)
    assert isinstance(reader.value, gevent.GreenletExit) or reader.exception
    again = gevent.spawn(sock.recv, 10)
    gevent.sleep(0)
    socket.cancel_wait(sock._read_event)
    with pytest.raises(socket.cancel_wait_ex):
        again.get(timeout=GUARD)


def test_waiting_without_reference_ends_with_nothing_to_do():
    first, second = socket.socketpair()
    with first, second:
        first.ref = False

        def wait():
            with pytest.raises(LoopExit):
                get_hub().switch()

        reader = gevent.spawn(first.recv, 1)
        gevent.sleep(0)
        wait()
        reader.kill()

"""select, poll, epoll and the selectors."""

from __future__ import annotations

import errno
import os
import select as stdlib_select
import selectors as stdlib_selectors
import time

import gevent
import pytest
from conftest import GUARD
from gevent import select, selectors, socket

PEER = os.environ.get("GREENLOOP_TEST_PEER") == "1"
ours_only = pytest.mark.skipif(PEER, reason="gevent differs from the standard module")


@pytest.fixture
def pipe():
    """The two ends of a pipe: to read, to write."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == errno.EBADF


def fill(sock):
    sock.setblocking(False)
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def test_select_waits_for_one_greenlet_only(pair):
    first, second = pair
    waiting = gevent.spawn(select.select, [second], [], [])
    gevent.sleep(0)
    assert not waiting.ready()
    first.sendall(b"x")
    assert tuple(waiting.get(timeout=GUARD)) == ([second], [], [])


def test_select_gives_back_what_it_was_given(pair, pipe):
    first, second = pair
    reader, writer = pipe
    os.write(writer, b"x")
    second.sendall(b"x")
    assert tuple(select.select([reader, first, second], [second, writer], [])) == (
        [reader, first],
        [second, writer],
        [],
    )


def test_select_of_one_socket_for_both(pair):
    first, second = pair
    assert tuple(select.select([first], [first], [], 1)) == ([], [first], [])
    second.sendall(b"x")
    assert tuple(select.select([first], [first], [], 1)) == ([first], [first], [])


@pytest.mark.parametrize("timeout", [0, 0.0, 0.02])
def test_select_times_out(pair, timeout):
    first, _ = pair
    start = time.monotonic()
    assert tuple(select.select([first], [], [], timeout)) == ([], [], [])
    assert time.monotonic() - start >= timeout


def test_select_of_nothing_sleeps():
    start = time.monotonic()
    assert tuple(select.select([], [], [], 0.02)) == ([], [], [])
    assert time.monotonic() - start >= 0.02


def test_select_lets_others_run_even_if_something_is_ready(pair):
    first, second = pair
    first.sendall(b"x")
    ran = []
    gevent.spawn(ran.append, 1)
    select.select([second], [], [])
    assert ran == [1]


def test_select_sees_the_end_of_stream(pair):
    first, second = pair
    waiting = gevent.spawn(select.select, [second], [], [])
    gevent.sleep(0)
    first.close()
    assert tuple(waiting.get(timeout=GUARD)) == ([second], [], [])


def test_select_waits_for_room_to_write(pair):
    first, second = pair
    fill(first)
    waiting = gevent.spawn(select.select, [], [first], [])
    gevent.sleep(0)
    assert not waiting.ready()
    while not waiting.ready():
        second.recv(65536)
        gevent.sleep(0.001)
    assert tuple(waiting.get()) == ([], [first], [])


def test_select_checks_its_arguments(pair):
    first, _ = pair
    with pytest.raises(ValueError, match="timeout must be non-negative"):
        select.select([first], [], [], -1)
    with pytest.raises((TypeError, ValueError)):
        select.select([object()], [], [])
    with pytest.raises(ValueError):
        select.select([-1], [], [])
    with pytest.raises(TypeError):
        select.select([first], [], [], "1")


def test_select_of_a_closed_descriptor(pipe):
    reader, _ = pipe
    os.close(reader)
    with pytest.raises(OSError) as caught:
        select.select([reader], [], [], 1)
    assert caught.value.errno == errno.EBADF


@ours_only
def test_select_sees_urgent_data(connected):
    client, server = connected
    waiting = gevent.spawn(select.select, [], [], [server])
    gevent.sleep(0)
    client.send(b"!", socket.MSG_OOB)
    assert waiting.get(timeout=GUARD) == ([], [], [server])


@ours_only
def test_numbers_of_descriptors_are_not_limited(pair):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 1100:
        pytest.skip("the system allows too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 1100), before[1]))
    try:
        high = os.dup2(pair[1].fileno(), 1090)
        waiting = gevent.spawn(select.select, [high], [], [], GUARD)
        gevent.sleep(0)
        pair[0].sendall(b"x")
        assert waiting.get(timeout=GUARD) == ([high], [], [])
        os.close(high)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- poll


def test_poll(pair):
    first, second = pair
    poll = select.poll()
    poll.register(second, select.POLLIN)
    assert poll.poll(0) == []
    waiting = gevent.spawn(poll.poll)
    gevent.sleep(0)
    first.sendall(b"x")
    assert waiting.get(timeout=GUARD) == [(second.fileno(), select.POLLIN)]
    poll.modify(second, select.POLLIN | select.POLLOUT)
    assert poll.poll(GUARD * 1000) == [(second.fileno(), select.POLLIN | select.POLLOUT)]
    poll.unregister(second)
    start = time.monotonic()
    assert poll.poll(20) == []
    assert time.monotonic() - start >= 0.02


def test_poll_times_out(pair):
    poll = select.poll()
    poll.register(pair[0].fileno(), select.POLLIN)
    start = time.monotonic()
    assert poll.poll(20) == []
    assert time.monotonic() - start >= 0.02


def test_poll_of_an_unknown_descriptor(pair):
    poll = select.poll()
    with pytest.raises(KeyError):
        poll.unregister(pair[0])
    with pytest.raises((TypeError, ValueError)):
        poll.register(object())
    with pytest.raises(ValueError):
        poll.register(-1)


@ours_only
def test_poll_as_in_the_standard_module(connected):
    client, server = connected
    poll = select.poll()
    with pytest.raises(OSError) as caught:
        poll.modify(client, select.POLLIN)
    assert caught.value.errno == errno.ENOENT
    # Urgent data and half-closed connections.
    poll.register(server, select.POLLPRI | select.POLLRDHUP)
    waiting = gevent.spawn(poll.poll)
    gevent.sleep(0)
    with pytest.raises(RuntimeError, match="concurrent poll"):
        poll.poll()
    client.send(b"!", socket.MSG_OOB)
    assert waiting.get(timeout=GUARD) == [(server.fileno(), select.POLLPRI)]
    server.recv(1, socket.MSG_OOB)
    waiting = gevent.spawn(poll.poll)
    gevent.sleep(0)
    client.shutdown(socket.SHUT_WR)
    assert waiting.get(timeout=GUARD) == [(server.fileno(), select.POLLRDHUP)]


@ours_only
def test_poll_reports_closed_descriptors(pipe):
    reader, _ = pipe
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    os.close(reader)
    assert poll.poll(GUARD * 1000) == [(reader, select.POLLNVAL)]


def test_poll_of_several(pair, pipe):
    reader, writer = pipe
    poll = select.poll()
    poll.register(pair[0], select.POLLIN)
    poll.register(reader, select.POLLIN)
    waiting = gevent.spawn(poll.poll)
    gevent.sleep(0)
    os.write(writer, b"x")
    assert waiting.get(timeout=GUARD) == [(reader, select.POLLIN)]
    # Nothing is left behind.
    os.read(reader, 10)
    waiting = gevent.spawn(poll.poll)
    gevent.sleep(0)
    pair[1].sendall(b"x")
    assert waiting.get(timeout=GUARD) == [(pair[0].fileno(), select.POLLIN)]


# --- epoll


@ours_only
def test_epoll(pair):
    first, second = pair
    with select.epoll() as epoll:
        epoll.register(second, select.EPOLLIN)
        assert epoll.poll(0) == []
        assert epoll.poll(0.02) == []
        waiting = gevent.spawn(epoll.poll)
        gevent.sleep(0)
        assert not waiting.ready()
        first.sendall(b"x")
        assert waiting.get(timeout=GUARD) == [(second.fileno(), select.EPOLLIN)]
        epoll.modify(second, select.EPOLLOUT)
        assert epoll.poll(-1, 1) == [(second.fileno(), select.EPOLLOUT)]
        with pytest.raises(FileExistsError):
            epoll.register(second, select.EPOLLIN)
        epoll.unregister(second)
        with pytest.raises(FileNotFoundError):
            epoll.unregister(second)
    assert epoll.closed
    with pytest.raises(ValueError, match="closed epoll"):
        epoll.poll(0)
    epoll.close()


# --- selectors


def selector_classes():
    names = ["DefaultSelector"]
    if not PEER:
        names += ["GeventSelector", "EpollSelector", "PollSelector", "SelectSelector"]
    return [getattr(selectors, name) for name in names]


@pytest.mark.parametrize("kind", selector_classes(), ids=lambda kind: kind.__name__)
def test_selectors(pair, kind):
    first, second = pair
    with kind() as selector:
        assert isinstance(selector, stdlib_selectors.BaseSelector)
        key = selector.register(second, selectors.EVENT_READ, data="data")
        assert selector.select(0) == []
        start = time.monotonic()
        assert selector.select(0.02) == []
        assert time.monotonic() - start >= 0.02
        waiting = gevent.spawn(selector.select)
        gevent.sleep(0)
        first.sendall(b"x")
        assert waiting.get(timeout=GUARD) == [(key, selectors.EVENT_READ)]
        key = selector.modify(second, selectors.EVENT_READ | selectors.EVENT_WRITE)
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        assert selector.select(GUARD) == [(key, both)]
        selector.unregister(second)
        assert selector.select(0) == []


# --- waiting for descriptors by number


def test_wait_read(pipe):
    reader, writer = pipe
    waiting = gevent.spawn(socket.wait_read, reader)
    gevent.sleep(0)
    os.write(writer, b"x")
    assert waiting.get(timeout=GUARD) is None
    socket.wait_read(reader)


def test_several_greenlets_wait_for_one_descriptor(pipe):
    reader, writer = pipe
    waiting = [gevent.spawn(socket.wait_read, reader) for _ in range(3)]
    gevent.sleep(0)
    os.write(writer, b"x")
    gevent.joinall(waiting, timeout=GUARD, raise_error=True)
    assert all(greenlet.successful() for greenlet in waiting)


def test_wait_write(pair):
    first, second = pair
    socket.wait_write(first.fileno(), timeout=GUARD)
    fill(first)
    with pytest.raises(TimeoutError):
        socket.wait_write(first.fileno(), timeout=0.01)
    socket.wait_readwrite(second.fileno(), timeout=GUARD)


def test_wait_times_out(pipe):
    reader, _ = pipe
    with pytest.raises(TimeoutError, match="timed out"):
        socket.wait_read(reader, timeout=0.01)
    with pytest.raises(ZeroDivisionError):
        socket.wait_read(reader, timeout=0.01, timeout_exc=ZeroDivisionError("mine"))
    with pytest.raises(gevent.Timeout):
        socket.wait_read(reader, timeout=0.01, timeout_exc=None)


def test_wait_for_a_closed_descriptor(pipe):
    reader, _ = pipe
    os.close(reader)
    with pytest.raises(OSError):
        socket.wait_read(reader, timeout=GUARD)


def test_wait_for_a_watcher(pipe):
    reader, writer = pipe
    watcher = gevent.get_hub().loop.io(reader, 1)
    with pytest.raises(TimeoutError):
        socket.wait(watcher, timeout=0.01)
    waiting = gevent.spawn(socket.wait, watcher)
    gevent.sleep(0)
    os.write(writer, b"x")
    assert waiting.get(timeout=GUARD) is None
    os.read(reader, 1)
    waiting = gevent.spawn(socket.wait, watcher)
    gevent.sleep(0)
    socket.cancel_wait(watcher)
    with pytest.raises(OSError, match="closed in another greenlet"):
        waiting.get(timeout=GUARD)
    socket.cancel_wait(None)
    watcher.close()


def test_select_module_has_the_standard_names():
    for name in ("POLLIN", "POLLOUT", "error", "select", "poll"):
        assert hasattr(select, name)
    assert select.POLLIN == stdlib_select.POLLIN
    assert select.error is OSError


@ours_only
@pytest.mark.parametrize("kind", ["poll", "epoll"])
def test_poll_checks_timeouts(kind):
    polling = getattr(select, kind)()
    for wrong in (float(2**31), float("inf"), 10**30):
        with pytest.raises(OverflowError):
            polling.poll(wrong)
    with pytest.raises(ValueError):
        polling.poll(float("nan"))
    for wrong in ("1", [], 1j):
        with pytest.raises(TypeError):
            polling.poll(wrong)
    assert polling.poll(0) == []


@ours_only
def test_select_checks_the_size_of_timeouts(pair):
    for wrong in (1e30, float("inf")):
        with pytest.raises(OverflowError):
            select.select([pair[0]], [], [], wrong)
    with pytest.raises(ValueError):
        select.select([pair[0]], [], [], float("nan"))


@ours_only
def test_poll_objects_are_made_by_poll_alone():
    with pytest.raises(TypeError, match=r"cannot create .* instances"):
        type(select.poll())()


@ours_only
def test_selectors_refuse_what_has_no_descriptor(pipe):
    reader, _ = pipe
    os.close(reader)
    with selectors.DefaultSelector() as selector:
        with pytest.raises(ValueError, match="Invalid file descriptor"):
            selector.register(reader, selectors.EVENT_READ)
        with pytest.raises(ValueError):
            selector.register(-1, selectors.EVENT_READ)
        assert not selector.get_map()


@ours_only
def test_the_default_selector():
    assert selectors.DefaultSelector is selectors.EpollSelector
    assert issubclass(selectors.DefaultSelector, stdlib_selectors.EpollSelector)
    with selectors.DefaultSelector() as selector:
        assert selector.fileno() >= 0


@ours_only
@pytest.mark.parametrize("kind", ["poll", "epoll"])
@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_who_polls_what_is_ready_lets_others_run(pipe, kind, timeout):
    reader, writer = pipe
    os.write(writer, b"x")
    polling = getattr(select, kind)()
    polling.register(reader, stdlib_select.POLLIN)
    timer = gevent.spawn(gevent.sleep, 0.01)
    while not timer.ready():
        assert polling.poll(timeout) == [(reader, stdlib_select.POLLIN)]


@ours_only
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", ["select", "plain poll", "poll"])
def test_closing_ends_the_wait_of_others(pair, pipe, kind, number):
    reader, _ = pipe
    closed, _ = pair
    fd = closed.fileno()
    if kind == "select":
        waiting = gevent.spawn(select.select, [closed, reader][:number], [], [])
    else:
        polling = select.poll()
        mask = stdlib_select.POLLIN
        if kind == "poll":
            # Part of the default.
            mask |= stdlib_select.POLLPRI
        for one in (closed, reader)[:number]:
            polling.register(one, mask)
        waiting = gevent.spawn(polling.poll)
    gevent.sleep(0.001)
    assert not waiting.ready()
    closed.close()
    if kind == "select":
        with pytest.raises(OSError) as caught:
            waiting.get(timeout=GUARD)
        assert caught.value.errno == errno.EBADF
    else:
        assert waiting.get(timeout=GUARD) == [(fd, stdlib_select.POLLNVAL)]

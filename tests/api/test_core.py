"""gevent.core: loops of one's own, and what all watchers have in common."""

import os
import socket
import threading
import time

import gevent
import pytest
from gevent import config, core

ours_only = pytest.mark.skipif(
    os.environ.get("GREENLOOP_TEST_PEER") == "1",
    reason="some still answer in gevent",
)


@pytest.fixture
def loop():
    made = config.loop(default=False)
    yield made
    made.destroy()


@pytest.fixture
def pair():
    first, second = socket.socketpair()
    with first, second:
        first.setblocking(False)
        yield first, second


def run(loop, rounds=50):
    """Rounds of the loop that do not wait, so that a test can look in between."""
    for _ in range(rounds):
        loop.run(nowait=True)


# --- loops


def test_a_loop_without_work_does_not_run(loop):
    assert not loop.default
    assert loop.run() is None
    assert loop.run() is None
    assert (loop.depth, loop.activecnt, loop.pendingcnt) == (0, 0, 0)


def test_run_calls_back_until_nothing_is_left(loop):
    log = []
    loop.run_callback(log.append, 1)
    timer = loop.timer(0.01)
    timer.start(lambda: (log.append(2), loop.run_callback(log.append, 3)))
    before = loop.iteration
    loop.run()
    assert log == [1, 2, 3]
    assert loop.iteration > before


def test_callbacks_run_in_the_greenlet_that_runs_the_loop(loop):
    seen = []
    loop.run_callback(lambda: seen.append((gevent.getcurrent(), loop.depth)))
    gevent.spawn(loop.run).join()
    loop.run_callback(lambda: seen.append((gevent.getcurrent(), loop.depth)))
    loop.run()
    assert seen[0][0] is not gevent.getcurrent()
    assert seen[1] == (gevent.getcurrent(), 1)
    assert loop.depth == 0


def test_nowait_does_not_wait(loop):
    fired = []
    timer = loop.timer(3600)
    timer.start(fired.append, 1)
    loop.run(nowait=True)
    assert fired == []
    assert timer.active


def test_once_waits_for_one_round(loop):
    fired = []
    timers = [loop.timer(after) for after in (0.005, 3600)]
    for timer in timers:
        timer.start(fired.append, timer)
    while not fired:
        loop.run(once=True)
    assert fired == timers[:1]


def test_break_ends_run(loop):
    log = []
    timer = loop.timer(0.001, 0.001)

    def tick():
        log.append(len(log))
        if len(log) == 3:
            loop.break_()

    timer.start(tick)
    loop.run()
    assert log == [0, 1, 2]
    assert timer.active
    loop.run_callback(loop.break_)
    loop.run()


def test_ref_and_unref_of_the_loop(loop):
    timer = loop.timer(3600)
    timer.start(print)
    assert loop.activecnt == 1
    loop.unref()
    assert loop.activecnt == 0
    assert loop.run() is None
    loop.ref()
    assert loop.activecnt == 1


def test_an_error_of_a_callback_is_printed_and_ends_run(loop, capfd):
    later = loop.timer(0.001)
    later.start(int, "later")
    assert loop.error_handler is None
    loop.run()
    assert "invalid literal" in capfd.readouterr().err


def test_the_error_handler_is_told(loop, capfd):
    told, log = [], []

    class Handler:
        def handle_error(self, context, kind, value, tb):
            told.append((context, kind, str(value), tb is not None))

    loop.error_handler = handler = Handler()
    assert loop.error_handler is handler
    timer = loop.timer(0.001)
    timer.start([].index, 1)
    callback = loop.run_callback(lambda: {}[1])
    later = loop.timer(0.01)
    later.start(log.append, 1)
    loop.run()
    assert [(context, kind) for context, kind, *_ in told] == [
        (callback, KeyError),
        (timer, ValueError),
    ]
    assert log == [1]
    loop.handle_error(None, ValueError, ValueError("x"), None)
    assert told[-1] == (None, ValueError, "x", False)
    loop.error_handler = None
    assert capfd.readouterr().err == ""


@ours_only
def test_a_destroyed_loop_says_so(loop):
    loop.destroy()
    loop.destroy()
    assert not loop.default
    assert not loop.ptr
    assert "destroyed" in repr(loop)
    for use in (
        loop.run,
        loop.now,
        loop.update_now,
        loop.ref,
        loop.verify,
        loop.break_,
        lambda: loop.run_callback(print),
        lambda: loop.run_callback_threadsafe(print),
        lambda: loop.closing_fd(0),
        lambda: loop.activecnt,
        lambda: loop.pendingcnt,
        lambda: loop.backend,
        lambda: loop.origflags,
    ):
        with pytest.raises(ValueError, match="operation on destroyed loop"):
            use()
    assert loop.reinit() is None
    assert loop.fileno() is None


def test_flags_choose_the_backend():
    loop = core.loop("poll", default=False)
    assert (loop.backend, loop.backend_int) == ("poll", core.BACKEND_POLL)
    assert "poll" in loop.origflags
    loop.destroy()
    loop = core.loop(core.BACKEND_EPOLL, default=False)
    assert (loop.backend, loop.backend_int) == ("epoll", core.BACKEND_EPOLL)
    assert loop.origflags_int & core.BACKEND_EPOLL
    assert isinstance(loop.fileno(), int)
    loop.destroy()
    loop = core.loop("EPOLL, poll,noinotify", default=False)
    assert loop.backend == "epoll"
    assert "noinotify" in loop.origflags
    loop.destroy()
    for wrong in ("blabla", ["port", "blabla"]):
        with pytest.raises(ValueError, match="Invalid backend or flag: 'blabla'"):
            core.loop(wrong, default=False)
    with pytest.raises(ValueError, match="Unsupported backend: kqueue"):
        core.loop("kqueue", default=False)
    with pytest.raises(TypeError):
        core.loop(object(), default=False)


def test_constants(loop):
    assert (core.READ, core.WRITE, core.READWRITE) == (1, 2, 3)
    assert (core.MINPRI, core.MAXPRI) == (-2, 2)
    assert (loop.MINPRI, loop.MAXPRI) == (-2, 2)
    assert core.TIMER | core.CHILD | core.STAT == 0x1900
    assert repr(core.EVENTS) == "gevent.core.EVENTS"
    assert getattr(core, "async") is core.async_
    assert {"epoll", "poll"} <= set(core.supported_backends())
    assert core.recommended_backends()[0] == "epoll"


def test_loop_attributes(loop):
    assert issubclass(core.timer, loop.WatcherType)
    assert 0 < loop.approx_timer_resolution < 0.1
    assert loop.ptr
    assert not loop.sig_pending
    assert not hasattr(loop, "sigfd")
    assert loop.verify() is None
    assert loop.update() is None
    first = loop.now()
    time.sleep(0.002)
    loop.update_now()
    assert loop.now() > first


def test_a_thread_ends_the_wait_of_a_loop(loop):
    seen = []
    watcher = loop.async_()
    assert hasattr(loop, "async")
    watcher.start(lambda: (seen.append(threading.current_thread()), watcher.stop()))
    thread = threading.Timer(0.01, watcher.send)
    thread.start()
    loop.run()
    thread.join()
    assert seen == [threading.current_thread()]


def test_run_callback_threadsafe_while_another_keeps_the_loop_running(loop):
    seen = []
    keeper = loop.timer(3600)
    keeper.start(print)

    def finish():
        seen.append(1)
        keeper.stop()

    thread = threading.Timer(0.01, loop.run_callback_threadsafe, [finish])
    thread.start()
    loop.run()
    thread.join()
    assert seen == [1]


def test_loops_of_threads_are_apart():
    results = []

    def work(number):
        loop = core.loop(default=False)
        timer = loop.timer(0.005)
        timer.start(results.append, number)
        loop.run()
        loop.destroy()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1, 2, 3]


# --- watchers


def test_a_watcher_cannot_be_made_bare(loop):
    with pytest.raises((TypeError, ValueError)):
        core.watcher(loop)


def test_watchers_can_be_made_by_their_classes(loop, pair):
    seen = []
    watchers = [
        core.timer(loop, 0.001),
        core.io(loop, pair[0].fileno(), core.WRITE),
        core.prepare(loop),
        core.check(loop),
        core.idle(loop),
    ]
    for watcher in watchers:
        assert watcher.loop is loop
        watcher.start(lambda watcher=watcher: (seen.append(watcher), watcher.stop()))
    loop.run()
    assert sorted(map(id, seen)) == sorted(map(id, watchers))
    assert core.signal(loop, 10).ref
    assert not core.fork(loop, ref=False).ref
    assert core.stat(loop, "x").path == "x"
    assert core.async_(loop, priority=1).priority == 1


def test_callback_and_args_can_be_changed(loop):
    seen = []
    timer = loop.timer(0.001)
    assert timer.callback is None
    assert timer.args is None
    timer.start(seen.append)
    assert timer.args == ()
    timer.args = (1,)
    for wrong in (5, [4]):
        with pytest.raises(TypeError):
            timer.args = wrong
        with pytest.raises(TypeError):
            timer.callback = wrong
    assert timer.args == (1,)
    loop.run()
    assert seen == [1]
    assert timer.callback is None
    assert timer.args is None
    timer.start(seen.append, 2)
    timer.args = None
    timer.callback = lambda: seen.append("none")
    loop.run()
    assert seen == [1, "none"]


def test_feed_calls_back_whether_active_or_not(loop, pair):
    seen = []
    timer = loop.timer(3600)
    timer.feed(core.TIMER, seen.append, 1)
    assert timer.pending
    assert not timer.active
    assert timer.callback == seen.append
    run(loop)
    assert seen == [1]
    assert not timer.pending
    assert timer.callback is None

    io = loop.io(pair[0].fileno(), core.READ)
    io.start(seen.append, "no")
    io.feed(core.READ, lambda: (seen.append(2), io.stop()))
    run(loop)
    assert seen == [1, 2]


def test_stop_takes_what_is_pending_back(loop):
    seen = []
    watchers = [loop.timer(0), loop.timer(0)]
    for watcher, other in zip(watchers, reversed(watchers), strict=True):
        watcher.feed(core.TIMER, lambda other=other: (seen.append(other), other.stop()))
    assert loop.pendingcnt == 2
    run(loop)
    assert len(seen) == 1
    assert not any(watcher.pending for watcher in watchers)


def test_a_higher_priority_is_called_back_first(loop):
    seen = []
    timers = []
    for priority in (0, -2, 2, 1, -1):
        timer = loop.timer(0.001, priority=priority)
        timer.start(seen.append, priority)
        timers.append(timer)
    time.sleep(0.01)
    loop.run()
    assert seen == [2, 1, 0, -1, -2]


def test_priority_can_be_changed_while_stopped_only(loop):
    timer = loop.timer(1)
    assert timer.priority == 0
    timer.priority = 2
    timer.start(print)
    with pytest.raises(AttributeError):
        timer.priority = 1
    assert timer.priority == 2
    timer.stop()
    timer.priority = -1
    with pytest.raises(TypeError):
        loop.timer(1, priority="x")


@pytest.mark.parametrize("name", ["timer", "idle", "prepare", "check", "async_", "fork"])
def test_a_watcher_without_ref_does_not_keep_the_loop_running(loop, name):
    args = [3600] if name == "timer" else []
    watcher = getattr(loop, name)(*args, ref=False)
    assert not watcher.ref
    watcher.start(lambda: None)
    assert loop.activecnt == 0
    loop.run()
    assert watcher.active
    watcher.ref = True
    assert loop.activecnt == 1
    watcher.ref = False
    assert loop.activecnt == 0
    watcher.stop()
    assert loop.activecnt == 0


def test_timers_fire_in_the_order_of_their_deadlines(loop):
    seen = []
    timers = [loop.timer(after) for after in (0.003, 0.001, 0.002, 0.001)]
    for number, timer in enumerate(timers):
        timer.start(seen.append, number)
    loop.run()
    assert seen in ([1, 3, 2, 0], [3, 1, 2, 0])


def test_again_starts_over_with_repeat(loop):
    seen = []
    timer = loop.timer(3600, repeat=0.005)
    timer.start(seen.append, "first")
    timer.again(lambda: (seen.append("again"), timer.stop()))
    loop.run()
    assert seen == ["again"]
    with pytest.raises(ValueError):
        loop.timer(1, -1)


# --- descriptors


def test_any_number_of_watchers_on_one_descriptor(loop, pair):
    first, second = pair
    seen = []
    readers = [loop.io(first.fileno(), core.READ) for _ in range(3)]
    writer = loop.io(first.fileno(), core.WRITE)
    both = loop.io(first.fileno(), core.READWRITE)
    for number, reader in enumerate(readers):
        reader.start(lambda n=number, r=reader: (seen.append(n), r.stop()))
    writer.start(lambda: (seen.append("write"), writer.stop()))
    both.start(lambda: (seen.append("both"), both.stop()))
    loop.run(once=True)
    assert sorted(seen) == ["both", "write"]
    seen.clear()
    second.send(b"x")
    loop.run()
    assert sorted(seen) == [0, 1, 2]


def test_io_passes_events(loop, pair):
    first, second = pair
    second.send(b"x")
    seen = []
    io = loop.io(first.fileno(), core.READWRITE)
    io.start(lambda *args: (seen.append(args), io.stop()), "more", pass_events=True)
    assert io.args == (core.EVENTS, "more")
    loop.run()
    [(events, more)] = seen
    assert events & 3 == core.READ | core.WRITE
    assert more == "more"


def test_io_attributes_can_be_changed_while_stopped_only(loop, pair):
    first, second = pair
    io = loop.io(first.fileno(), core.READ)
    assert io.events_str.startswith("READ")
    assert "WRITE" not in io.events_str
    io.fd = second.fileno()
    io.events = core.WRITE
    assert (io.fd, io.events & 3) == (second.fileno(), core.WRITE)
    seen = []
    io.start(lambda: (seen.append(1), io.stop()))
    with pytest.raises(AttributeError, match="'io' watcher attribute 'fd' is read-only"):
        io.fd = first.fileno()
    with pytest.raises(AttributeError, match="'io' watcher attribute 'events' is read-only"):
        io.events = core.READ
    loop.run()
    assert seen == [1]


def test_io_refuses_what_is_no_descriptor(loop):
    with pytest.raises(ValueError):
        loop.io(-1, core.READ)
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError):
        loop.io(reader, core.READ)
    with pytest.raises(ValueError, match="illegal event mask: 8"):
        loop.io(0, 8)


def test_closing_fd_calls_the_watchers_of_the_descriptor_back(loop, pair):
    first, _ = pair
    seen = []
    assert not loop.closing_fd(first.fileno())
    assert not loop.closing_fd(-1)
    io = loop.io(first.fileno(), core.READ)
    io.start(lambda: (seen.append(1), io.stop()))
    assert loop.closing_fd(first.fileno())
    assert loop.pendingcnt == 1
    first.close()
    loop.run(nowait=True)
    assert seen == [1]


# --- hubs' loops


def test_a_hub_takes_up_the_loop_that_the_last_one_left(run_script):
    result = run_script(
        """
        import gevent
        from gevent.hub import Hub, set_hub

        hub = gevent.get_hub()
        loop = hub.loop
        assert loop.default
        log = []
        timer = loop.timer(0.001)
        timer.start(log.append, 1)
        hub.destroy()
        assert hub.loop is None
        assert "destroyed" in repr(hub)
        assert gevent.get_hub() is not hub
        assert gevent.get_hub().loop is loop
        gevent.sleep(0.02)
        assert log == [1]

        gevent.get_hub().destroy(destroy_loop=True)
        assert not loop.ptr
        new = gevent.get_hub().loop
        assert new is not loop
        assert new.default
        assert new.ptr
        gevent.sleep(0.001)

        apart = gevent.config.loop(default=False)
        other = Hub(loop=apart)
        assert other.loop is apart
        other.destroy()
        assert not apart.ptr
        print("done")
        """
    )
    assert result.stdout == "done\n"


def test_a_thread_destroys_its_loop_with_its_hub():
    seen = []

    def work():
        hub = gevent.get_hub()
        loop = hub.loop
        seen.append(loop.default)
        hub.destroy()
        seen.append(bool(loop.ptr))
        seen.append(gevent.get_hub().loop is loop)
        gevent.get_hub().destroy()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, False, False]


def test_running_a_hubs_loop_runs_until_it_is_out_of_work(run_script):
    result = run_script(
        """
        import gevent

        loop = gevent.get_hub().loop
        log = []
        loop.run_callback(log.append, 1)
        loop.run()
        timer = loop.timer(0.01)
        timer.start(log.append, 2)
        loop.run(nowait=True)
        assert log == [1]
        loop.run()
        print(log)
        """
    )
    assert result.stdout == "[1, 2]\n"

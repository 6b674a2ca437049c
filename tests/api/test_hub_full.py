"""The hub and its loop: watchers, hub.wait, error handling, text forms."""

import os
import threading

import gevent
import pytest
from gevent.event import Event
from gevent.hub import Hub, get_hub


@pytest.fixture
def loop():
    return get_hub().loop


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_repr_of_hub_and_loop(loop):
    hub = get_hub()
    text = repr(hub)
    assert text.startswith("<Hub '' at 0x")
    assert f"thread_ident={hex(hub.thread_ident)}" in text
    assert repr(loop).startswith("<loop at 0x")


def test_hub_class_attributes():
    hub = get_hub()
    assert isinstance(hub, Hub)
    assert (KeyboardInterrupt, SystemExit, SystemError) == hub.SYSTEM_ERROR
    assert (gevent.GreenletExit, SystemExit) == hub.NOT_ERROR


def test_destroy_in_a_thread_of_its_own():
    hubs = []

    def run():
        hub = get_hub()
        gevent.sleep(0)
        hub.destroy()
        hubs.append((hub, get_hub()))
        get_hub().destroy()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    [(old, new)] = hubs
    assert new is not old
    assert gevent.spawn(len, "abc").get() == 3


def test_timer_calls_back_once(loop):
    seen = []
    timer = loop.timer(0.001)
    assert not timer.active
    timer.start(lambda *args: seen.append((args, gevent.getcurrent())), 1, 2)
    assert timer.active
    assert seen == []
    gevent.sleep(0.02)
    assert seen == [((1, 2), get_hub())]
    assert not timer.active
    timer.close()


def test_timer_stopped_does_not_call_back(loop):
    seen = []
    timer = loop.timer(0.001)
    timer.start(seen.append, 1)
    timer.stop()
    assert not timer.active
    gevent.sleep(0.01)
    assert seen == []
    timer.close()


def test_timer_repeats(loop):
    seen = []
    timer = loop.timer(0.001, 0.001)
    timer.start(seen.append, 1)
    with gevent.Timeout(30):
        while len(seen) < 3:
            gevent.sleep(0.001)
    assert timer.active
    timer.close()
    count = len(seen)
    gevent.sleep(0.01)
    assert len(seen) == count


def test_timer_bad_arguments(loop):
    with pytest.raises(TypeError):
        loop.timer("x")
    with pytest.raises(TypeError):
        loop.timer()
    timer = loop.timer(1)
    with pytest.raises(TypeError):
        timer.start(5)
    timer.close()


def test_io_reports_readable(loop, pipe):
    reader, writer = pipe
    seen = []
    watcher = loop.io(reader, 1)
    watcher.start(lambda: seen.append(os.read(reader, 10)))
    gevent.sleep(0.001)
    assert seen == []
    os.write(writer, b"data")
    with gevent.Timeout(30):
        while not seen:
            gevent.sleep(0.001)
    assert seen == [b"data"]
    watcher.stop()
    os.write(writer, b"more")
    gevent.sleep(0.005)
    assert seen == [b"data"]
    watcher.close()


def test_io_reports_writable(loop, pipe):
    seen = []
    watcher = loop.io(pipe[1], 2)
    watcher.start(lambda: (seen.append("writable"), watcher.stop()))
    with gevent.Timeout(30):
        while not seen:
            gevent.sleep(0.001)
    assert seen == ["writable"]
    watcher.close()


def test_io_bad_arguments(loop):
    with pytest.raises(ValueError):
        loop.io(-1, 1)
    with pytest.raises(ValueError):
        loop.io(0, 99)
    with pytest.raises(TypeError):
        loop.io("x", 1)


def test_watcher_callback_that_raises_is_reported_and_survived(loop, capsys):
    timer = loop.timer(0.001)
    timer.start(int, "bad")
    gevent.sleep(0.02)
    timer.close()
    err = capsys.readouterr().err
    assert "ValueError: invalid literal for int()" in err
    assert "failed with ValueError" in err


def test_hub_wait_parks_until_the_watcher_fires(pipe, loop):
    reader, writer = pipe
    with loop.io(reader, 1) as watcher:
        gevent.spawn_later(0.001, os.write, writer, b"x")
        assert get_hub().wait(watcher) is None
        assert not watcher.active
        assert os.read(reader, 1) == b"x"


def test_hub_wait_can_be_killed(pipe, loop):
    with loop.io(pipe[0], 1) as watcher:
        g = gevent.spawn(get_hub().wait, watcher)
        gevent.sleep(0)
        assert watcher.active
        g.kill()
        assert not watcher.active


def test_cancel_wait_raises_in_the_waiter(pipe, loop, capsys):
    watcher = loop.io(pipe[0], 1)
    g = gevent.spawn(get_hub().wait, watcher)
    gevent.sleep(0)
    get_hub().cancel_wait(watcher, OSError("closed"))
    g.join()
    assert isinstance(g.exception, OSError)
    watcher.close()


def test_cancel_waits_close_and_then(pipe, loop):
    hub, told = get_hub(), []
    watchers = [loop.io(pipe[0], 1), loop.io(pipe[1], 2), loop.io(pipe[0], 1)]
    # One of them is ready already, and is not waited for.
    waiting = [gevent.spawn(hub.wait, watchers[0]), gevent.spawn(hub.wait, watchers[2])]
    gevent.sleep(0)
    hub.cancel_waits_close_and_then([None, *watchers], OSError("closed"), told.append, "done")
    assert told == []
    gevent.joinall(waiting)
    assert told == ["done"]
    assert all(isinstance(greenlet.exception, OSError) for greenlet in waiting)
    assert not any(watcher.active for watcher in watchers)


def test_cancel_waits_that_there_are_not(pipe, loop):
    told = []
    watcher = loop.io(pipe[0], 1)
    get_hub().cancel_waits_close_and_then([watcher, None], OSError, told.append, "done")
    assert told == ["done"]
    get_hub().cancel_waits_close_and_then([], OSError, told.append, "none")
    assert told == ["done", "none"]


def test_callback_object(loop):
    seen = []
    callback = loop.run_callback(seen.append, 5)
    assert callback.callback == seen.append
    assert callback.args == (5,)
    assert callback.pending
    assert bool(callback)
    gevent.sleep(0)
    assert not callback.pending
    assert not bool(callback)


def test_handle_error_prints_the_context_and_the_error(capsys):
    try:
        raise ValueError("handled")
    except ValueError as error:
        get_hub().handle_error("a context", ValueError, error, error.__traceback__)
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "ValueError: handled" in err
    assert "a context failed with ValueError" in err


def test_handle_error_prints_nothing_for_greenlet_exit(capsys):
    error = gevent.GreenletExit()
    get_hub().handle_error("a context", type(error), error, None)
    assert capsys.readouterr().err == ""


def test_handle_error_can_be_replaced(run_script):
    result = run_script(
        """
        import gevent

        def handler(context, kind, value, tb):
            print(type(context).__name__, kind.__name__, value)

        gevent.get_hub().handle_error = handler
        gevent.spawn(int, "bad").join()
        """
    )
    assert result.stdout == ("Greenlet ValueError invalid literal for int() with base 10: 'bad'\n")
    assert result.stderr == ""


def test_hub_join_waits_for_everything(run_script):
    result = run_script(
        """
        import gevent

        gevent.spawn_later(0.01, print, "late")
        gevent.spawn(print, "early")
        print(gevent.get_hub().join())
        """
    )
    assert result.stdout == "early\nlate\nTrue\n"


def test_idle_prepare_and_check_watchers_run(loop):
    seen = set()
    watchers = [(name, getattr(loop, name)()) for name in ("idle", "prepare", "check")]
    for name, watcher in watchers:
        watcher.start(seen.add, name)
    with gevent.Timeout(30):
        while len(seen) < 3:
            gevent.sleep(0.001)
    for _, watcher in watchers:
        watcher.close()
    assert seen == {"idle", "prepare", "check"}


def test_async_watcher_is_woken_from_another_thread(loop):
    event = Event()
    watcher = loop.async_()
    watcher.start(event.set)
    thread = threading.Timer(0.01, watcher.send)
    thread.start()
    assert event.wait(timeout=30)
    thread.join()
    watcher.close()


def test_now_advances(loop):
    loop.update_now()
    first = loop.now()
    gevent.sleep(0.005)
    assert loop.now() > first

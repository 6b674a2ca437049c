"""What loops and watchers do here beyond gevent's."""

import os
import signal
import subprocess
import sys
import threading
import time

import gevent
import pytest
from gevent import core, get_hub
from gevent.hub import InvalidThreadUseError

GUARD = 60


@pytest.fixture
def loop():
    made = core.loop(default=False)
    yield made
    made.destroy()


# --- the wall clock


def test_a_moment_is_told_once(loop):
    told = []
    moment = time.time() + 0.02
    watcher = loop.periodic(moment)
    assert (watcher.offset, watcher.interval, watcher.at()) == (moment, 0.0, None)
    watcher.start(lambda: told.append(time.time()))
    assert watcher.at() == pytest.approx(moment, abs=1e-6)
    loop.run()
    [when] = told
    assert when >= moment - 1e-6
    assert not watcher.active
    assert watcher.callback is None


def test_an_interval_falls_on_its_multiples(loop):
    told = []
    watcher = core.periodic(loop, 0.003, 0.01)

    def tick():
        told.append(watcher.at())
        if len(told) == 3:
            watcher.stop()

    watcher.start(tick)
    loop.run()
    assert told == sorted(set(told))
    for moment in told:
        assert (moment - 0.003) % 0.01 == pytest.approx(0, abs=1e-5) or (
            moment - 0.003
        ) % 0.01 == pytest.approx(0.01, abs=1e-5)


def test_a_past_moment_is_told_at_once_and_a_stopped_one_is_not(loop):
    told = []
    loop_watchers = [loop.periodic(0), loop.periodic(time.time() + 0.005)]
    for number, watcher in enumerate(loop_watchers):
        watcher.start(told.append, number)
    loop_watchers[1].stop()
    loop.run()
    assert told == [0]


def test_periodic_without_ref(loop):
    watcher = loop.periodic(interval=3600, ref=False)
    watcher.start(print)
    assert loop.run() is None
    assert watcher.active


def test_periodic_attributes_can_be_changed_while_stopped_only(loop):
    watcher = loop.periodic(5, 7)
    watcher.offset, watcher.interval = 1, 3600
    watcher.start(print)
    assert watcher.at() % 3600 == pytest.approx(1)
    with pytest.raises(AttributeError, match="'offset' is read-only"):
        watcher.offset = 2
    with pytest.raises(AttributeError, match="'interval' is read-only"):
        watcher.interval = 2
    watcher.stop()
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="interval"):
            loop.periodic(0, wrong)
    with pytest.raises(ValueError, match="offset"):
        loop.periodic(float("nan"))


# --- children


def test_a_child_that_has_ended_already_is_told():
    loop = get_hub().loop
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(4)"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    watcher = loop.child(child.pid)
    with gevent.Timeout(GUARD):
        get_hub().wait(watcher)
    assert os.waitstatus_to_exitcode(watcher.rstatus) == 4
    child.returncode = 4


def test_a_child_that_somebody_else_waited_for_is_told_without_its_status():
    loop = get_hub().loop
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(4)"])
    watcher = loop.child(child.pid)
    watcher.start(lambda: None)
    assert os.waitpid(child.pid, 0)[0] == child.pid
    child.returncode = 4
    with gevent.Timeout(GUARD):
        while not watcher.rpid:
            gevent.sleep(0.005)
    assert os.waitstatus_to_exitcode(watcher.rstatus) == 255
    watcher.close()


def test_child_watchers_leave_the_handler_of_sigchld_alone():
    loop = get_hub().loop
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda *args: seen.append(1))
    try:
        child = subprocess.Popen([sys.executable, "-c", "pass"])
        watcher = loop.child(child.pid)
        with gevent.Timeout(GUARD):
            get_hub().wait(watcher)
        gevent.sleep(0)
        assert seen == [1]
    finally:
        signal.signal(signal.SIGCHLD, before)
    child.returncode = 0


# --- threads


def test_a_loop_of_another_thread_says_so(loop):
    timer = loop.timer(1)
    timer.start(print)
    errors = []

    def work():
        for use in (
            loop.run,
            loop.update_now,
            loop.destroy,
            timer.stop,
            lambda: loop.run_callback(print),
            lambda: loop.timer(1).start(print),
        ):
            try:
                use()
            except InvalidThreadUseError as error:
                errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(errors) == 6
    assert all("belongs to another thread" in error for error in errors)


def test_a_loop_can_be_looked_at_from_another_thread_while_it_waits(loop):
    seen = []
    watcher = loop.async_()
    timer = loop.timer(3600)
    timer.start(print)
    watcher.start(lambda: (watcher.stop(), timer.stop()))

    def work():
        while loop.iteration < 1:
            time.sleep(0.001)
        time.sleep(0.01)
        seen.append((loop.activecnt, loop.pendingcnt, loop.now() > 0, repr(loop)))
        watcher.send()

    thread = threading.Thread(target=work)
    thread.start()
    loop.run()
    thread.join()
    [(active, pending, now, text)] = seen
    assert (active, pending, now) == (2, 0, True)
    assert "active=2" in text


# --- errors


def test_what_a_signal_handler_raises_is_raised_by_run(loop):
    class Interrupted(Exception):
        pass

    def handler(*args):
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = loop.timer(3600)
        timer.start(print)
        sender = threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGUSR1])
        sender.start()
        with pytest.raises(Interrupted):
            loop.run()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_keyboard_interrupt_in_a_callback_is_raised_by_run(loop):
    def callback():
        raise KeyboardInterrupt

    loop.run_callback(callback)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert loop.run() is None


def test_a_destroyed_loop_starts_no_watchers(loop):
    timer, idle = loop.timer(1), loop.idle()
    timer.start(print)
    idle.start(print)
    loop.destroy()
    assert not timer.active
    assert not idle.active
    timer.stop()
    timer.close()
    with pytest.raises(ValueError, match="operation on destroyed loop"):
        timer.start(print)


def test_a_repeating_timer_does_not_drift(loop):
    interval = 0.01
    told = []
    timer = loop.timer(interval, interval)
    loop.update_now()
    start = loop.now()

    def tick():
        told.append(loop.now() - start)
        time.sleep(0.004)
        if len(told) == 10:
            timer.stop()

    timer.start(tick)
    loop.run()
    # On time, or late for its own reasons, but never by the sum of what the callbacks took.
    assert min(late - interval * n for n, late in enumerate(told, 1)) < 0.02


# --- the choice of loop


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("epoll", "epoll"),
        ("poll", "poll"),
        ("default", "epoll"),
        ("libev-cext", "epoll"),
        ("libuv-cffi", "epoll"),
        ("kqueue,poll,epoll", "poll"),
        ("no.such.loop,epoll", "epoll"),
        ("greenloop.core.PollLoop", "poll"),
    ],
)
@pytest.mark.parametrize("variable", ["GREENLOOP_LOOP", "GEVENT_LOOP"])
def test_the_loop_is_chosen_by_name(run_script, variable, name, backend):
    result = run_script(
        """
        import gevent
        gevent.sleep(0.001)
        print(gevent.get_hub().loop.backend, gevent.config.loop(default=False).backend)
        """,
        env={"GREENLOOP_LOOP": "", variable: name},
    )
    assert result.check_quiet() == f"{backend} {backend}\n"


def test_a_name_of_nothing_is_an_error(run_script):
    result = run_script(
        "import gevent; gevent.get_hub()", env={"GREENLOOP_LOOP": "kqueue,io_uring"}
    )
    assert result.returncode == 1
    assert "ImportError" in result.stderr


def test_config_loop_can_be_assigned(run_script):
    result = run_script(
        """
        import gevent
        from gevent import core
        gevent.config.loop = "poll"
        assert gevent.config.loop is core.PollLoop
        assert gevent.get_hub().loop_class is core.PollLoop
        print(gevent.get_hub().loop.backend, core.loop("select").backend)
        """
    )
    assert result.check_quiet() == "poll poll\n"

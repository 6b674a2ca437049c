"""signal_handler, and a child process that goes on with a hub of its own."""

import os
import signal
import threading

import gevent
import pytest
from gevent.event import Event


def send(signum):
    os.kill(os.getpid(), signum)


def test_signal_handler_calls_the_function_in_a_greenlet_that_may_wait():
    main = gevent.getcurrent()
    seen = []
    done = Event()

    def handler(*args, **kwargs):
        seen.append((args, kwargs, gevent.getcurrent() not in (main, gevent.get_hub())))
        gevent.sleep(0)
        done.set()

    watcher = gevent.signal_handler(signal.SIGUSR1, handler, 1, two=2)
    try:
        for count in (1, 2):
            done.clear()
            send(signal.SIGUSR1)
            assert done.wait(timeout=30)
            assert seen == [((1,), {"two": 2}, True)] * count
    finally:
        watcher.cancel()


def test_a_cancelled_signal_handler_is_not_called():
    seen = []
    kept, done = [], Event()
    cancelled = gevent.signal_handler(signal.SIGUSR1, seen.append, 1)
    other = gevent.signal_handler(signal.SIGUSR1, lambda: (kept.append(1), done.set()))
    cancelled.cancel()
    try:
        send(signal.SIGUSR1)
        assert done.wait(timeout=30)
        gevent.sleep(0)
        assert (seen, kept) == ([], [1])
    finally:
        other.cancel()


def test_what_a_signal_handler_raises_is_raised_in_the_main_greenlet(capsys):
    def handler():
        raise ValueError("from the handler")

    watcher = gevent.signal_handler(signal.SIGUSR1, handler)
    try:
        send(signal.SIGUSR1)
        with pytest.raises(ValueError, match="from the handler"):
            gevent.sleep(30)
    finally:
        watcher.cancel()


def test_what_a_handler_of_the_signal_module_raises_is_raised_in_the_main_greenlet(capsys):
    def handler(signum, frame):
        raise ValueError(signum)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        sender = threading.Timer(0.05, send, [signal.SIGUSR1])
        sender.start()
        with pytest.raises(ValueError, match=str(signal.SIGUSR1.value)):
            gevent.sleep(30)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_needs_a_function_and_a_signal():
    with pytest.raises(TypeError):
        gevent.signal_handler(signal.SIGUSR1, 5)
    with pytest.raises(ValueError):
        gevent.signal_handler(10_000, print)


def test_a_signal_handler_does_not_keep_the_loop_running(run_script):
    result = run_script(
        """
        import signal
        import gevent

        watcher = gevent.signal_handler(signal.SIGUSR1, print)
        assert not watcher.ref
        print(gevent.wait())
        """
    )
    assert result.stdout == "True\n"


@pytest.mark.parametrize("fork", ["os.fork()", "gevent.fork()"])
def test_parent_and_child_go_on_apart(run_script, fork):
    result = run_script(
        f"""
        import os
        import gevent

        gevent.sleep(0.001)  # the hub has begun
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        pid = {fork}
        if not pid:
            gevent.reinit()
            gevent.reinit()
            watcher = gevent.get_hub().loop.io(reader, 1)
            gevent.spawn_later(0.001, os.write, writer, b"x")
            gevent.get_hub().wait(watcher)
            result = gevent.spawn(lambda: gevent.sleep(0.001) or "child").get()
            print(result, flush=True)
            os._exit(0)
        g = gevent.spawn(lambda: gevent.sleep(0.05) or "parent")
        _, status = os.waitpid(pid, 0)
        print(g.get(), status)
        """
    )
    assert result.check_quiet() == "child\nparent 0\n"


def test_fork_in_a_greenlet(run_script):
    result = run_script(
        """
        import os
        import gevent

        def parted():
            gevent.sleep(0.001)
            pid = gevent.fork()
            gevent.sleep(0.001)
            if not pid:
                print("child", flush=True)
                os._exit(3)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        print(gevent.spawn(parted).get())
        """
    )
    assert result.check_quiet() == "child\n3\n"

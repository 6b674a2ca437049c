"""threading.Thread after patching."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def test_threads_run_as_greenlets(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time, gevent, greenlet

        assert isinstance(threading.Thread(), threading.Thread)
        main, native = greenlet.getcurrent(), threading.get_native_id()
        seen = []

        def work():
            assert greenlet.getcurrent() is not main
            assert isinstance(greenlet.getcurrent(), gevent.Greenlet)
            assert threading.get_native_id() == native
            seen.append(threading.get_ident())
            time.sleep(0.01)
            assert threading.get_ident() == seen[0]

        thread = threading.Thread(target=work)
        assert not thread.is_alive() and thread.ident is None
        thread.start()
        assert thread.is_alive()
        assert thread.ident == seen[0] != threading.get_ident()
        assert thread.native_id == native
        assert threading.enumerate() == [threading.main_thread(), thread]
        thread.join()
        assert not thread.is_alive()
        assert threading.enumerate() == [threading.main_thread()]
        assert threading.active_count() == 1
        thread.join()
        """
    run_script(script).check_quiet()


def test_start_and_join_errors(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading

        def refused(function):
            try:
                function()
            except RuntimeError as error:
                print(error)

        thread = threading.Thread(target=lambda: refused(thread.join))
        refused(thread.join)
        thread.start()
        thread.join()
        refused(thread.start)
        refused(threading.current_thread().join)
        """
    assert run_script(script).check_quiet().splitlines() == [
        "cannot join thread before it is started",
        "cannot join current thread",
        "threads can only be started once",
        "cannot join current thread",
    ]


def test_join_with_timeout(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time

        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        begin = time.monotonic()
        thread.join(0.02)
        assert time.monotonic() - begin >= 0.02
        assert thread.is_alive()
        thread.join(0)
        thread.join(-1)
        assert thread.is_alive()
        joiners = [threading.Thread(target=thread.join) for _ in range(5)]
        joiners.append(threading.Thread(target=thread.join, args=(60,)))
        for joiner in joiners:
            joiner.start()
        event.set()
        thread.join(60)
        assert not thread.is_alive()
        for joiner in joiners:
            joiner.join(60)
            assert not joiner.is_alive()
        """
    run_script(script).check_quiet()


def test_identity_of_the_main_thread(run_script: Any) -> None:
    script = """
        import threading
        before = threading.get_ident(), threading.current_thread()
        from gevent import monkey; monkey.patch_all()
        assert (threading.get_ident(), threading.current_thread()) == before
        assert threading.current_thread() is threading.main_thread()
        assert threading.main_thread().ident == threading.get_ident()
        assert threading.get_ident() == monkey.get_original("threading", "get_ident")()
        """
    run_script(script).check_quiet()


def test_identities_are_unique(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, threading, gevent, gevent.thread

        done = threading.Event()
        idents = []

        def work():
            idents.append(threading.get_ident())
            done.wait()
            assert idents[0] == _thread.get_ident() or threading.get_ident() in idents

        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        greenlets = [gevent.spawn(work) for _ in range(10)]
        gevent.sleep(0)
        idents.append(threading.get_ident())
        assert len(set(idents)) == 21
        assert [thread.ident for thread in threads] == idents[:10]
        assert [gevent.thread.get_ident(greenlet) for greenlet in greenlets] == idents[10:20]
        assert gevent.thread.get_ident(greenlets[0].parent.parent) == threading.get_ident()
        done.set()
        gevent.joinall(greenlets)
        """
    run_script(script).check_quiet()


def test_names_and_daemons(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading

        def work():
            print(threading.current_thread().name, threading.current_thread().daemon)
            child = threading.Thread(target=int)
            assert child.daemon is threading.current_thread().daemon

        for thread in [
            threading.Thread(target=work, name="one"),
            threading.Thread(target=work, name="two", daemon=True),
        ]:
            thread.start()
            try:
                thread.daemon = not thread.daemon
            except RuntimeError:
                pass
            thread.join()
        """
    assert run_script(script).check_quiet() == "one False\ntwo True\n"


def test_the_end_waits_for_threads_but_not_for_daemons(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import atexit, threading, time

        def work(pause, then=None):
            time.sleep(pause)
            print(threading.current_thread().name, flush=True)
            if then:
                then()

        def later():
            threading.Thread(target=work, args=(0.01,), name="later").start()

        atexit.register(print, "exit handler")
        threading.Thread(target=work, args=(3600,), name="daemon", daemon=True).start()
        threading.Thread(target=work, args=(0.05, later), name="last").start()
        threading.Thread(target=work, args=(0.01,), name="first").start()
        print("main")
        """
    out = run_script(script).check_quiet()
    assert out.splitlines() == ["main", "first", "last", "later", "exit handler"]


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "raise ValueError('main')"])
def test_the_end_waits_for_threads_after_an_error(run_script: Any, ending: str) -> None:
    script = f"""
        from gevent import monkey; monkey.patch_all()
        import threading, time

        threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
        {ending}
        """
    result = run_script(script)
    assert result.stdout == "thread\n"
    assert result.returncode == (3 if "SystemExit" in ending else 1)


def test_excepthook(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading

        def fail(error):
            raise error

        def run(error):
            thread = threading.Thread(target=fail, args=(error,), name="failing")
            thread.start()
            thread.join()

        run(ValueError("default hook"))
        run(SystemExit(1))
        threading.excepthook = lambda args: print(args.exc_type, args.exc_value, args.thread.name)
        run(ValueError("own hook"))
        """
    result = run_script(script)
    assert result.check() == "<class 'ValueError'> own hook failing\n"
    assert result.stderr.startswith("Exception in thread failing:\nTraceback")
    assert result.stderr.endswith("ValueError: default hook\n")
    assert result.stderr.count("Traceback") == 1


def test_subclasses_and_timer(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading

        class Own(threading.Thread):
            def run(self):
                print("run", self.name)

        own = Own(name="own")
        own.start()
        own.join()
        fired = threading.Timer(0.01, print, ("fired",))
        cancelled = threading.Timer(3600, print, ("never",))
        for timer in (fired, cancelled):
            timer.start()
        cancelled.cancel()
        for timer in (fired, cancelled):
            timer.join()
        """
    assert run_script(script).check_quiet() == "run own\nfired\n"


def test_trace_and_profile_functions_are_left_alone(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading

        names = set()

        def profile(frame, event, arg):
            names.add(frame.f_code.co_name)

        def work():
            pass

        assert not monkey.is_object_patched("threading", "setprofile")
        assert not monkey.is_object_patched("threading", "settrace")
        threading.setprofile(profile)
        assert threading.getprofile() is profile
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        threading.setprofile(None)
        assert "work" in names, names
        """
    run_script(script).check_quiet()


# --- greenlets that are no threads


def test_dummy_threads_go_with_their_greenlets(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import gc, threading, gevent

        names = set()

        def work():
            me = threading.current_thread()
            names.add(me.name)
            assert me is not threading.main_thread()
            assert isinstance(me, threading._DummyThread)
            assert me.ident == threading.get_ident()
            assert me.daemon
            gevent.sleep(0)
            assert threading.current_thread() is me

        finished = [gevent.spawn(work) for _ in range(100)]
        gevent.joinall(finished, raise_error=True)
        raw = [gevent.spawn_raw(work) for _ in range(100)]
        gevent.sleep(0)
        gevent.sleep(0)
        del raw
        gc.collect()
        assert len(names) == 200
        assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
        assert len(threading._active) == 1
        """
    run_script(script).check_quiet()


def test_current_thread_in_the_hub(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import logging, sys, threading, gevent

        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        lock = threading.RLock()

        def callback():
            me = threading.current_thread()
            with lock:
                logging.warning("%s", me is threading.current_thread())
            done.set()

        done = threading.Event()
        gevent.get_hub().loop.run_callback(callback)
        done.wait(60)
        logging.warning("main")
        """
    assert run_script(script).check_quiet() == "True\nmain\n"


def test_native_threads_use_patched_modules(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import logging, sys, threading, time

        start = monkey.get_original("_thread", "start_new_thread")
        native_ident = monkey.get_original("threading", "get_ident")
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        lock = threading.Lock()
        local = threading.local()
        local.value = "main"
        done = threading.Event()
        seen = []

        def native():
            me = threading.current_thread()
            seen.append(threading.get_ident() == native_ident())
            seen.append(threading.get_ident() != threading.main_thread().ident)
            seen.append(threading.current_thread() is me)
            seen.append(not hasattr(local, "value"))
            logging.warning("native")
            with lock:
                time.sleep(0.01)
                child = threading.Thread(target=seen.append, args=(True,))
                child.start()
                child.join()
            done.set()

        with lock:
            start(native, ())
            time.sleep(0.05)
            seen.append(not done.is_set())
        assert done.wait(60)
        assert seen == [True] * 6, seen
        # The entry goes with the native thread, which ends soon.
        deadline = time.monotonic() + 60
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
        """
    assert run_script(script).check_quiet() == "native\n"


def test_fork_in_a_thread(run_script: Any) -> None:
    """The thread is the child's main thread, and the former one has ended."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import os, sys, threading, warnings

        warnings.simplefilter("ignore")
        main = threading.main_thread()

        def work():
            me = threading.current_thread()
            child = os.fork()
            if child == 0:
                main.join(60)
                joiner = threading.Thread(target=main.join)
                joiner.start()
                joiner.join(60)
                alive = main.is_alive() or joiner.is_alive()
                print(alive, threading.main_thread() is me, flush=True)
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), main.is_alive())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    assert run_script(script).check_quiet() == "False True\n7 True\n"


def test_where_replaced_names_say_they_are_from(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import pickle, threading

        for name in ("Lock", "local", "get_ident"):
            assert getattr(threading, name).__module__ == "_thread", name
        assert pickle.loads(pickle.dumps(threading.get_ident)) is threading.get_ident
        assert repr(threading.local()).startswith("<_thread._local object at ")
        """
    run_script(script).check_quiet()


# --- _thread


def test_start_new_thread(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, time

        seen = {}

        def work(a, b=None):
            seen["ident"] = _thread.get_ident()
            seen["args"] = a, b
            seen["count"] = _thread._count()
            time.sleep(0.01)
            _thread.exit()

        before = _thread._count()
        ident = _thread.start_new_thread(work, (1,), {"b": 2})
        assert seen == {}
        time.sleep(0)
        assert seen == {"ident": ident, "args": (1, 2), "count": before + 1}, seen
        while _thread._count() > before:
            time.sleep(0.01)
        for args in [(1, ()), (work, []), (work, (), [])]:
            try:
                _thread.start_new_thread(*args)
            except TypeError:
                pass
            else:
                raise AssertionError(args)
        """
    run_script(script).check_quiet()


def test_an_error_in_a_low_level_thread(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, sys, time

        def fail():
            raise ValueError("failed")

        _thread.start_new_thread(fail, ())
        time.sleep(0.01)
        standard = sys.unraisablehook
        def hook(args):
            assert "thread started by" in args.err_msg
            assert fail is args.object or repr(fail) in args.err_msg
            print(args.exc_type.__name__, args.exc_value, args.exc_traceback is not None)
            standard(args)
        sys.unraisablehook = hook
        _thread.start_new_thread(fail, ())
        time.sleep(0.01)
        """
    result = run_script(script)
    assert result.check() == "ValueError failed True\n"
    assert result.stderr.count("ValueError: failed") == 2
    assert result.stderr.count("in thread started by") == 2


def test_low_level_lock_and_numbers(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, threading

        assert isinstance(_thread.allocate_lock(), _thread.LockType)
        assert isinstance(threading.Lock(), _thread.LockType)
        assert isinstance(threading.RLock(), _thread.RLock)
        assert _thread.TIMEOUT_MAX == threading.TIMEOUT_MAX
        assert _thread.stack_size() == threading.stack_size() == 0
        assert threading.stack_size(1 << 20) == 0
        assert threading.stack_size(0) == 1 << 20
        """
    run_script(script).check_quiet()


@pytest.mark.parametrize("where", ["main", "thread"])
def test_interrupt_main(run_script: Any, where: str) -> None:
    script = f"""
        from gevent import monkey; monkey.patch_all()
        import _thread, threading, time

        thread = threading.Timer(0.01, _thread.interrupt_main)
        try:
            if "{where}" == "thread":
                thread.start()
                time.sleep(60)
            else:
                _thread.interrupt_main()
                time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")
        try:
            _thread.interrupt_main(12345)
        except ValueError as error:
            print(error)
        """
    assert run_script(script).check_quiet() == "interrupted\nsignal number out of range\n"


def test_an_interrupt_comes_before_the_wake_up(run_script: Any) -> None:
    """As with real threads: the main thread does not go on as if nothing had been."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, threading

        thread = threading.Thread(target=_thread.interrupt_main)
        try:
            thread.start()
            thread.join()
            print("joined")
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        """
    assert run_script(script).check_quiet() == "interrupted\n"


def test_interrupt_main_calls_the_handler(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, signal, threading, time

        called = threading.Event()
        signal.signal(signal.SIGUSR1, lambda number, frame: called.set())
        threading.Thread(target=_thread.interrupt_main, args=(signal.SIGUSR1,)).start()
        assert called.wait(60)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        threading.Thread(target=_thread.interrupt_main, args=(signal.SIGUSR1,)).start()
        time.sleep(0.01)
        """
    run_script(script).check_quiet()


def test_keyboard_interrupt_goes_to_the_main_thread(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import os, signal, threading, time

        def busy():
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass

        thread = threading.Thread(target=busy, daemon=True)
        try:
            thread.start()
            thread.join()
            time.sleep(60)
        except KeyboardInterrupt:
            print("main")
        """
    assert run_script(script).check_quiet() == "main\n"


def test_a_killed_thread_ends_quietly(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time, gevent, greenlet

        greenlets = []

        def work():
            greenlets.append(greenlet.getcurrent())
            try:
                time.sleep(3600)
            finally:
                print("finally")

        thread = threading.Thread(target=work)
        thread.start()
        gevent.kill(greenlets[0])
        thread.join()
        assert threading.enumerate() == [threading.main_thread()]
        """
    assert run_script(script).check_quiet() == "finally\n"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_joinable_threads(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import _thread, time

        def refused(kind, function, *args, **kwargs):
            try:
                function(*args, **kwargs)
            except kind as error:
                print(error)
            else:
                raise AssertionError("not refused")

        handle = _thread._ThreadHandle()
        assert not handle.is_done()
        refused(RuntimeError, handle.join)
        refused(RuntimeError, handle._set_done)
        seen = []

        def work():
            seen.append(_thread.get_ident())
            refused(RuntimeError, handle.join)
            time.sleep(0.01)

        assert _thread.start_joinable_thread(work, handle=handle, daemon=True) is handle
        time.sleep(0)
        assert seen == [handle.ident]
        refused(RuntimeError, _thread.start_joinable_thread, work, handle=handle)
        refused(TypeError, _thread.start_joinable_thread, work, handle=1)
        refused(TypeError, _thread.start_joinable_thread, 1)
        handle.join(0)
        assert not handle.is_done()
        handle.join()
        assert handle.is_done()
        handle.join(1)
        made = _thread._make_thread_handle(handle.ident)
        assert made.ident == handle.ident and not made.is_done()
        made._set_done()
        assert made.is_done()
        """
    assert run_script(script).check_quiet().splitlines() == [
        "thread not started",
        "thread not started",
        "Cannot join current thread",
        "thread already started",
        "'handle' must be a _ThreadHandle",
        "thread function must be callable",
    ]


def test_joining_the_main_thread(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import threading, time

        def work():
            threading.main_thread().join(0.01)
            assert threading.main_thread().is_alive()
            threading.main_thread().join()
            print("main is over", threading.main_thread().is_alive())

        threading.Thread(target=work).start()
        time.sleep(0.05)
        print("main")
        """
    assert run_script(script).check_quiet() == "main\nmain is over False\n"


def test_patching_in_another_thread(run_script: Any) -> None:
    script = """
        import threading

        def work():
            from gevent import monkey; monkey.patch_all()
            import time

            assert threading.current_thread() is thread
            child = threading.Thread(target=lambda: (time.sleep(0.01), print("child")))
            child.start()
            child.join()
            print("thread")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not thread.is_alive()
        other = threading.Thread(target=print, args=("from main",))
        other.start()
        other.join()
        """
    assert run_script(script).check_quiet() == "child\nthread\nfrom main\n"


def test_patching_in_a_greenlet_during_an_import(run_script: Any, tmp_path: Any) -> None:
    (tmp_path / "patching.py").write_text(
        "from gevent import monkey; monkey.patch_all()\nimport time; time.sleep(0.01)\nx = 1\n"
    )
    script = """
        import sys, gevent
        sys.path.insert(0, sys.argv[1])

        def load():
            import patching
            return patching.x

        print(gevent.spawn(load).get())
        """
    assert run_script(script, str(tmp_path)).check_quiet() == "1\n"


def test_two_greenlets_import_the_same_module(run_script: Any, tmp_path: Any) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.05)\nx = 1\n")
    script = """
        from gevent import monkey; monkey.patch_all()
        import sys, threading
        sys.path.insert(0, sys.argv[1])
        seen = []

        def load():
            import slow
            seen.append(slow.x)

        threads = [threading.Thread(target=load) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(seen)
        """
    assert run_script(script, str(tmp_path)).check_quiet() == "[1, 1, 1, 1, 1]\n"

"""Patching when much has been imported, made and started already; and patching again."""

from __future__ import annotations

from typing import Any

import pytest


def test_twice(run_script: Any) -> None:
    script = """
        from gevent import monkey
        assert monkey.patch_all()
        monkey.patch_sys()
        import _thread, select, selectors, socket, ssl, threading, time, queue, warnings

        modules = (_thread, select, selectors, socket, ssl, threading, time, queue)
        before = [dict(vars(module)) for module in modules]
        saved = {name: dict(items) for name, items in monkey.saved.items()}
        lock = threading.Lock()
        monkey.patch_all()
        for name in dir(monkey):
            if name.startswith("patch_") and name not in ("patch_item", "patch_module"):
                getattr(monkey, name)()
        assert [dict(vars(module)) for module in modules] == before
        assert monkey.saved == saved

        thread = threading.Thread(target=lambda: time.sleep(0.01))
        thread.start()
        thread.join()
        ssl.create_default_context().minimum_version = ssl.TLSVersion.TLSv1_2
        """
    run_script(script).check_quiet()


def test_again_with_other_arguments(run_script: Any) -> None:
    script = """
        import warnings
        from gevent import monkey

        warnings.simplefilter("error")
        monkey.patch_all(ssl=False)
        monkey.patch_all(ssl=False)
        try:
            monkey.patch_all(ssl=True)
        except monkey.MonkeyPatchWarning as warning:
            assert isinstance(warning, RuntimeWarning)
            print("warned")
        warnings.simplefilter("ignore")
        monkey.patch_all(ssl=True)
        print(monkey.is_module_patched("ssl"))
        """
    assert run_script(script).check_quiet() == "warned\nTrue\n"


def test_each_call_with_other_arguments_warns(run_script: Any) -> None:
    script = """
        import warnings
        from gevent import monkey

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monkey.patch_all(ssl=False)
            monkey.patch_all(ssl=True)
            print(len(caught))
            monkey.patch_all()
            print(len(caught))
            for _ in range(2):
                monkey.patch_all(os=False)
            print(len(caught), "more than once" in str(caught[-1].message))
        """
    assert run_script(script).check_quiet() == "1\n1\n3 True\n"


def test_a_warning_points_at_the_caller(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_all()
        monkey.patch_all(time=False)  # this line
        """
    result = run_script(script)
    result.check()
    assert "# this line" in result.stderr
    assert "script_1.py:4: MonkeyPatchWarning" in result.stderr


def test_locks_made_before(run_script: Any) -> None:
    script = """
        import collections, functools, logging, queue, threading

        class Slots:
            __slots__ = ("lock",)

            def __init__(self):
                self.lock = threading.Lock()

        class Shared:
            lock = threading.Lock()

        def closure():
            lock = threading.Lock()
            return lambda: lock

        def fresh(kind):
            return type(kind())

        native = fresh(threading.Lock), fresh(threading.RLock)
        module_lock = threading.Lock()
        slots, from_closure = Slots(), closure()
        listed, queued = [threading.Lock()], collections.deque([threading.RLock()])
        condition, event = threading.Condition(), threading.Event()
        semaphore, barrier = threading.Semaphore(2), threading.Barrier(2)
        fifo = queue.Queue(1)
        fifo.put("early")
        simple = queue.SimpleQueue()
        simple.put("early")
        handler = logging.StreamHandler()
        release = module_lock.release

        from gevent import monkey; monkey.patch_all()

        lock_type, rlock_type = fresh(threading.Lock), fresh(threading.RLock)
        assert native != (lock_type, rlock_type)
        for lock in (module_lock, slots.lock, Shared.lock, from_closure(), listed[0],
                     event._cond._lock, semaphore._cond._lock, barrier._cond._lock, fifo.mutex):
            assert type(lock) is lock_type, lock
        for lock in (queued[0], condition._lock, handler.lock, logging._lock,
                     threading._active_limbo_lock, functools.RLock()):
            assert type(lock) is rlock_type, lock
        assert release.__self__ is module_lock
        assert fifo.not_empty._lock is fifo.not_full._lock is fifo.mutex
        assert condition.acquire.__self__ is condition._lock
        assert Shared().lock is Shared.lock

        # And they work.
        def work():
            with module_lock:
                assert fifo.get() == "early"
                assert simple.get() == "early"
            assert event.wait(60)
            with condition:
                while not flag:
                    condition.wait(60)
            barrier.wait(60)

        flag = []
        threads = [threading.Thread(target=work)]
        threads.append(threading.Thread(target=barrier.wait, args=(60,)))
        for thread in threads:
            thread.start()
        event.set()
        with condition:
            flag.append(1)
            condition.notify()
        for thread in threads:
            thread.join()
        """
    run_script(script).check_quiet()


def test_locks_in_use_are_left_alone(run_script: Any) -> None:
    script = """
        import threading

        held, again = threading.Lock(), threading.RLock()
        natives = type(held), type(again)
        known = {threading.Lock(): "as a key"}
        constant = (threading.Lock(),)

        def here(local):
            with held, again:
                from gevent import monkey; monkey.patch_all()
            assert type(local) is natives[0]

        here(threading.Lock())
        assert (type(held), type(again)) == natives
        assert type(next(iter(known))) is natives[0]
        assert type(constant[0]) is natives[0]
        assert type(threading.Lock()) is not natives[0]
        with held, again:
            pass
        """
    run_script(script).check_quiet()


def test_existing_locks_can_be_kept(run_script: Any) -> None:
    script = """
        import threading

        lock = threading.Lock()
        native = type(lock)
        from gevent import monkey; monkey.patch_thread(existing_locks=False)
        assert type(lock) is native
        assert type(threading.Lock()) is not native
        """
    run_script(script).check_quiet()


def test_locals_made_before(run_script: Any) -> None:
    script = """
        import threading

        class Own(threading.local):
            pass

        local, own = threading.local(), Own()
        local.value = own.value = "main"
        from gevent import monkey; monkey.patch_all()

        def work():
            assert not hasattr(local, "value")
            local.value = "thread"
            print(hasattr(own, "value"))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert local.value == "main"
        """
    # What the program has derived from the original class stays what it was.
    assert run_script(script).check_quiet() == "True\n"


def test_names_that_standard_modules_have_imported(run_script: Any) -> None:
    script = """
        import functools, inspect, sched, selectors, subprocess, tempfile, time, _strptime, pty
        from gevent import monkey; monkey.patch_all()
        import _thread, select, threading

        assert functools.RLock is _thread.RLock
        assert _strptime._thread_allocate_lock is _thread.allocate_lock
        assert tempfile._allocate_lock is _thread.allocate_lock
        assert pty.select is select.select
        assert inspect.signature(sched.scheduler).parameters["delayfunc"].default is time.sleep
        assert subprocess._PopenSelector is selectors.PollSelector
        assert selectors.PollSelector._selector_cls is select.poll
        assert selectors.SelectSelector._select is select.select
        """
    run_script(script).check_quiet()


def test_selector_classes_imported_before(run_script: Any) -> None:
    script = """
        from selectors import EVENT_READ, DefaultSelector, EpollSelector, PollSelector
        from selectors import SelectSelector
        from gevent import monkey; monkey.patch_all()
        import socket, gevent

        for kind in (DefaultSelector, EpollSelector, PollSelector, SelectSelector):
            reader, writer = socket.socketpair()
            with kind() as selector:
                selector.register(reader, EVENT_READ)
                gevent.spawn_later(0.01, writer.send, b"x")
                [(key, events)] = selector.select(60)
                assert key.fileobj is reader and events == EVENT_READ
        """
    run_script(script).check_quiet()


def test_threads_made_but_not_started_before(run_script: Any) -> None:
    script = """
        import threading

        seen = []
        thread = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
        timer = threading.Timer(0.01, lambda: seen.append(threading.get_native_id()))
        from gevent import monkey; monkey.patch_all()
        for each in (thread, timer):
            assert not each.is_alive()
            each.start()
            assert each is thread or each.is_alive()
            each.join()
            assert not each.is_alive()
        assert seen == [threading.get_native_id()] * 2
        """
    run_script(script).check_quiet()


@pytest.mark.parametrize("joined", [True, False])
def test_threads_that_run_already(run_script: Any, joined: bool) -> None:
    script = f"""
        import threading, time

        go = threading.Event()
        sleep = time.sleep

        def work():
            go.wait(60)
            sleep(0.05)
            print("native")

        thread = threading.Thread(target=work)
        thread.start()
        from gevent import monkey; monkey.patch_all()
        import gevent

        assert thread.is_alive()
        thread.join(0.01)
        thread.join(0)
        assert thread.is_alive()
        # Joining does not keep others from running, the one that lets the thread go on for example.
        gevent.spawn_later(0.01, go.set)
        if {joined}:
            greenlets = [gevent.spawn(thread.join, timeout) for timeout in (None, 60, None)]
            thread.join()
            gevent.joinall(greenlets, raise_error=True)
            assert not thread.is_alive()
            assert threading.enumerate() == [threading.main_thread()]
            thread.join()
            print("joined")
        """
    assert run_script(script).check_quiet() == ("native\njoined\n" if joined else "native\n")


def test_a_native_thread_that_ended_before(run_script: Any) -> None:
    script = """
        import threading

        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        from gevent import monkey; monkey.patch_all()
        assert not thread.is_alive()
        thread.join()
        """
    run_script(script).check_quiet()


def test_locks_of_the_standard_library_while_threads_run(run_script: Any) -> None:
    script = """
        import logging, threading, concurrent.futures.thread as pools

        native = type(threading.Lock()), type(threading.RLock())
        go = threading.Event()
        threading.Thread(target=go.wait, args=(60,)).start()
        handler = logging.StreamHandler()
        mine = threading.Lock()
        from gevent import monkey; monkey.patch_all()
        assert type(pools._global_shutdown_lock) is not native[0]
        assert type(logging._lock) is not native[1]
        assert type(handler.lock) is not native[1]
        assert type(threading._active_limbo_lock) is not native[1]
        assert type(mine) is native[0]
        go.set()
        """
    run_script(script).check_quiet()


@pytest.mark.parametrize("used", [True, False])
def test_executor_made_before(run_script: Any, used: bool) -> None:
    script = f"""
        from concurrent.futures import ThreadPoolExecutor

        executor = ThreadPoolExecutor(3)
        if {used}:
            assert executor.submit(int).result() == 0
        from gevent import monkey; monkey.patch_all()
        import time

        def work(number):
            time.sleep(0.01)
            return number

        assert list(executor.map(work, range(10))) == list(range(10))
        executor.shutdown()
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_imports_that_are_under_way(run_script: Any, tmp_path: Any) -> None:
    (tmp_path / "application.py").write_text(
        "from gevent import monkey; monkey.patch_all()\n"
        "import threading, time\n"
        "seen = []\n"
        "def work():\n"
        "    import application\n"
        "    seen.append(application.ready)\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\n"
        "time.sleep(0.01)\n"
        "assert seen == []\n"
        "ready = True\n"
    )
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import application
        application.thread.join()
        print(application.seen)
        """
    assert run_script(script, str(tmp_path)).check_quiet() == "[True]\n"


def test_fork_while_a_native_thread_runs(run_script: Any) -> None:
    script = """
        import threading, time

        go = threading.Event()
        thread = threading.Thread(target=go.wait, args=(60,))
        thread.start()
        from gevent import monkey; monkey.patch_all()
        import os, sys, warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads
        pid = os.fork()
        if pid == 0:
            assert not thread.is_alive()
            thread.join()
            assert threading.enumerate() == [threading.main_thread()]
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        assert thread.is_alive()
        go.set()
        thread.join()
        """
    assert run_script(script).check_quiet() == "7\n"


def test_awaitables_that_the_interpreter_keeps_for_reuse(run_script: Any) -> None:
    """Looking for who refers to locks must not touch them. They would be freed a second time, and
    the next full garbage collection, or that at the end of the process, would not end."""
    script = """
        import asyncio, gc, threading

        lock = threading.Lock()

        async def wait():
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, None)
            await future

        asyncio.run(wait())
        from gevent import monkey; monkey.patch_all()
        gc.collect()
        asyncio.run(wait())
        print("done")
        """
    assert run_script(script).check_quiet() == "done\n"


def test_lazy_objects_are_left_alone(run_script: Any) -> None:
    script = """
        import concurrent.futures.thread

        class Lazy:
            @property
            def __class__(self):
                raise RuntimeError("there is nothing yet")

        lazy = [Lazy()]
        from gevent import monkey; monkey.patch_all()
        print("patched")
        """
    assert run_script(script).check_quiet() == "patched\n"

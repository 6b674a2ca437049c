"""The functions of gevent.monkey themselves."""

from __future__ import annotations

from typing import Any

import pytest


def test_nothing_is_patched_by_importing(run_script: Any) -> None:
    script = """
        import sys, threading, time, socket
        before = threading.Lock, time.sleep, socket.socket
        from gevent import monkey
        import gevent.thread, gevent.threading, gevent.time
        assert (threading.Lock, time.sleep, socket.socket) == before
        assert not monkey.saved
        assert not monkey.is_anything_patched()
        assert not monkey.is_module_patched("socket")
        assert not monkey.is_object_patched("threading", "local")
        assert monkey.get_original("time", "sleep") is time.sleep
        """
    run_script(script).check_quiet()


def test_queries(run_script: Any) -> None:
    script = """
        import _thread, select, socket, threading, time
        originals = {
            ("time", "sleep"): time.sleep,
            ("socket", "socket"): socket.socket,
            ("socket", "getaddrinfo"): socket.getaddrinfo,
            ("select", "select"): select.select,
            ("threading", "local"): threading.local,
            ("threading", "Lock"): threading.Lock,
            ("threading", "get_ident"): threading.get_ident,
            ("_thread", "start_new_thread"): _thread.start_new_thread,
            ("_thread", "allocate_lock"): _thread.allocate_lock,
        }
        from gevent import monkey
        assert monkey.patch_all() is True
        assert monkey.is_anything_patched()
        for (module, name), original in originals.items():
            assert monkey.is_module_patched(module)
            assert monkey.is_object_patched(module, name)
            assert monkey.get_original(module, name) is original
            assert monkey.saved[module][name] is original
            assert vars(__import__(module))[name] is not original
        assert not monkey.is_module_patched("json")
        assert not monkey.is_object_patched("socket", "inet_aton")
        assert not monkey.is_object_patched("time", "nothing")

        get = monkey.get_original
        assert get("time", ["sleep", "monotonic"]) == [originals["time", "sleep"], time.monotonic]
        assert get(["_no_such_module", "_thread"], "get_ident") is get("threading", "get_ident")
        assert get("os.path", "join") is __import__("os").path.join
        for kind, arguments in [(AttributeError, ("time", "nothing")),
                                (ImportError, ("_no_such_module", "x")),
                                (ImportError, (["_no_such_module", "_nor_this"], "x")),
                                (ImportError, ([], "x"))]:
            try:
                get(*arguments)
            except kind:
                pass
            else:
                raise AssertionError(arguments)
        """
    run_script(script).check_quiet()


def test_originals_still_block(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import gevent

        ran = []
        other = gevent.spawn(ran.append, 1)
        monkey.get_original("time", "sleep")(0.01)
        with monkey.get_original("threading", "Lock")():
            pass
        assert ran == []
        other.join()
        """
    run_script(script).check_quiet()


@pytest.mark.parametrize(
    ("function", "modules"),
    [
        ("time", {"time"}),
        ("socket", {"socket"}),
        ("dns", {"socket"}),
        ("select", {"select"}),
        ("selectors", {"selectors"}),
        ("thread", {"_thread", "threading"}),
        ("queue", {"queue"}),
        ("ssl", {"ssl"}),
    ],
)
def test_single_functions(run_script: Any, function: str, modules: set[str]) -> None:
    script = f"""
        from gevent import monkey
        monkey.patch_{function}()
        for module in {modules}:
            assert monkey.is_module_patched(module), module
        main = {{"time", "socket", "select", "_thread", "threading", "ssl"}}
        print(sorted(main & set(monkey.saved) - {modules}))
        """
    assert run_script(script).check_quiet() == "[]\n"


def test_functions_that_need_not_do_anything(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_builtins()
        monkey.patch_contextvars()
        assert not monkey.is_anything_patched()
        """
    run_script(script).check_quiet()


def test_arguments_of_patch_all(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_all(
            socket=False, dns=False, time=False, select=False, thread=False, os=False, ssl=False,
            subprocess=False, sys=False, aggressive=False, Event=False, builtins=False,
            signal=False, queue=False, contextvars=False, plugin_argument=1,
        )
        print(monkey.is_anything_patched())
        """
    assert run_script(script).check_quiet() == "False\n"


def test_dns_can_be_left_out(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_socket(dns=False)
        assert monkey.is_object_patched("socket", "socket")
        assert not monkey.is_object_patched("socket", "getaddrinfo")
        monkey.patch_dns()
        assert monkey.is_object_patched("socket", "getaddrinfo")
        """
    run_script(script).check_quiet()


def test_thread_without_threading(run_script: Any) -> None:
    script = """
        from gevent import monkey
        monkey.patch_thread(threading=False, existing_locks=False)
        import _thread, threading

        assert monkey.is_module_patched("_thread")
        assert threading.get_ident is monkey.get_original("_thread", "get_ident")
        thread = threading.Thread(target=lambda: print(threading.get_native_id() != native))
        native = threading.get_native_id()
        thread.start()
        thread.join()
        """
    assert run_script(script).check_quiet() == "True\n"


def test_patch_item_and_remove_item(run_script: Any) -> None:
    script = """
        import json
        from gevent import monkey

        loads, dumps = json.loads, json.dumps
        monkey.patch_item(json, "loads", 1)
        monkey.patch_item(json, "loads", 2)
        monkey.patch_item(json, "made_up", 3)
        monkey.remove_item(json, "dumps")
        monkey.remove_item(json, "nothing")
        assert json.loads == 2 and json.made_up == 3 and not hasattr(json, "dumps")
        assert monkey.get_original("json", ["loads", "dumps"]) == [loads, dumps]
        try:
            monkey.get_original("json", "made_up")
        except AttributeError as error:
            print(error)
        assert not monkey.is_object_patched("json", "nothing")
        """
    assert "made_up" in run_script(script).check_quiet()


def test_patch_module(run_script: Any) -> None:
    script = """
        import types
        from gevent import monkey

        calls = []
        target, source = types.ModuleType("target"), types.ModuleType("source")
        target.a, target.b, target.c = "abc"
        source.a, source.b, source.c = "ABC"
        try:
            monkey.patch_module(target, source)
        except AttributeError:
            calls.append("refused")
        source.__implements__ = ["a", "b"]

        def will(module, items, warn, **kwargs):
            calls.append(("will", module is target, list(items), target.a, kwargs))
            items.remove("b")
            items.append("c")

        def did(module, items, warn, **kwargs):
            calls.append(("did", module is target, list(items), target.a, kwargs))

        source._gevent_will_monkey_patch, source._gevent_did_monkey_patch = will, did
        assert monkey.patch_module(target, source) is True
        assert (target.a, target.b, target.c) == ("A", "b", "C")
        assert calls == [
            "refused",
            ("will", True, ["a", "b"], "a", {}),
            ("did", True, ["a", "c"], "A", {}),
        ], calls
        del source._gevent_will_monkey_patch
        monkey.patch_module(target, source, items=["b"])
        assert target.b == "B"
        assert source.__implements__ == ["a", "b"]
        assert monkey.saved["target"] == {"a": "a", "b": "b", "c": "c"}
        """
    run_script(script).check_quiet()


def test_the_hooks_of_a_source_come_before_subscribers(run_script: Any) -> None:
    script = """
        import types
        from gevent import events, monkey

        calls = []
        target, source = types.ModuleType("target"), types.ModuleType("source")
        target.a, target.b = "ab"
        source.a, source.b = "AB"
        source.__implements__ = ["a", "b"]

        def will(module, items, warn, **kwargs):
            calls.append("hook")
            items.remove("b")

        def subscriber(event):
            calls.append(getattr(event, "target_item_names", None))

        source._gevent_will_monkey_patch = will
        events.subscribers.append(subscriber)
        assert monkey.patch_module(target, source) is True
        assert calls == ["hook", ["a"], None], calls
        assert (target.a, target.b) == ("A", "b")

        def veto(module, items, warn, **kwargs):
            raise events.DoNotPatch

        calls.clear()
        source._gevent_will_monkey_patch = veto
        assert monkey.patch_module(target, source, items=["b"]) is False
        assert calls == [] and target.b == "b"
        """
    run_script(script).check_quiet()


def test_names_that_are_missing(run_script: Any) -> None:
    script = """
        import types
        from gevent import monkey

        target, source = types.ModuleType("target"), types.ModuleType("source")
        source.__implements__ = None
        for source in (source, types.ModuleType("bare")):
            try:
                monkey.patch_module(target, source)
            except AttributeError as error:
                assert "__implements__" in str(error) and source.__name__ in str(error), error
            else:
                raise AssertionError(source)
        """
    run_script(script).check_quiet()


def test_event_counts_as_patched(run_script: Any) -> None:
    script = """
        import threading
        from gevent import monkey

        monkey.patch_all(Event=False)
        assert not monkey.is_object_patched("threading", "Event")
        monkey.patch_thread(Event=True)
        assert monkey.is_object_patched("threading", "Event")

        import gevent
        event = threading.Event()
        gevent.spawn(event.set)
        assert event.wait()
        """
    run_script(script).check_quiet()


SHOW = """\
import sys, threading
from gevent import monkey
print(sys.argv[1:], __name__, __file__.rpartition("/")[2])
print(*[name for name in ("time", "socket", "ssl", "_thread") if monkey.is_module_patched(name)])
"""


@pytest.mark.parametrize(
    ("options", "patched"),
    [
        ([], "time socket ssl _thread"),
        (["--no-thread", "--no-ssl"], "time socket"),
        (["--time", "--socket"], "time socket"),
        (["--socket", "--no-dns"], "socket"),
    ],
)
def test_command(run_module: Any, tmp_path: Any, options: list[str], patched: str) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    out = run_module(*options, str(tmp_path / "show.py"), "a", "--b").check_quiet()
    assert out == f"['a', '--b'] __main__ show.py\n{patched}\n"


def test_command_with_a_module(run_module: Any, tmp_path: Any) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    result = run_module("--module", "show", "a", env={"PYTHONPATH": str(tmp_path)})
    assert result.check_quiet() == "['a'] __main__ show.py\ntime socket ssl _thread\n"
    result = run_module("--module", "--no-ssl", "show", env={"PYTHONPATH": str(tmp_path)})
    assert result.check_quiet() == "[] __main__ show.py\ntime socket _thread\n"


@pytest.mark.parametrize("option", [["-m", "show"], ["-mshow"]])
def test_command_with_a_module_as_python_has_it(
    run_module: Any, tmp_path: Any, option: list[str]
) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    result = run_module("--no-ssl", *option, "--b", env={"PYTHONPATH": str(tmp_path)})
    assert result.check_quiet() == "['--b'] __main__ show.py\ntime socket _thread\n"


def test_command_with_a_script_after_two_dashes(run_module: Any, tmp_path: Any) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    out = run_module("--no-ssl", "--", str(tmp_path / "show.py"), "--b").check_quiet()
    assert out == "['--b'] __main__ show.py\ntime socket _thread\n"


def test_command_shows_errors_of_the_program_only(run_module: Any, tmp_path: Any) -> None:
    (tmp_path / "fail.py").write_text("1 / 0\n")
    result = run_module(str(tmp_path / "fail.py"))
    assert result.returncode == 1
    assert result.stderr.count("  File ") == 1
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_command_verbose(run_module: Any, tmp_path: Any) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    out = run_module("--verbose", "--no-ssl", str(tmp_path / "show.py")).check_quiet()
    assert "patch_all(ssl=False)" in out.splitlines()[0]
    assert out.endswith("time socket _thread\n")


def test_command_usage(run_module: Any, tmp_path: Any) -> None:
    assert "--no-" in run_module().check_quiet()
    assert "--no-" in run_module("--help").check_quiet()
    assert "--no-" in run_module("-h").check_quiet()
    for option in ("--nonsense", "-x"):
        result = run_module(option, "x.py")
        assert result.returncode != 0
        assert option in result.stdout + result.stderr


def test_command_passes_the_exit_status_on(run_module: Any, tmp_path: Any) -> None:
    (tmp_path / "leave.py").write_text("raise SystemExit(7)\n")
    assert run_module(str(tmp_path / "leave.py")).returncode == 7

"""time.sleep after patching."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def test_sleep_lets_others_run(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_time()
        import time, gevent

        order = []

        def steps(name):
            for step in range(3):
                order.append((name, step))
                time.sleep(0)

        gevent.joinall([gevent.spawn(steps, name) for name in "ab"])
        assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)], order
        begin = time.monotonic()
        assert time.sleep(0.01) is None
        assert time.monotonic() - begin >= 0.01
        """
    run_script(script).check_quiet()


if sys.version_info >= (3, 15):
    REFUSED = "must be real number, not {}"
elif sys.version_info >= (3, 14):
    REFUSED = "'{}' object cannot be interpreted as an integer or float"
else:
    REFUSED = "'{}' object cannot be interpreted as an integer"
BAD_ARGUMENTS = [
    ("-1", "ValueError: sleep length must be non-negative"),
    ("-0.001", "ValueError: sleep length must be non-negative"),
    ("'1'", "TypeError: " + REFUSED.format("str")),
    ("None", "TypeError: " + REFUSED.format("NoneType")),
    ("float('nan')", "ValueError: Invalid value NaN (not a number)"),
]


@pytest.mark.parametrize(("argument", "error"), BAD_ARGUMENTS)
def test_sleep_checks_its_argument(run_script: Any, argument: str, error: str) -> None:
    script = f"""
        from gevent import monkey; monkey.patch_time()
        import time

        for sleep in (time.sleep, monkey.get_original("time", "sleep")):
            try:
                sleep({argument})
            except Exception as error:
                print(f"{{type(error).__name__}}: {{error}}")
        """
    assert run_script(script).check_quiet() == f"{error}\n{error}\n"


def test_sleep_refuses_what_the_original_refuses(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_time()
        import time

        for sleep in (time.sleep, monkey.get_original("time", "sleep")):
            for args, kwargs in [((), {}), ((1, 2), {}), ((), {"seconds": 0}), ((1e300,), {}),
                                 ((float("inf"),), {}), ((10**30,), {})]:
                try:
                    sleep(*args, **kwargs)
                except (TypeError, OverflowError) as error:
                    print(type(error).__name__, end=" ")
            print()
        """
    first, second = run_script(script).check_quiet().splitlines()
    assert first == second
    assert first.split() == ["TypeError"] * 3 + ["OverflowError"] * 3


def test_sleep_takes_integers_of_all_kinds(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_time()
        import time

        class Index:
            def __index__(self):
                return 0

        for seconds in (0, 0.0, -0.0, True and 0, False, Index()):
            time.sleep(seconds)
        """
    run_script(script).check_quiet()


def test_sleep_is_a_builtin_as_the_original_is(run_script: Any) -> None:
    script = """
        import inspect, time
        native = time.sleep
        from gevent import monkey; monkey.patch_time()

        class Retries:
            # Nothing is bound to an instance.
            sleep = time.sleep

        Retries().sleep(0)
        assert time.sleep is not native
        assert type(time.sleep) is type(native)
        assert not hasattr(time.sleep, "__dict__")
        assert list(inspect.signature(time.sleep).parameters) == ["seconds"]
        """
    run_script(script).check_quiet()


def test_sleep_is_audited(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_time()
        import sys, time, gevent

        def hook(event, args):
            if event == "time.sleep":
                print(args)
                if args == (0.25,):
                    raise RuntimeError("not now")

        gevent.sleep(0)
        sys.addaudithook(hook)
        time.sleep(0)
        gevent.sleep(0)
        time.sleep(0)
        try:
            time.sleep(0.25)
        except RuntimeError as error:
            print(error)
        """
    assert run_script(script).check_quiet().splitlines() == ["(0,)"] * 2 + ["(0.25,)", "not now"]


def test_sleep_can_be_pickled(run_script: Any) -> None:
    script = """
        from gevent import monkey; monkey.patch_time()
        import pickle, time

        assert pickle.loads(pickle.dumps(time.sleep)) is time.sleep
        """
    run_script(script).check_quiet()


def test_the_module_has_what_the_standard_one_has() -> None:
    import time

    import gevent.time

    assert gevent.time.perf_counter is time.perf_counter
    assert gevent.time.sleep is not time.sleep
    assert {name for name in dir(time) if not name.startswith("_")} <= set(dir(gevent.time))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = gevent.time.nothing_of_the_kind

"""Importing greenloop anew, and in subinterpreters."""

import os
import sys
from pathlib import Path
from textwrap import dedent

import pytest

if os.environ.get("GREENLOOP_TEST_PEER") == "1":
    pytest.skip("greenloop's own", allow_module_level=True)

SUBINTERPRETER = """
    import os
    import sys

    # What is refused here is a plain import, without the start-up hook.
    os.environ.pop("GREENLOOP_DROPIN", None)
    {before}

    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    def make(isolated):
        if sys.version_info >= (3, 13):
            return interpreters.create("isolated" if isolated else "legacy")
        if sys.version_info >= (3, 12):
            return interpreters.create(isolated=isolated)
        return interpreters.create()

    SCRIPT = {script!r}

    def run(interpreter, script):
        execute = getattr(interpreters, "exec", None) or interpreters.run_string
        failure = execute(interpreter, script)
        if failure is not None:
            print(failure, flush=True)

    for isolated in (False, True):
        interpreter = make(isolated)
        for _ in range(2):
            run(interpreter, SCRIPT)
        interpreters.destroy(interpreter)
    import greenloop
    print(greenloop.spawn(len, "abc").get())
"""


REFUSED = """
    try:
        import {module}
    except ImportError as error:
        assert "main interpreter" in str(error), error
        assert "threads or processes" in str(error), error
        print("refused", error.name, flush=True)
"""


@pytest.mark.parametrize("module", ["greenloop", "greenloop.socket", "greenloop._core"])
@pytest.mark.parametrize("before", ["pass", "import greenloop; greenloop.sleep(0)"])
def test_subinterpreters_are_refused(run_script, module, before):
    script = dedent(REFUSED.format(module=module))
    result = run_script(SUBINTERPRETER.format(script=script, before=before))
    assert result.check_quiet() == "refused greenloop\n" * 4 + "3\n"


HOOK = Path(__file__).parents[2] / "wheel-data" / "purelib" / "_greenloop_dropin.py"


def test_start_up_hook_lets_subinterpreters_be(run_script):
    """A program on the drop-in goes on when one of its subinterpreters cannot have it."""
    script = f"exec(open({str(HOOK)!r}).read())\nprint('hook is over', flush=True)"
    result = run_script(SUBINTERPRETER.format(script=script, before="import greenloop"))
    assert result.check_quiet() == "hook is over\n" * 4 + "3\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the first version that has it")
def test_interpreters_of_an_executor_beside_greenlets(run_script):
    result = run_script(
        """
        import os
        import greenloop
        from concurrent.futures import InterpreterPoolExecutor

        os.environ.pop("GREENLOOP_DROPIN", None)

        greenloop.sleep(0)
        with InterpreterPoolExecutor(2) as executor:
            print(list(executor.map(abs, [-1, -2, -3])))
        greenloop.sleep(0)
        """
    )
    assert result.check_quiet() == "[1, 2, 3]\n"


AGAIN = """
    import sys
    import weakref

    import greenloop
    import greenloop.queue
    import greenloop.socket
    from greenloop import _core

    def parked():
        greenloop.sleep(0)
        event.wait()
        return "old one"

    event = greenloop.event.Event()
    old = greenloop.spawn(parked)
    greenloop.sleep(0)
    names = [name for name in sys.modules if name.partition(".")[0] == "greenloop" and MATCH]
    assert names
    for name in names:
        del sys.modules[name]
    before = greenloop, _core
"""


@pytest.mark.parametrize(
    "match", ["True", "name == 'greenloop._core'", "name != 'greenloop._core'"]
)
def test_importing_it_anew(run_script, match):
    result = run_script(
        AGAIN.replace("MATCH", match)
        + """
    import greenloop
    import greenloop._core
    import greenloop.queue
    from greenloop.exceptions import LoopExit, BlockingSwitchOutError

    assert greenloop._core.greenlet is before[1].greenlet
    assert greenloop._core.GreenletExit is before[1].GreenletExit
    assert isinstance(old, greenloop.Greenlet)
    event.set()
    print(old.get())
    print(greenloop.spawn(len, "abc").get())
    try:
        greenloop.event.Event().wait()
    except LoopExit:
        print("LoopExit")
    try:
        greenloop.event.AsyncResult().get(timeout=0.001)
    except greenloop.Timeout:
        print("Timeout")
    with greenloop.Timeout(0.001, False):
        greenloop.sleep(10)
    try:
        greenloop.queue.Queue().get(block=False)
    except greenloop.queue.Empty:
        print("Empty")
    try:
        greenloop._core._set_hub_class(int)
    except TypeError:
        print("TypeError")
    greenloop.get_hub().destroy()
    greenloop.sleep(0.001)
    assert type(greenloop.get_hub()) is greenloop.hub.Hub
    """
    )
    assert result.check_quiet().splitlines() == [
        "old one",
        "3",
        "LoopExit",
        "Timeout",
        "Empty",
        "TypeError",
    ]

"""Python processes started from a greenloop program run on greenloop too."""

from __future__ import annotations

from pathlib import Path

import pytest
from dropin_support import Python, Write

# What a child prints: what `import gevent` means there, and whether it was patched before its
# own first line.
REPORT = "import gevent; print(gevent.__name__, gevent.monkey.is_module_patched('socket'))"


def start(how: str) -> str:
    """Source of a program that starts a child printing REPORT, by `how`."""
    return f"import os, subprocess, sys\nREPORT = {REPORT!r}\n{how}\n"


SUBPROCESS = "subprocess.run([sys.executable, '-c', REPORT], check=True)"


@pytest.mark.parametrize(("options", "patched"), [([], "False"), (["--patch"], "True")])
@pytest.mark.parametrize(
    "how",
    [
        SUBPROCESS,
        "subprocess.run([sys.executable, '-I', '-c', REPORT], check=True)",
        "subprocess.run([sys.executable, '-E', '-c', REPORT], check=True)",
        "os.execv(sys.executable, [sys.executable, '-c', REPORT])",
        "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, '-c', REPORT])",
        "env = {**os.environ, 'PYTHONPATH': '/nowhere'}\n"
        "subprocess.run([sys.executable, '-c', REPORT], env=env, check=True)",
    ],
    ids=["subprocess", "isolated", "no-environment", "exec", "spawn", "own-pythonpath"],
)
def test_child_inherits(
    python: Python, write: Write, how: str, options: list[str], patched: str
) -> None:
    write("parent.py", start(how))
    assert python("-m", "greenloop", *options, "parent.py").out() == f"greenloop {patched}\n"


def test_grandchild_inherits(python: Python, write: Write) -> None:
    write("child.py", start(SUBPROCESS))
    write("parent.py", start("subprocess.run([sys.executable, 'child.py'], check=True)"))
    assert python("-m", "greenloop", "--patch", "parent.py").out() == "greenloop True\n"


@pytest.mark.parametrize(("options", "patched"), [([], False), (["--patch"], True)])
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("target", ["script", "module"])
def test_multiprocessing(
    python: Python, write: Write, method: str, options: list[str], patched: bool, target: str
) -> None:
    write(
        "parent.py",
        f"""
        import multiprocessing
        import gevent

        class Answer:
            # Found by pickle in the child only if __main__ was set up as python does.
            def __init__(self):
                self.value = gevent.__name__, gevent.monkey.is_module_patched("socket")

        def work(queue):
            queue.put(Answer())

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            queue = context.SimpleQueue()
            process = context.Process(target=work, args=(queue,))
            process.start()
            print(queue.get().value)
            process.join()
            print(process.exitcode)
        """,
    )
    run = ["parent.py"] if target == "script" else ["-m", "parent"]
    assert python("-m", "greenloop", *options, *run).out() == f"('greenloop', {patched})\n0\n"


def test_function_does_not_propagate_by_default(python: Python) -> None:
    source = (
        "import greenloop\ngreenloop.install_as_gevent()\n"
        "import os, subprocess, sys\n"
        'code = \'import sys; print("gevent" in sys.modules, "greenloop" in sys.modules)\'\n'
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
        "print(sorted(name for name in os.environ if name.startswith('GREENLOOP')))"
    )
    assert sorted(python("-c", source).out().splitlines()) == ["False False", "[]"]


def test_function_propagates_when_asked(python: Python) -> None:
    source = "import greenloop\ngreenloop.install_as_gevent(children=True)\n" + start(SUBPROCESS)
    assert python("-c", source).out() == "greenloop False\n"


@pytest.mark.parametrize("value", ["", "0"])
def test_variable_switched_off(python: Python, value: str) -> None:
    code = "import sys; print('greenloop' in sys.modules)"
    assert python("-c", code, env={"GREENLOOP_DROPIN": value}).out() == "False\n"


def test_patch_switched_off(python: Python) -> None:
    env = {"GREENLOOP_DROPIN": "1", "GREENLOOP_PATCH": "0"}
    assert python("-c", REPORT, env=env).out() == "greenloop False\n"


def test_patch_alone_does_nothing(python: Python) -> None:
    code = "import sys; print('greenloop' in sys.modules)"
    assert python("-c", code, env={"GREENLOOP_PATCH": "1"}).out() == "False\n"


def test_own_sitecustomize_still_runs(python: Python, write: Write, tmp_path: Path) -> None:
    write("site/sitecustomize.py", "import gevent; print('sitecustomize', gevent.__name__)\n")
    env = {"GREENLOOP_DROPIN": "1", "PYTHONPATH": str(tmp_path / "site")}
    assert python("-c", REPORT, env=env).out() == "sitecustomize greenloop\ngreenloop False\n"


def test_cli_in_a_child(python: Python, write: Write) -> None:
    write("child.py", REPORT)
    how = "subprocess.run([sys.executable, '-m', 'greenloop', 'child.py'], check=True)"
    write("parent.py", start(how))
    assert python("-m", "greenloop", "--patch", "parent.py").out() == "greenloop True\n"


def test_module_of_gevent_in_a_child(python: Python) -> None:
    # `python -m gevent` finds greenloop's __main__, which is this command.
    run = python("-m", "gevent", "--help", env={"GREENLOOP_DROPIN": "1"})
    assert run.out().startswith("usage: greenloop ")


def test_child_that_cannot_import_greenloop_fails(
    python: Python, write: Write, tmp_path: Path
) -> None:
    write("broken/greenloop/__init__.py", "raise ImportError('built for CPython 9.9')\n")
    env = {"GREENLOOP_DROPIN": "1", "PYTHONPATH": str(tmp_path / "broken")}
    run = python("-c", "print('ran')", env=env)
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert "ImportError: built for CPython 9.9" in line
    assert "unset GREENLOOP_DROPIN" in line


def test_child_that_cannot_import_greenloop_shows_why_when_verbose(
    python: Python, write: Write, tmp_path: Path
) -> None:
    path = write("broken/greenloop/__init__.py", "raise ImportError('built for CPython 9.9')\n")
    env = {"GREENLOOP_DROPIN": "1", "PYTHONPATH": str(tmp_path / "broken")}
    run = python("-v", "-c", "print('ran')", env=env)
    assert (run.returncode, run.stdout) == (1, "")
    assert f'File "{path}", line 1, in <module>' in run.stderr


def test_child_without_site_packages_runs_as_ever(python: Python) -> None:
    # -S reads no .pth files; the process has no greenloop, nor anything else that is installed.
    code = "import sys; print('greenloop' in sys.modules, 'site' in sys.modules)"
    assert python("-S", "-c", code, env={"GREENLOOP_DROPIN": "1"}).out() == "False False\n"

"""`python -m greenloop`: the program sees what it would see under `python`."""

from __future__ import annotations

import py_compile
import signal
import zipfile
from pathlib import Path

import pytest
from dropin_support import Python, Write

# Prints all that the way of starting a program decides. `helper` is beside the script or in the
# current directory, so importing it shows that sys.path[0] works.
INTROSPECT = """
import sys, helper
main = sys.modules["__main__"]
assert vars(main) is globals()
spec = main.__spec__
print(__name__, main.__name__, main.__doc__, main.__package__)
print(getattr(main, "__file__", "none"), getattr(main, "__cached__", "none"))
print(type(main.__loader__), getattr(main.__loader__, "path", "none"), type(__builtins__))
print(spec and (spec.name, spec.origin, spec.cached, spec.parent))
print(sys.argv, repr(sys.path[0]), helper.__file__)
print(sorted(vars(main)))
print(sys._getframe().f_code.co_filename, sys._getframe().f_back and "called from python")
def defined_here(): pass
import pickle
print(pickle.loads(pickle.dumps(defined_here)) is defined_here)
"""
# A program under greenloop has callers, those of the runpy module and ours.
COMPARED_OUT = "called from python"


@pytest.fixture
def program(write: Write, tmp_path: Path) -> None:
    write("helper.py", "")
    for name in ("script.py", "folder/__main__.py", "package/__main__.py", "sub/inner.py"):
        write(name, INTROSPECT)
    for name in ("folder/helper.py", "sub/helper.py", "package/__init__.py", "sub/__init__.py"):
        write(name, "")
    (tmp_path / "link.py").symlink_to(tmp_path / "sub/inner.py")
    (tmp_path / "folder_link").symlink_to(tmp_path / "folder")
    py_compile.compile(str(tmp_path / "script.py"), cfile=str(tmp_path / "compiled.pyc"))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", INTROSPECT)
        archive.writestr("helper.py", "")


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("options", [[], ["-P"], ["-I"], ["-O"]], ids=lambda o: "".join(o) or "-")
@pytest.mark.parametrize(
    "command",
    [
        ["script.py"],
        ["script.py", "-m", "--patch", "-x", "", "--", "ü"],
        ["./script.py", "a"],
        ["sub/../script.py"],
        ["sub/inner.py"],
        ["link.py"],
        ["compiled.pyc"],
        ["folder", "a"],
        ["folder/"],
        ["folder_link"],
        ["archive.zip", "a"],
        ["-m", "script", "a", "--help"],
        ["-mscript", "a"],
        ["-m", "package", "a"],
        ["-m", "package.__main__"],
        ["-m", "sub.inner"],
        ["-c", INTROSPECT, "a", "-c"],
        ["-c" + INTROSPECT, "a"],
        ["-", "a"],
    ],
    ids=lambda command: " ".join(command).replace(INTROSPECT, "CODE"),
)
def test_same_as_python(python: Python, options: list[str], command: list[str]) -> None:
    expected = python(*options, *command, stdin=INTROSPECT)
    actual = python(*options, "-m", "greenloop", *command, stdin=INTROSPECT)

    def comparable(text: str) -> str:
        return text.replace(COMPARED_OUT, "None")

    if expected.returncode == 0:
        assert comparable(actual.out()) == comparable(expected.out())
    else:  # helper is not importable with -P or -I, for the command and python alike
        assert (actual.returncode, actual.stdout) == (expected.returncode, expected.stdout)
        assert actual.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1]


@pytest.mark.usefixtures("program")
def test_safe_path_by_environment(python: Python) -> None:
    run = python("-m", "greenloop", "script.py", env={"PYTHONSAFEPATH": "1"})
    assert run.returncode == 1
    # From 3.15 on the interpreter says what else is installed whose name is alike.
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: No module named 'helper'")


ENDINGS = {
    "normal": "print('done')",
    "exit status": "import sys; sys.exit(7)",
    "exit message": "import sys; sys.exit('gone')",
    "exit None": "raise SystemExit",
    "os._exit": "import os; os._exit(4)",
    "exception": "def f():\n    1 / 0\nf()",
    "chained": "try:\n    {}['x']\nexcept KeyError as e:\n    raise ValueError('no') from e",
    "in context": "try:\n    {}['x']\nexcept KeyError:\n    1 / 0",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "syntax error": "def f(:\n    pass",
    "base exception": "class Stop(BaseException): pass\nraise Stop('x')",
    "import error": "import no_such_module",
    "own excepthook": (
        "import sys, traceback\n"
        "def hook(kind, error, tb):\n"
        "    print(len(traceback.extract_tb(tb)), len(traceback.extract_tb(error.__traceback__)))\n"
        "    assert sys.last_traceback is tb and sys.excepthook is hook\n"
        "sys.excepthook = hook\n"
        "def f():\n    raise ValueError\n"
        "f()"
    ),
    "threads outlive the top level": (
        "import sys, threading\n"
        "ended = threading.Event()\n"
        "def late():\n"
        "    ended.wait(20)\n"
        "    print(__name__, sys.modules['__main__'].late is late, kept)\n"
        "threading.Thread(target=late).start()\n"
        "kept = 'kept'\n"
        "class AtEnd:\n"
        "    def __reduce__(self): ended.set(); return ()\n"
        "ended.set()"
    ),
    "atexit": (
        "import atexit, sys\n"
        "@atexit.register\n"
        "def last(): print(sys.modules['__main__'].last is last, __name__)\n"
    ),
    "__main__ replaced": "import sys\nsys.modules['__main__'] = None\nprint('replaced')",
    "warning": "import warnings\nwarnings.warn('careful')",
}


@pytest.mark.parametrize("form", ["script", "code", "module"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_ends_as_under_python(python: Python, write: Write, ending: str, form: str) -> None:
    source = ENDINGS[ending]
    write("program.py", source)
    command = {
        "script": ["program.py"],
        "code": ["-c", source],
        "module": ["-m", "program"],
    }[form]
    expected = python(*command)
    assert python("-m", "greenloop", *command) == expected
    if ending == "exception":
        assert expected.returncode == 1
        assert expected.stderr.startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("form", ["script", "code", "module"])
def test_interrupted_program_dies_of_the_signal(python: Python, write: Write, form: str) -> None:
    source = "raise KeyboardInterrupt"
    write("program.py", source)
    command = {"script": ["program.py"], "code": ["-c", source], "module": ["-m", "program"]}[form]
    run = python("-m", "greenloop", *command)
    assert run.returncode == -signal.SIGINT
    assert run == python(*command)


def test_missing_script(python: Python, tmp_path: Path) -> None:
    run = python("-m", "greenloop", "absent.py")
    assert (run.returncode, run.stdout) == (2, "")
    absent = tmp_path / "absent.py"
    assert run.stderr == (
        f"greenloop: can't open file '{absent}': [Errno 2] No such file or directory\n"
    )


def test_missing_module(python: Python) -> None:
    run = python("-m", "greenloop", "-m", "no_such_module")
    assert run == python("-m", "no_such_module")
    assert run.returncode == 1


def test_directory_without_main(python: Python, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = python("-m", "greenloop", "empty")
    assert run == python("empty")
    assert run.returncode == 1


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ([], "no script, -m module or -c code given"),
        (["--patch"], "no script, -m module or -c code given"),
        (["--"], "no script, -m module or -c code given"),
        (["--nonsense", "script.py"], "unknown option '--nonsense'"),
        (["-x"], "unknown option '-x'"),
        (["--patch", "-m"], "option -m needs a module name"),
        (["-c"], "option -c needs a piece of code"),
    ],
)
def test_bad_command_line(python: Python, command: list[str], complaint: str) -> None:
    run = python("-m", "greenloop", *command)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"greenloop: {complaint} (see greenloop --help)\n"


def test_two_dashes_end_the_options(python: Python, write: Write) -> None:
    write("--patch", "import gevent; print(gevent.monkey.is_module_patched('socket'))")
    assert python("-m", "greenloop", "--", "--patch").out() == "False\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(python: Python, option: str) -> None:
    text = python("-m", "greenloop", option).out()
    assert text.startswith("usage: greenloop ")
    for word in ("--patch", "--version", "-m module", "-c code", "GREENLOOP_DROPIN"):
        assert word in text


def test_version(python: Python) -> None:
    import platform
    from importlib.metadata import version

    line = python("-m", "greenloop", "--version").out()
    assert line == f"greenloop {version('greenloop')} (cpython {platform.python_version()})\n"


@pytest.mark.parametrize(("options", "patched"), [([], False), (["--patch"], True)])
def test_patch(python: Python, options: list[str], patched: bool) -> None:
    code = "import gevent.monkey; print(gevent.monkey.is_module_patched('socket'))"
    assert python("-m", "greenloop", *options, "-c", code).out() == f"{patched}\n"


def test_gevent_and_greenlet_mean_greenloop(python: Python, real_packages: str) -> None:
    code = "import gevent, greenlet; print(gevent.__name__, greenlet.__name__)"
    run = python("-m", "greenloop", "-c", code, env={"PYTHONPATH": real_packages})
    assert run.out() == "greenloop greenloop.rawgreenlet\n"


def test_real_package_imported_at_start_up(
    python: Python, write: Write, real_packages: str, tmp_path: Path
) -> None:
    write("real/sitecustomize.py", "import greenlet\n")
    run = python("-m", "greenloop", "-c", "print('ran')", env={"PYTHONPATH": real_packages})
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("greenloop: greenloop cannot stand in for gevent and greenlet here: ")
    assert f"greenlet (from {real_packages}/greenlet/__init__.py)" in line


def test_script_read_once(python: Python, write: Write, tmp_path: Path) -> None:
    # A script may be a pipe, as in `greenloop <(generate)`.
    write(
        "parent.py",
        """
        import os, subprocess, sys
        read, write = os.pipe()
        os.write(write, b"import sys; print(sys.argv[1:])")
        os.close(write)
        command = [sys.executable, "-m", "greenloop", f"/dev/fd/{read}", "a"]
        sys.exit(subprocess.run(command, pass_fds=[read]).returncode)
        """,
    )
    assert python("parent.py").out() == "['a']\n"


def test_warns_when_children_cannot_inherit(python: Python, write: Write, tmp_path: Path) -> None:
    write(
        "uninstalled.py",
        """
        import sys
        from greenloop.cli import main
        sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
        sys.exit(main(["-c", "print('ran')"]))
        """,
    )
    run = python("uninstalled.py")
    assert (run.returncode, run.stdout) == (0, "ran\n")
    (line,) = run.stderr.splitlines()
    assert line.startswith("greenloop: warning: Python processes that this program starts will not")


def test_interactive_inspection_sees_the_program(python: Python) -> None:
    run = python("-i", "-m", "greenloop", "-c", "answer = 42", stdin="print(answer)\n")
    assert run.stdout == "42\n"

"""The `greenloop` command: run a program written for gevent on greenloop, unchanged, or serve a
WSGI application.

    greenloop [--patch] script.py args...
    greenloop [--patch] -m module args...
    greenloop [--patch] -c code args...
    greenloop serve [options] module:app

`python -m greenloop` is the same command. The program sees what it would see under `python`:
`sys.argv`, `sys.path[0]`, `__main__`, exit status and tracebacks.
"""

from __future__ import annotations

import builtins
import io
import linecache
import os
import pkgutil
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, Literal, NamedTuple

from greenloop.dropin import DropInError, hand_on_to_children, hook_is_installed, install_as_gevent
from greenloop.dropin._names import target_name

USAGE = """\
usage: greenloop [options] script.py [args...]
       greenloop [options] -m module [args...]
       greenloop [options] -c code [args...]
       greenloop serve [options] module:app

Run a Python program with `import gevent` and `import greenlet` meaning greenloop.
The script may also be a directory or zip file holding __main__.py, or - for standard input.
"python -m greenloop" is the same command. "greenloop serve" serves a WSGI application, see
"greenloop serve --help"; a script of that name is run as ./serve.

options:
  --patch     call gevent.monkey.patch_all() before the program starts
  -h, --help  show this text and exit
  --version   show greenloop's version and exit

Python processes that the program starts inherit all of this through the environment variables
GREENLOOP_DROPIN and GREENLOOP_PATCH, except those started with "python -S".
"""


class _UsageError(Exception):
    """The command line makes no sense; the message is for the user."""


class _Invocation(NamedTuple):
    """A command line, taken apart."""

    kind: Literal["script", "module", "code", "help", "version"]
    target: str = ""
    args: tuple[str, ...] = ()
    patch: bool = False


def _parse(argv: Sequence[str]) -> _Invocation:
    """Take our own options off the front; what follows the target is the program's."""
    patch = False
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--patch":
            patch = True
        elif word in ("-h", "--help"):
            return _Invocation("help")
        elif word == "--version":
            return _Invocation("version")
        elif word[:2] in ("-m", "-c"):
            # As python does, take the value from the same word or the next: -mjson, -m json.
            kind: Literal["module", "code"] = "module" if word[1] == "m" else "code"
            if len(word) == 2 and not rest:
                needs = "module name" if kind == "module" else "piece of code"
                raise _UsageError(f"option {word} needs a {needs}")
            return _Invocation(kind, word[2:] or rest.pop(0), tuple(rest), patch)
        elif word == "--":
            break
        elif word.startswith("-") and word != "-":
            raise _UsageError(f"unknown option {word!r}")
        else:
            rest.insert(0, word)
            break
    if not rest:
        raise _UsageError("no script, -m module or -c code given")
    return _Invocation("script", rest[0], tuple(rest[1:]), patch)


def _version_line() -> str:
    from importlib.metadata import version

    python = ".".join(map(str, sys.version_info[:3]))
    return f"greenloop {version('greenloop')} ({sys.implementation.name} {python})"


def _fresh_main() -> ModuleType:
    """Make a new, empty `__main__` and leave it in `sys.modules` for good.

    It stays after the program's top level has ended: its threads and exit handlers may still
    run, and pickle and multiprocessing look there for what the program defined.
    """
    main = ModuleType("__main__")
    namespace = vars(main)
    namespace["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    sys.modules["__main__"] = main
    return main


def _set_file(main: ModuleType, path: str) -> None:
    vars(main)["__file__"] = path
    if sys.version_info < (3, 15):
        vars(main)["__cached__"] = None


def _set_path0(entry: str) -> None:
    # The interpreter put our own entry there, unless it runs with -P, -I or PYTHONSAFEPATH.
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _read_script(path: str) -> CodeType:
    """Compile the script, or load its code if it is a .pyc file."""
    with io.open_code(path) as file:
        content = file.read()  # once: the script may be a pipe
    code: CodeType | None = pkgutil.read_code(io.BytesIO(content))
    return code or compile(content, path, "exec", dont_inherit=True)


def _run_script(script: str, args: Sequence[str]) -> int:
    if script == "-":
        return _run_source(sys.stdin.buffer.read(), "<stdin>", "-", args)
    sys.argv[:] = [script, *args]
    # Absolute but not normalized, which is how python shows it.
    path = os.path.join(_current_directory(), script)
    if pkgutil.get_importer(path) is not None:
        # A directory or a zip file. Python puts it on the path even where it adds no other.
        if sys.flags.safe_path:
            sys.path.insert(0, path)
        else:
            sys.path[0] = path
        _fresh_main()
        _run_as_main("__main__", alter_argv=False)
        return 0
    try:
        code = _read_script(path)
    except OSError as error:
        _complain(f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}")
        return 2
    _set_path0(os.path.dirname(os.path.realpath(script)))
    main = _fresh_main()
    loader = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
    vars(main)["__loader__"] = loader("__main__", path)
    _set_file(main, path)
    exec(code, vars(main))
    return 0


def _run_source(source: str | bytes, filename: str, argv0: str, args: Sequence[str]) -> int:
    sys.argv[:] = [argv0, *args]
    _set_path0("")
    main = _fresh_main()
    vars(main)["__loader__"] = BuiltinImporter
    if argv0 == "-":
        _set_file(main, filename)
    code = compile(source, filename, "exec", dont_inherit=True)
    if argv0 == "-c" and sys.version_info >= (3, 14):
        # Tracebacks show the lines of -c code; warnings do not.
        vars(linecache)["_register_code"](code, source, filename)
    exec(code, vars(main))
    return 0


def _run_code(code: str, args: Sequence[str]) -> int:
    if sys.version_info >= (3, 14):
        from textwrap import dedent

        code = dedent(code)
    elif sys.version_info >= (3, 13):
        # A traceback shows the lines of -c code.
        lines = [line + "\n" for line in code.splitlines()]
        linecache.cache["<string>"] = (len(code), None, lines, "<string>")
    return _run_source(code, "<string>", "-c", args)


def _run_module(name: str, args: Sequence[str]) -> int:
    sys.argv[:] = ["-m", *args]
    _set_path0(_current_directory())
    _fresh_main()
    # `-m gevent.monkey`: the module is loaded, and its spec and loader know it as greenloop's.
    _run_as_main(target_name(name) or name, alter_argv=True)
    return 0


def _run_as_main(name: str, alter_argv: bool) -> None:
    # What `python -m` itself calls. The public runpy.run_module() puts back the previous
    # __main__ when the module's top level ends, which is too early: see _fresh_main.
    run: Any = vars(runpy)["_run_module_as_main"]
    run(name, alter_argv)


def _complain(message: str) -> None:
    print(f"greenloop: {message}", file=sys.stderr)


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop what led to the program: the frames up to the last of this module."""
    ours = globals()
    entry = traceback
    while entry is not None and entry.tb_frame.f_globals is not ours:
        entry = entry.tb_next
    if entry is None:
        return traceback
    while entry is not None and entry.tb_frame.f_globals is ours:
        entry = entry.tb_next
    return entry


def _shorten_the_traceback() -> None:
    """Make the report of the exception now leaving the program begin with the program.

    The exception itself goes on to the interpreter, which knows the exit status and how to die
    of SIGINT. Only the call of sys.excepthook, whoever set it, is given a shorter traceback.
    """
    hook = sys.excepthook

    def shortened(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        sys.excepthook = hook
        traceback = _without_our_frames(traceback)
        sys.last_traceback = traceback
        hook(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = shortened


def run(kind: str, target: str, args: Sequence[str]) -> int:
    """Run a program as `__main__`, and return the exit status.

    kind: what *target* is: "script" for a path, "module" for a name, "code" for a text.
    args: the program's arguments.

    An exception of the program, SystemExit included, is left to propagate.
    """
    run_target = {"script": _run_script, "module": _run_module, "code": _run_code}[kind]
    try:
        return run_target(target, args)
    except SystemExit:
        raise
    except BaseException:
        _shorten_the_traceback()
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, `sys.argv[1:]` if None, and return the exit status.

    An exception of the program, SystemExit included, is left to propagate.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "serve":
        from greenloop import serve

        return serve.main(words[1:])
    try:
        invocation = _parse(words)
    except _UsageError as error:
        _complain(f"{error} (see greenloop --help)")
        return 2
    if invocation.kind == "help":
        print(USAGE, end="")
        return 0
    if invocation.kind == "version":
        print(_version_line())
        return 0
    try:
        install_as_gevent()
    except DropInError as error:
        _complain(str(error))
        return 1
    hand_on_to_children(invocation.patch)
    if not hook_is_installed():
        _complain(
            "warning: Python processes that this program starts will not run on greenloop: "
            "greenloop is on sys.path but not installed in site-packages"
        )
    if invocation.patch:
        from greenloop import monkey

        monkey.patch_all()
    return run(invocation.kind, invocation.target, invocation.args)

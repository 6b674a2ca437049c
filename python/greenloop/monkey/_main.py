"""The command `python -m greenloop.monkey`."""

from __future__ import annotations

import inspect
import os
import pprint
import sys

from greenloop.monkey._patch_all import patch_all

USAGE = """\
usage: python -m greenloop.monkey [monkey options] [--module] (script|module) [script options]

Run a script or module after patching the standard library with patch_all().

monkey options:
  --no-NAME   patch everything but NAME, which is an argument of patch_all(), "--no-thread" say
  --NAME      patch nothing but what is named so
  --verbose   print what is patched
  --module    the next word names a module, as with "python -m"
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line of `python -m greenloop.monkey`.

    argv: the words after that; None for those of sys.argv.

    Returns the exit status. What the program raises is left to propagate.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    known = [
        name
        for name, parameter in inspect.signature(patch_all).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    verbose = is_module = False
    chosen: dict[str, bool] = {}
    while words and words[0].startswith("--"):
        option = words.pop(0)[2:]
        name = option.removeprefix("no-")
        if option == "verbose":
            verbose = True
        elif option == "module":
            is_module = True
        elif name not in known:
            print(USAGE, end="")
            if option == "help":
                return 0
            print(f"\ngreenloop.monkey: cannot patch {name!r}", file=sys.stderr)
            return 2
        elif name == option:
            # The first that is named excludes all others.
            if True not in chosen.values():
                chosen = dict.fromkeys(known, False) | chosen
            chosen[name] = True
        else:
            chosen[name] = False
    if verbose:
        shown = ", ".join(f"{name}={value}" for name, value in chosen.items())
        print(f"greenloop.monkey.patch_all({shown})")
        print(f"sys.version={sys.version.strip()}")
        print(f"sys.path={pprint.pformat(sys.path)}")
        print(f"cwd={os.getcwd()}")
    if not words:
        print(USAGE, end="")
        return 0
    patch_all(**chosen)
    from greenloop import cli

    return (cli._run_module if is_module else cli._run_script)(words[0], words[1:])

"""The command `python -m greenloop.monkey`."""

from __future__ import annotations

import inspect
import os
import pprint
import sys

from greenloop.monkey._patch_all import patch_all

USAGE = """\
usage: python -m greenloop.monkey [monkey options] (script | -m module) [arguments]

Run a script or module after patching the standard library with patch_all().

monkey options:
  --no-NAME     patch everything but NAME, which is an argument of patch_all(), "--no-thread" say
  --NAME        patch nothing but what is named so
  --verbose     print what is patched
  -m, --module  the next word names a module, as with "python -m"
  -h, --help    print this text
"""


def main(argv: list[str] | None = None) -> int:
    """As `greenloop.monkey.main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = [
        name
        for name, parameter in inspect.signature(patch_all).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    verbose = is_module = ended = False
    chosen: dict[str, bool] = {}
    while words and not ended and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        option = word.removeprefix("--")
        name = option.removeprefix("no-")
        if word == "--":
            ended = True
        elif word == "--verbose":
            verbose = True
        elif word == "--module":
            is_module = True
        elif word.startswith("-m"):
            # As python does, take the name from the same word or the next.
            is_module = ended = True
            if word != "-m":
                words.insert(0, word[2:])
        elif word in ("-h", "--help"):
            print(USAGE, end="")
            return 0
        elif option == word or name not in known:
            print(USAGE, end="")
            print(f"\ngreenloop.monkey: there is no option {word!r}", file=sys.stderr)
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
    from greenloop.cli import run

    return run("module" if is_module else "script", words[0], words[1:])

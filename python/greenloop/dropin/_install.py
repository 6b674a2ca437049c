"""Putting the drop-in in place, and handing it on to child processes."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from types import ModuleType

from greenloop.exceptions import DropInError

from ._finder import DropInFinder
from ._names import ALIASES, PACKAGE, ROOTS, target_name

# Read by the start-up hook, wheel-data/purelib/_greenloop_dropin.py, before anything of
# greenloop is imported; the names are repeated there.
DROPIN_VARIABLE = "GREENLOOP_DROPIN"
PATCH_VARIABLE = "GREENLOOP_PATCH"
HOOK_FILE = "greenloop_dropin.pth"

_lock = threading.Lock()


def _is_ours(name: str, module: ModuleType) -> bool:
    root = name.partition(".")[0]
    top = sys.modules.get(root)
    if top is not None and top is sys.modules.get(ALIASES[root]):
        return True
    target = target_name(name)
    return target is not None and module is sys.modules.get(target)


def _refuse_real_modules() -> None:
    """Raise DropInError if any module of the real gevent or greenlet is loaded."""
    found: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        root = name.partition(".")[0]
        # None marks a name whose import is blocked; no module of that name is in use.
        if root not in ROOTS or root in found or module is None or _is_ours(name, module):
            continue
        origin = getattr(module, "__file__", None)
        found[root] = f"{name} (from {origin})" if origin else f"{name} (of no known file)"
    if found:
        verb = "was" if len(found) == 1 else "were"
        raise DropInError(
            f"greenloop cannot stand in for gevent and greenlet here: "
            f"{' and '.join(found.values())} {verb} already imported. "
            "Call greenloop.install_as_gevent() before the first import of gevent, greenlet or "
            "anything that imports them, or start the program with 'python -m greenloop'."
        )


def hook_is_installed() -> bool:
    """Tell whether child processes of this interpreter would read the start-up hook."""
    return any(os.path.isfile(os.path.join(entry, HOOK_FILE)) for entry in sys.path)


def hand_on_to_children(patch: bool = False) -> None:
    """Make Python processes started from this one begin with the drop-in.

    *patch*: they also call `monkey.patch_all()` first.
    """
    os.environ[DROPIN_VARIABLE] = "1"
    if patch:
        os.environ[PATCH_VARIABLE] = "1"


def install_as_gevent(*, children: bool = False) -> None:
    """Make `import gevent`, its submodules and `import greenlet` mean greenloop.

    From then on `sys.modules["gevent"]` is the greenloop package itself, `gevent.socket` is
    `greenloop.socket`, and `greenlet` is `greenloop.rawgreenlet`. An installed gevent or
    greenlet is not found any more. Calling it again changes nothing.

    children: also hand the drop-in on to Python processes started from this one, by setting
        GREENLOOP_DROPIN in `os.environ`. `python -m greenloop` does so by itself.

    Raises DropInError, and changes nothing, if the real gevent or greenlet was already
    imported, or if *children* is true and greenloop's start-up hook is not in site-packages.
    """
    with _lock:
        _refuse_real_modules()
        if children and not hook_is_installed():
            raise DropInError(
                f"child processes would not run on greenloop: {HOOK_FILE} is not in the "
                "site-packages of this interpreter. Install greenloop with pip, or call "
                "greenloop.install_as_gevent() in the child."
            )
        # Everything that can fail is imported before anything is changed. monkey is among
        # them because libraries look for sys.modules["gevent.monkey"] to learn whether a
        # program is patched, and it must answer also when patched as greenloop.monkey.
        for name in (*ALIASES.values(), f"{PACKAGE}.monkey"):
            importlib.import_module(name)
        for name, module in list(sys.modules.items()):
            if module is not None and name.startswith(f"{PACKAGE}."):
                sys.modules["gevent" + name.removeprefix(PACKAGE)] = module
        for alias, name in ALIASES.items():
            sys.modules[alias] = sys.modules[name]
        rawgreenlet = sys.modules["greenlet"]
        if not hasattr(rawgreenlet, "_greenlet"):
            vars(rawgreenlet)["_greenlet"] = rawgreenlet
        if not any(isinstance(finder, DropInFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, DropInFinder())
        if children:
            hand_on_to_children()


def install_from_environment() -> None:
    """What the start-up hook calls in a child process: install, and patch if it is asked to."""
    install_as_gevent()
    if os.environ.get(PATCH_VARIABLE, "") not in ("", "0"):
        importlib.import_module(f"{PACKAGE}.monkey").patch_all()

"""Which greenloop module each gevent and greenlet module name stands for.

Nothing here imports or changes anything, so the finder, the installer and the command line
can all ask the same questions.
"""

from __future__ import annotations

from os.path import commonpath, dirname

PACKAGE = "greenloop"

# Top-level names taken over, and the module each one stands for. The greenlet package has one
# submodule that programs name, its extension module; both names mean the same module here.
ALIASES = {
    "gevent": PACKAGE,
    "greenlet": f"{PACKAGE}.rawgreenlet",
    "greenlet._greenlet": f"{PACKAGE}.rawgreenlet",
}
ROOTS = ("gevent", "greenlet")

# Modules that are found under these names, but not imported before they are asked for, nor a
# reason to refuse if the real one is loaded: that works on greenloop too.
EXTRAS = {"asyncio_gevent": f"{PACKAGE}.asyncio.compat"}

# The directory of the greenloop package itself. `greenloop.__path__` is not it: programs append
# to `gevent.__path__`, which is the same list.
HOME = dirname(dirname(__file__))


def is_home(entry: str) -> bool:
    """Tell whether a `__path__` entry lies inside the greenloop package."""
    try:
        return commonpath((HOME, entry)) == HOME
    except ValueError:  # a relative entry, or another drive
        return False


def target_name(name: str) -> str | None:
    """Return the greenloop name that *name* would stand for, or None if it is not ours to map.

    The module of that name need not exist: `gevent.nothing` gives `greenloop.nothing`.
    """
    if name in ALIASES:
        return ALIASES[name]
    root, _, rest = name.partition(".")
    if root == "gevent":
        return f"{PACKAGE}.{rest}"
    return None

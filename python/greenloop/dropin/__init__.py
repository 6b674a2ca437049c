"""Lets `import gevent` and `import greenlet` mean greenloop.

How child processes inherit it. `python -m greenloop` and `install_as_gevent(children=True)` set
GREENLOOP_DROPIN=1 (and GREENLOOP_PATCH=1 with --patch). The wheel puts two files at the root of
site-packages: `greenloop_dropin.pth`, one line that does nothing unless GREENLOOP_DROPIN is set,
and `_greenloop_dropin.py`, which that line imports and which installs the drop-in before the
child's own code runs.

Why a .pth file and not PYTHONPATH with a sitecustomize module:

* programs replace PYTHONPATH in the environment of their children, and `python -I` and `-E` do
  not read it; a .pth file is read all the same. Only `python -S` reads neither.
* it leaves the sitecustomize name to the user and to the tools that live by it
  (opentelemetry-instrument, ddtrace-run, distributions), some of which do not run the next one.
* an interpreter with no greenloop installed has no such file: it runs as it always did, instead
  of finding a package built for another Python on its path.

A child that has the hook but cannot install the drop-in (greenloop was built for another
interpreter version, or another start-up file imported the real gevent) ends with status 1 and
one line on stderr. It does not go on without greenloop: unset GREENLOOP_DROPIN for that.
"""

from greenloop.exceptions import DropInError

from ._install import (
    hand_on_to_children,
    hook_is_installed,
    install_as_gevent,
    install_from_environment,
)

__all__ = [
    "DropInError",
    "hand_on_to_children",
    "hook_is_installed",
    "install_as_gevent",
    "install_from_environment",
]

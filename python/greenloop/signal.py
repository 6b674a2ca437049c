"""The names of the standard library's module `signal`. (As gevent.signal.)

Handlers set with `signal` are called whatever the hub waits for, those for SIGCHLD included:
nothing here replaces anything. `greenloop.signal_handler` calls a handler in a greenlet instead.
"""

from __future__ import annotations

import signal as _signal
from signal import *  # noqa: F403 -- whatever this system has

__all__ = [name for name in dir(_signal) if not name.startswith("_")]
__implements__: list[str] = []
__extensions__: list[str] = []

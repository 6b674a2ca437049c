"""`time`."""

from __future__ import annotations

import time as stdlib_time

from greenloop import time as green_time
from greenloop.monkey._aliases import replace_aliases
from greenloop.monkey._items import patch_module


def patch_time() -> None:
    """Replace `time.sleep` by a function that lets other greenlets run."""
    replace_aliases(stdlib_time, {"sleep": green_time.sleep})
    patch_module(stdlib_time, green_time)

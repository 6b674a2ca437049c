"""`time`."""

from __future__ import annotations

import time as stdlib_time

from greenloop import time as green_time
from greenloop.monkey._aliases import patch_everywhere
from greenloop.monkey._announce import vetoable


@vetoable
def patch_time() -> None:
    """Replace `time.sleep` by a function that lets other greenlets run."""
    patch_everywhere(stdlib_time, green_time)

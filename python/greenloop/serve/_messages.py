"""What the supervisor and its workers say to each other: single bytes on a pair of sockets.

The end of the connection tells that the other process is gone, however that came.
"""

from __future__ import annotations

import os
import sys

__all__ = ["CHANGED", "FAILED", "READY", "REOPEN", "RETIRE", "STOP", "say"]

#: Of workers: it serves.
READY = b"R"
#: It wants to be replaced.
RETIRE = b"X"
#: A file of the program has changed.
CHANGED = b"C"
#: There is no application to serve.
FAILED = b"F"

#: Of the supervisor: finish the requests that are there, and end.
STOP = b"S"
#: Open the access log anew.
REOPEN = b"L"


def say(text: str) -> None:
    """Tell the user, on standard error."""
    print(f"greenloop serve: [{os.getpid()}] {text}", file=sys.stderr, flush=True)

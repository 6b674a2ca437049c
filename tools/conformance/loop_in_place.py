"""Puts another event loop in the place of asyncio's own, for tests that are to run on it.

CONFORMANCE_LOOP in the environment names its class, as `module:class`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from asyncio import unix_events
from typing import Any


def loop_class() -> type[asyncio.AbstractEventLoop]:
    """The class of the loop that is to be tested."""
    module, _, name = os.environ["CONFORMANCE_LOOP"].partition(":")
    found: type[asyncio.AbstractEventLoop] = getattr(importlib.import_module(module), name)
    return found


def patch_all() -> None:
    """Have `asyncio.SelectorEventLoop`, and whatever makes a default loop, mean the other.

    Called for a module of tests as `greenloop.monkey.patch_all` is: see run_stdlib.
    """
    tested: Any = loop_class()

    class InPlace(tested):  # type: ignore[misc]
        """The loop, made as the tests make asyncio's."""

        def __init__(self, selector: Any = None) -> None:
            # For another run of the same cases. The loop has a way of its own to wait.
            if selector is not None:
                selector.close()
            super().__init__()

    for holder in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(holder, name):
                setattr(holder, name, InPlace)
    # The default policy, by the name that it has in all versions: 3.11 to 3.15.
    vars(unix_events)["_UnixDefaultEventLoopPolicy"]._loop_factory = InPlace

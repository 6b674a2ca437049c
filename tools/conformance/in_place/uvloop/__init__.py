"""What `uvloop` is for uvloop's own tests when they run on another loop.

The tests make loops by these names, in child processes too. CONFORMANCE_LOOP names the class that
they get (`loop_in_place`), CONFORMANCE_TESTS the directory with `uvloop._testbase`, which is all
that there is of uvloop itself.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import warnings
from collections.abc import Coroutine
from typing import Any

_module, _, _name = os.environ["CONFORMANCE_LOOP"].partition(":")

Loop: Any = getattr(importlib.import_module(_module), _name)

with warnings.catch_warnings():
    # Policies are deprecated from 3.14 on, and the tests use them.
    warnings.simplefilter("ignore", DeprecationWarning)

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """asyncio's policy, but for the loops it makes."""

        _loop_factory = Loop


def new_event_loop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = Loop()
    return loop


def run(
    main: Coroutine[Any, Any, Any],
    *,
    loop_factory: Any = new_event_loop,
    debug: bool | None = None,
) -> Any:
    with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
        return runner.run(main)


__path__.append(os.environ["CONFORMANCE_TESTS"])

"""What the tests of the running loop share."""

from __future__ import annotations

import asyncio
from typing import Any

from greenlet import getcurrent


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def park(value: Any = None) -> Any:
    return getcurrent().parent.switch(value)


async def nothing() -> None:
    """A coroutine to make a task of."""

"""What the tests of asyncio in greenlets share."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

import pytest
from loop_support import running_loop


@pytest.fixture
def make_loop() -> Iterator[Callable[[], asyncio.AbstractEventLoop]]:
    """A function that makes a loop, which is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(asyncio.new_event_loop()))


@pytest.fixture(autouse=True)
def no_loop() -> Iterator[None]:
    """Every test leaves the main greenlet without a running loop."""
    yield
    left = running_loop(), sys.get_asyncgen_hooks()
    asyncio._set_running_loop(None)  # not to fail what comes after
    sys.set_asyncgen_hooks(None, None)
    assert left == (None, (None, None))

"""What the tests of asyncio in greenlets share."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from loop_support import LOOPS, Run, running_loop


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


def run_on(factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the loops."""
    return run_on(LOOPS[request.param])


@pytest.fixture
def run_ours() -> Run:
    """Runs a coroutine on our loop, for what asyncio's does not do, or not so well."""
    return run_on(LOOPS["greenloop"])

"""What tests of greenlets share: small bodies, and a thread to run something in."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet


def park(value: Any = None) -> Any:
    """Switch to the parent with `value`; return what it switches back with."""
    return getcurrent().parent.switch(value)


def parked() -> greenlet:
    g = greenlet(park)
    g.switch()
    return g


def finished() -> greenlet:
    g = greenlet(lambda: None)
    g.switch()
    return g


def in_thread(function: Callable[[], Any]) -> Any:
    """Run `function` in a new thread; return its result or raise its exception."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((True, function()))
        except BaseException as exc:
            box.append((False, exc))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ok, value = box[0]
    if ok:
        return value
    raise value


def isolated(test: Any) -> Any:
    """Run a test in a copy of the context, so that what it sets does not reach other tests."""

    def run() -> None:
        contextvars.copy_context().run(test)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run

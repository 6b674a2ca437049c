"""Greenlet, and functions that join and kill several of them.

The class itself is a part of the core.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from greenloop._core import (
    FailureSpawnedLink,
    Greenlet,
    GreenletExit,
    SpawnedLink,
    SuccessSpawnedLink,
    _join_each,
    _kill_soon,
    sleep,
)
from greenloop._wait import iwait, wait
from greenloop.timeout import Timeout

__all__ = [
    "FailureSpawnedLink",
    "Greenlet",
    "SpawnedLink",
    "SuccessSpawnedLink",
    "joinall",
    "killall",
]


def joinall(
    greenlets: Iterable[Any],
    timeout: float | None = None,
    raise_error: bool = False,
    count: int | None = None,
) -> list[Any]:
    """Wait until several greenlets have ended.

    greenlets: Greenlets, or other objects as for `greenloop.wait`.
    timeout: how many seconds to wait at most; None for no limit.
    raise_error: raise the exception of the first greenlet that fails, without waiting for the
        rest.
    count: how many greenlets to wait for; None for all.

    Returns a list of those that have ended, in the order in which they did. (As gevent.joinall.)
    """
    if not raise_error:
        done: list[Any] = wait(list(greenlets), timeout=timeout, count=count)
        return done
    done = []
    for greenlet in iwait(list(greenlets), timeout=timeout, count=count):
        error = getattr(greenlet, "exception", None)
        if error is not None:
            raise error
        done.append(greenlet)
    return done


def killall(
    greenlets: Iterable[Any],
    exception: BaseException | type[BaseException] = GreenletExit,
    block: bool = True,
    timeout: float | Timeout | None = None,
) -> None:
    """Raise an exception in several greenlets.

    greenlets: any iterable of greenlets. Those that have not begun to run never will.
    exception: what to raise in them; an instance is raised in all of them.
    block: wait until they have ended. For raw greenlets it waits only until the exception has been
        raised: there is no way to tell when they end.
    timeout: how many seconds to wait at most; None for no limit.

    Raises Timeout if they have not ended after *timeout* seconds, TypeError if something among
    them is no greenlet. (As gevent.killall.)
    """
    alive = []
    others = False
    for greenlet in list(greenlets):
        if _kill_soon(greenlet, exception):
            alive.append(greenlet)
        elif not greenlet.dead:
            others = True
    if not block or not (alive or others):
        return
    limit = Timeout._start_new_or_dummy(timeout)
    try:
        if others:
            # What is to be raised is in the queue, ahead of this greenlet.
            sleep(0)
        _join_each(alive)
    finally:
        limit.close()

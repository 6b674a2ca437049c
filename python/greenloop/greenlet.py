"""Greenlet, and functions that join and kill several of them.

The class itself is a part of the core, but for the methods that are defined here: they are called
seldom, and make Python objects anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from greenloop._core import Greenlet, GreenletExit, _join_each, _kill_soon, sleep, spawn_raw
from greenloop._wait import iwait, wait
from greenloop.timeout import Timeout

__all__ = ["Greenlet", "joinall", "killall"]


class SpawnedLink:
    """A link that calls a function with the greenlet that has ended, in a greenlet of its own.

    callback: the function. A link is equal to it, so that `unlink(callback)` finds the link.
    """

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[Any], Any]) -> None:
        if not callable(callback):
            raise TypeError(f"Expected callable: {callback!r}")
        self.callback = callback

    def __call__(self, source: Any) -> None:
        spawn_raw(self.callback, source)

    def __eq__(self, other: object) -> bool:
        return bool(self.callback == getattr(other, "callback", other))

    def __hash__(self) -> int:
        return hash(self.callback)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} to {self.callback!r}>"

    def __getattr__(self, name: str) -> Any:
        # What is asked of the link is asked of the function, its name for example.
        if name == "callback":
            raise AttributeError(name)
        return getattr(self.callback, name)


class SuccessSpawnedLink(SpawnedLink):
    """A SpawnedLink that does nothing if the greenlet has failed."""

    __slots__ = ()

    def __call__(self, source: Any) -> None:
        if source.successful():
            super().__call__(source)


class FailureSpawnedLink(SpawnedLink):
    """A SpawnedLink that does nothing unless the greenlet has failed."""

    __slots__ = ()

    def __call__(self, source: Any) -> None:
        if not source.successful():
            super().__call__(source)


def link(
    self: Greenlet,
    callback: Callable[[Any], Any],
    SpawnedLink: Callable[[Callable[[Any], Any]], Any] = SpawnedLink,  # noqa: N803
) -> None:
    """Have *callback* called with this greenlet when it has ended, in a greenlet of its own.

    It is called soon if the greenlet has ended already. `unlink(callback)` takes it back.
    """
    self.rawlink(SpawnedLink(callback))


def link_value(self: Greenlet, callback: Callable[[Any], Any]) -> None:
    """Like link, but *callback* is called only if the greenlet does not fail."""
    self.rawlink(SuccessSpawnedLink(callback))


def link_exception(self: Greenlet, callback: Callable[[Any], Any]) -> None:
    """Like link, but *callback* is called only if the greenlet fails."""
    self.rawlink(FailureSpawnedLink(callback))


def spawn_later(cls: type[Greenlet], seconds: float, *args: Any, **kwargs: Any) -> Greenlet:
    """Make a greenlet of these arguments and have it run in so many seconds.

    Returns the greenlet. Raises TypeError if it has nothing to call.
    """
    greenlet = cls(*args, **kwargs)
    greenlet.start_later(seconds)
    return greenlet


for _method in (link, link_value, link_exception):
    setattr(Greenlet, _method.__name__, _method)
Greenlet.spawn_later = classmethod(spawn_later)  # type: ignore[method-assign,assignment]
del link, link_value, link_exception, spawn_later


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

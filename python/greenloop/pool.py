"""Group and Pool: greenlets that belong together, and a limit on how many there are."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from greenloop._core import Greenlet, GreenletExit, Members, Places, getcurrent
from greenloop._imap import IMap, IMapUnordered
from greenloop.greenlet import joinall
from greenloop.hub import kill as _kill
from greenloop.lock import DummySemaphore, Semaphore
from greenloop.timeout import Timeout

__all__ = ["Group", "Pool", "PoolFull"]


class GroupMappingMixin:
    """apply and map for a class that can spawn."""

    # The thread pool has it too.

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function in a greenlet, or thread, of its own, and return that."""
        raise NotImplementedError

    def _apply_immediately(self) -> bool:
        """Whether to call the function at once, as waiting for a place would never end."""
        return False

    def _apply_async_use_greenlet(self) -> bool:
        """Whether spawn() would wait."""
        return False

    def _apply_async_cb_spawn(self, callback: Callable[[Any], Any], result: Any) -> None:
        Greenlet.spawn(callback, result)

    def apply_cb(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Like apply; *callback*, if given, is called with the result in a greenlet of its own."""
        result = self.apply(func, args, kwds)
        if callback is not None:
            self._apply_async_cb_spawn(callback, result)
        return result

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Like apply, but return at once: a Greenlet whose value is the result.

        callback: called with the result if there is one, in a greenlet of its own.
        """
        args = () if args is None else args
        kwds = {} if kwds is None else kwds
        if self._apply_async_use_greenlet():
            return Greenlet.spawn(self.apply_cb, func, args, kwds, callback)
        greenlet = self.spawn(func, *args, **kwds)
        if callback is not None:
            greenlet.link_value(_ValueTo(callback))
        return greenlet

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function in a greenlet, wait, and return what it returns or raise what it raises.

        func: what to call. In a full pool, a greenlet of the pool calls it itself.
        args: the positional arguments.
        kwds: the keyword arguments.
        """
        args = () if args is None else args
        kwds = {} if kwds is None else kwds
        if self._apply_immediately():
            return func(*args, **kwds)
        return self.spawn(func, *args, **kwds).get()

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any]) -> list[Any]:
        """Call a function with each item, all at the same time, and return a list of the results.

        func: what to call. If it fails, the first exception, in the order of the items, is raised;
            the other calls go on.
        iterable: the items.
        """
        return list(self.imap(func, iterable))

    def map_cb(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        callback: Callable[[list[Any]], Any] | None = None,
    ) -> list[Any]:
        """Like map; *callback*, if given, is called with the results."""
        result = self.map(func, iterable)
        if callback is not None:
            callback(result)
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        callback: Callable[[list[Any]], Any] | None = None,
    ) -> Greenlet:
        """Like map_cb, but return at once: a Greenlet whose value is the list of results."""
        return Greenlet.spawn(self.map_cb, func, iterable, callback)

    def imap(
        self, func: Callable[..., Any], *iterables: Iterable[Any], maxsize: int | None = None
    ) -> IMap:
        """Like map, but return an iterator over the results, in the order of the items.

        func: what to call. What it raises is raised by `next`, after which the iteration can go
            on.
        iterables: for each argument of *func* the items; the shortest one ends it.
        maxsize: how many results may be there, or on their way, before somebody takes one; None or
            0 for no limit.

        Raises ValueError if *maxsize* is negative.
        """
        return IMap.spawn(func, *_items(iterables, self.spawn, maxsize))

    def imap_unordered(
        self, func: Callable[..., Any], *iterables: Iterable[Any], maxsize: int | None = None
    ) -> IMapUnordered:
        """Like imap, but the results come in the order in which they are there."""
        return IMapUnordered.spawn(func, *_items(iterables, self.spawn, maxsize))


def _items(
    iterables: tuple[Iterable[Any], ...], spawn: Callable[..., Any], maxsize: int | None
) -> tuple[Any, ...]:
    """The arguments of IMap, behind the function."""
    if len(iterables) == 1:
        return iter(iterables[0]), spawn, maxsize
    return zip(*iterables, strict=False), spawn, maxsize, True


class _ValueTo:
    """A link that calls a function with the value of the greenlet."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[Any], Any]) -> None:
        self.callback = callback

    def __call__(self, source: Any) -> None:
        self.callback(source.value)


class Group(Members, GroupMappingMixin):
    """Greenlets that can be joined and killed together. They leave when they end.

    greenlets: an iterable of greenlets to begin with. (As gevent.pool.Group.)
    """

    #: What spawn() makes.
    greenlet_class: Any = Greenlet

    def __init__(self, greenlets: Iterable[Any] = ()) -> None:
        for greenlet in greenlets:
            self.add(greenlet)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} {self.greenlets}>"

    def __len__(self) -> int:
        return len(self.greenlets)

    def __contains__(self, item: object) -> bool:
        return item in self.greenlets

    def __iter__(self) -> Iterator[Any]:
        return iter(self.greenlets)

    def discard(self, greenlet: Any) -> None:
        """Let a greenlet leave before its end. Nothing happens if it is no member."""
        self._discard(greenlet)
        unlink = getattr(greenlet, "unlink", None)
        if unlink is not None:
            unlink(self._discard)

    def join(self, timeout: float | None = None, raise_error: bool = False) -> bool:
        """Wait until there are no members.

        timeout: how many seconds to wait at most; None for no limit.
        raise_error: raise the exception of a member that failed.

        Returns whether there came to be no members in time.
        """
        greenlets = list(self.greenlets) if raise_error else ()
        result = self._empty_event.wait(timeout=timeout)
        for greenlet in greenlets:
            error = getattr(greenlet, "exception", None)
            if error is not None:
                raise error
        return bool(result)

    def kill(
        self,
        exception: BaseException | type[BaseException] = GreenletExit,
        block: bool = True,
        timeout: float | Timeout | None = None,
    ) -> None:
        """Raise an exception in all members.

        exception: what to raise.
        block: wait until all have ended, those that join the group meanwhile included, which are
            killed too.
        timeout: how many seconds to wait at most; None for no limit. It returns then.
        """
        limit = Timeout._start_new_or_dummy(timeout)
        try:
            while self.greenlets:
                members = list(self.greenlets)
                for greenlet in members:
                    if greenlet not in self.dying:
                        self._kill_member(greenlet, exception)
                if not block:
                    return
                # A raw one does not tell when it ends: it has left by now.
                members = [greenlet for greenlet in members if greenlet in self.greenlets]
                joinall(members)
                for greenlet in members:
                    self._discard(greenlet)
        except Timeout as error:
            if error is not limit:
                raise
        finally:
            limit.close()

    def _kill_member(self, greenlet: Any, exception: BaseException | type[BaseException]) -> None:
        self.dying.add(greenlet)
        _kill(greenlet, exception)
        if not hasattr(greenlet, "rawlink"):
            self._discard(greenlet)

    def killone(
        self,
        greenlet: Any,
        exception: BaseException | type[BaseException] = GreenletExit,
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Raise an exception in one member. Nothing happens to a greenlet that is no member, or
        that has been killed in this way before.

        exception: what to raise.
        block: wait until it has ended.
        timeout: how many seconds to wait at most; None for no limit. It returns then.
        """
        if greenlet not in self.greenlets or greenlet in self.dying:
            return
        self._kill_member(greenlet, exception)
        if block and hasattr(greenlet, "join"):
            greenlet.join(timeout)

    def full(self) -> bool:
        """Whether spawn() would wait: never, in a group."""
        return False

    def wait_available(self, timeout: float | None = None) -> int | None:
        """Wait until there is room: there always is, in a group."""
        return None

    def _apply_immediately(self) -> bool:
        return self.full() and getcurrent() in self

    def _apply_async_use_greenlet(self) -> bool:
        return self.full()


class PoolFull(queue.Full):
    """A pool has no place left, and waiting was not asked for or took too long."""


class Pool(Places, Group):
    """A group with a limit on how many members it has.

    size: the limit; None for no limit. With 0 there is never room.
    greenlet_class: what spawn() makes; None for Greenlet.

    Raises ValueError if *size* is negative. (As gevent.pool.Pool.)
    """

    def __init__(self, size: int | None = None, greenlet_class: Any = None) -> None:
        if size is not None and size < 0:
            raise ValueError(f"size must not be negative: {size}")
        super().__init__()
        #: The limit. Whoever changes it changes the counter of `_semaphore` as well.
        self.size = size
        if greenlet_class is not None:
            self.greenlet_class = greenlet_class
        if size is not None:
            self._places = Semaphore(size)

    @property
    def _semaphore(self) -> Any:
        """Has a permit for each place that is left."""
        places = self._places
        return DummySemaphore() if places is None else places

    @_semaphore.setter
    def _semaphore(self, value: Any) -> None:
        self._places = value

    def wait_available(self, timeout: float | None = None) -> int:
        """Wait until there is room.

        timeout: how many seconds to wait at most; None for no limit.

        Returns how many places there are: 0 after *timeout*, 1 without a limit.
        """
        places: int = self._semaphore.wait(timeout=timeout)
        return places

    def full(self) -> bool:
        """Whether spawn() would wait."""
        return self.free_count() <= 0

    def free_count(self) -> int:
        """How many places are left; 1 without a limit."""
        if self.size is None:
            return 1
        return max(0, self.size - len(self))

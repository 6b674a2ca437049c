"""Group and Pool: greenlets that belong together, and a limit on how many there are."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from greenloop._core import Greenlet, GreenletExit, getcurrent
from greenloop._imap import IMap, IMapUnordered
from greenloop.event import Event
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
        return IMap.spawn(func, zip(*iterables, strict=False), self.spawn, maxsize, True)

    def imap_unordered(
        self, func: Callable[..., Any], *iterables: Iterable[Any], maxsize: int | None = None
    ) -> IMapUnordered:
        """Like imap, but the results come in the order in which they are there."""
        return IMapUnordered.spawn(func, zip(*iterables, strict=False), self.spawn, maxsize, True)


class _ValueTo:
    """A link that calls a function with the value of the greenlet."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[Any], Any]) -> None:
        self.callback = callback

    def __call__(self, source: Any) -> None:
        self.callback(source.value)


class Group(GroupMappingMixin):
    """Greenlets that can be joined and killed together. They leave when they end.

    greenlets: an iterable of greenlets to begin with. (As gevent.pool.Group.)
    """

    #: What spawn() makes.
    greenlet_class: Any = Greenlet

    def __init__(self, greenlets: Iterable[Any] = ()) -> None:
        #: The members.
        self.greenlets: set[Any] = set(greenlets)
        #: Members that have been killed and have not ended yet.
        self.dying: set[Any] = set()
        self._empty_event = Event()
        if not self.greenlets:
            self._empty_event.set()
        for greenlet in list(self.greenlets):
            self._follow(greenlet)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} {self.greenlets}>"

    def __len__(self) -> int:
        return len(self.greenlets)

    def __contains__(self, item: object) -> bool:
        return item in self.greenlets

    def __iter__(self) -> Iterator[Any]:
        return iter(self.greenlets)

    def _follow(self, greenlet: Any) -> None:
        """Have the greenlet leave when it ends. A raw one, such as the main greenlet, stays."""
        rawlink = getattr(greenlet, "rawlink", None)
        if rawlink is not None:
            rawlink(self._discard)

    def add(self, greenlet: Any) -> None:
        """Make a greenlet a member; of one that is a member already, nothing changes."""
        greenlets = self.greenlets
        if greenlet in greenlets:
            return
        self._follow(greenlet)
        if not greenlets:
            self._empty_event.clear()
        greenlets.add(greenlet)

    def _discard(self, greenlet: Any) -> bool:
        """Forget a greenlet. Whether it was a member: it can leave in several ways at once."""
        greenlets = self.greenlets
        if greenlet not in greenlets:
            return False
        greenlets.remove(greenlet)
        self.dying.discard(greenlet)
        if not greenlets:
            self._empty_event.set()
        return True

    def discard(self, greenlet: Any) -> None:
        """Let a greenlet leave before its end. Nothing happens if it is no member."""
        self._discard(greenlet)
        unlink = getattr(greenlet, "unlink", None)
        if unlink is not None:
            unlink(self._discard)

    def start(self, greenlet: Any) -> None:
        """Make a greenlet that has not been started a member, and start it."""
        self.add(greenlet)
        try:
            greenlet.start()
        except BaseException:
            self.discard(greenlet)
            raise

    def spawn(self, *args: Any, **kwargs: Any) -> Any:
        """Make a greenlet of `greenlet_class` with these arguments, start it as a member.

        Returns the greenlet. In a pool it waits for a place first.
        """
        greenlet = self.greenlet_class(*args, **kwargs)
        self.start(greenlet)
        return greenlet

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
        """Raise an exception in one member. Nothing happens to a greenlet that is no member.

        exception: what to raise.
        block: wait until it has ended.
        timeout: how many seconds to wait at most; None for no limit. It returns then.
        """
        if greenlet not in self.greenlets:
            return
        if greenlet not in self.dying:
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


class Pool(Group):
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
        self._semaphore: Any = DummySemaphore() if size is None else Semaphore(size)

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

    def start(self, greenlet: Any, blocking: bool = True, timeout: float | None = None) -> None:
        """Make a greenlet that has not been started a member when there is room, and start it.

        blocking, timeout: as for add, which also tells what is raised.
        """
        self.add(greenlet, blocking, timeout)
        try:
            greenlet.start()
        except BaseException:
            self.discard(greenlet)
            raise

    def add(self, greenlet: Any, blocking: bool = True, timeout: float | None = None) -> None:
        """Make a greenlet a member when there is room; of a member, nothing changes.

        blocking: wait until there is room.
        timeout: how many seconds to wait at most; None for no limit.

        Raises PoolFull if there is no room, or none in time.
        """
        greenlets = self.greenlets
        if greenlet in greenlets:
            return
        if not self._semaphore.acquire(blocking, timeout):
            raise PoolFull
        try:
            self._follow(greenlet)
            if not greenlets:
                self._empty_event.clear()
            greenlets.add(greenlet)
        except BaseException:
            if greenlet not in greenlets:
                self._semaphore.release()
            raise

    def _discard(self, greenlet: Any) -> bool:
        if not super()._discard(greenlet):
            return False
        self._semaphore.release()
        return True

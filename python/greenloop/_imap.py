"""The iterators that Group.imap and Group.imap_unordered return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from greenloop._core import Greenlet
from greenloop.lock import Semaphore
from greenloop.queue import Queue

__all__ = ["IMap", "IMapUnordered"]


class _Mapping(Greenlet):
    """A greenlet that spawns a greenlet for every item, and iterates over their results.

    func: what to call with each item.
    iterable: the items.
    spawn: what to call with *func* and an item to get a Greenlet; it may wait.
    maxsize: how many results may be there, or on their way, before somebody takes one; None or 0
        for no limit.
    _zipped: each item is a tuple of arguments.

    Raises ValueError if *maxsize* is negative.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        spawn: Callable[..., Any],
        maxsize: int | None = None,
        _zipped: bool = False,
    ) -> None:
        super().__init__()
        if maxsize is not None and maxsize < 0:
            raise ValueError(f"maxsize must not be negative: {maxsize}")
        self.func = func
        self.spawn = spawn  # type: ignore[method-assign]  # gevent's name for it
        self.iterable = iterable
        self._zipped = _zipped
        self._room = Semaphore(maxsize) if maxsize else None
        #: Greenlets whose results are to be taken. This one comes last, when it has ended.
        self.queue: Queue[Any] = Queue()
        self._spawned = 0
        self._taken = 0
        self._all_spawned = False
        self.rawlink(self.queue.put)

    def _run(self) -> None:
        func, spawn, room, zipped = self.func, self.spawn, self._room, self._zipped
        add = self._add
        for item in self.iterable:
            if room is not None:
                room.acquire()
            add(spawn(func, *item) if zipped else spawn(func, item))
            self._spawned += 1

    def _add(self, greenlet: Any) -> None:
        raise NotImplementedError

    def __iter__(self) -> _Mapping:
        return self

    def __next__(self) -> Any:
        """Wait for the next result and return it, or raise the exception it is."""
        while not self._all_spawned or self._taken != self._spawned:
            greenlet = self._next_greenlet()
            if greenlet is self:
                first_sight = not self._all_spawned
                self._all_spawned = True
                if self._taken == self._spawned:
                    # For others who wait for a result: there will be none.
                    self.queue.put(self)
                if first_sight and self.exception is not None:
                    raise self.exception
                continue
            self._taken += 1
            if self._all_spawned and self._taken == self._spawned:
                self.queue.put(self)
            if self._room is not None:
                self._room.release()
            return greenlet.get()
        raise StopIteration

    next = __next__

    def _next_greenlet(self) -> Any:
        raise NotImplementedError


class IMapUnordered(_Mapping):
    """Iterates over results in the order in which they come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._put = self.queue.put
        self._next_greenlet = self.queue.get  # type: ignore[method-assign]  # a call less

    def _add(self, greenlet: Any) -> None:
        # It has ended when it comes out of the queue.
        greenlet.rawlink(self._put)


class IMap(_Mapping):
    """Iterates over results in the order of the items."""

    #: The greenlet whose result is next; it stays here if whoever waits for it gives up.
    _head: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Held by the greenlet that waits for the next result. Others wait for their turn.
        self._turn = Semaphore(1)

    def _add(self, greenlet: Any) -> None:
        self.queue.put(greenlet)

    def _next_greenlet(self) -> Any:
        with self._turn:
            greenlet = self._head
            if greenlet is None:
                greenlet = self._head = self.queue.get()
            if greenlet is not self:
                # A thread pool spawns AsyncResults.
                (greenlet.join if isinstance(greenlet, Greenlet) else greenlet.wait)()
            self._head = None
            return greenlet

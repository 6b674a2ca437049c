"""The iterators that Group.imap and Group.imap_unordered return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

from greenloop._core import Greenlet, Results, _next_result
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

    #: Whether the results come in the order of the items.
    _ordered: ClassVar[bool]

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
        self._results = Results(self.queue, self._ordered, self._room)
        self.rawlink(self.queue.put)

    def _run(self) -> None:
        func, spawn, room, zipped = self.func, self.spawn, self._room, self._zipped
        add = self._results.add
        for item in self.iterable:
            if room is not None:
                room.acquire()
            add(spawn(func, *item) if zipped else spawn(func, item))

    def __iter__(self) -> Self:
        return self

    __next__ = next = _next_result


class IMapUnordered(_Mapping):
    """Iterates over results in the order in which they come."""

    _ordered = False


class IMap(_Mapping):
    """Iterates over results in the order of the items."""

    _ordered = True

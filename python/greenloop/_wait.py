"""wait and iwait: waiting for several objects at once.

An object can be waited for if it has the methods ``rawlink(callback)``, which has the hub call
``callback(object)`` once it is ready, and ``unlink(callback)``, which takes that back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from greenloop._core import Greenlet, Waiter, _all_greenlets, _join_all, get_hub

__all__ = ["iwait", "wait"]


class _Collector:
    """Takes in the objects that are ready, in that order.

    It is what the objects hold, not the iterator: an iterator that nobody uses any more can be
    freed, and then takes its links back.
    """

    __slots__ = ("expected", "expired", "ready", "waiter")

    def __init__(self, objects: list[Any]) -> None:
        # How often each object is in the list, and the object, under its identity.
        self.expected: dict[int, tuple[Any, int]] = {}
        for object_ in objects:
            _, times = self.expected.get(id(object_), (None, 0))
            self.expected[id(object_)] = (object_, times + 1)
        self.ready: deque[Any] = deque()
        self.waiter: Waiter | None = None
        self.expired = False

    def link(self) -> None:
        for object_, _ in list(self.expected.values()):
            if isinstance(object_, Greenlet) and object_.ready() and not object_.has_links():
                # As good as a link, without what would run, and might fail, before that is called.
                # Links that there are come first.
                self(object_)
            else:
                object_.rawlink(self)

    def unlink(self) -> None:
        expected, self.expected = self.expected, {}
        for object_, _ in expected.values():
            unlink = getattr(object_, "unlink", None)
            if unlink is not None:
                unlink(self)

    def __call__(self, object_: Any) -> None:
        _, times = self.expected.pop(id(object_), (None, 0))
        for _ in range(times):
            self.ready.append(object_)
        if times:
            self.wake()

    def expire(self) -> None:
        self.expired = True
        self.wake()

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.switch()


class _WaitIterator(Iterator[Any]):
    """Yields objects as they become ready; see iwait."""

    _timer: Any = None
    _collector: _Collector | None = None

    def __init__(self, objects: Iterable[Any], timeout: float | None, count: int | None) -> None:
        self._objects = list(objects)
        total = len(self._objects)
        self._left = total if count is None else max(0, min(count, total))
        self._timeout = timeout

    def _begin(self) -> _Collector:
        collector = self._collector = _Collector(self._objects)
        self._objects = []
        if self._timeout is not None:
            timer = get_hub().loop.timer(self._timeout)
            timer.start(collector.expire)
            self._timer = timer
        collector.link()
        return collector

    def __next__(self) -> Any:
        if self._left > 0:
            try:
                collector = self._collector or self._begin()
                while not collector.ready and not collector.expired:
                    waiter = collector.waiter = Waiter()
                    try:
                        waiter.get()
                    finally:
                        collector.waiter = None
            except BaseException:
                self._end()
                raise
            if collector.ready:
                self._left -= 1
                return collector.ready.popleft()
        self._end()
        raise StopIteration

    def _end(self) -> None:
        self._left = 0
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()
        if self._collector is not None:
            self._collector.unlink()

    def __enter__(self) -> _WaitIterator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def __del__(self) -> None:
        self._end()


def iwait(
    objects: Iterable[Any] | None, timeout: float | None = None, count: int | None = None
) -> Iterator[Any]:
    """Yield each of several objects as soon as it is ready.

    objects: greenlets, events, results, semaphores: whatever has `rawlink` and `unlink`. None
        waits until the loop has nothing left to do, and yields what `wait()` returns.
    timeout: after so many seconds the iteration ends; None for no limit. The time runs from the
        first step.
    count: how many objects to yield at most; None for all.

    What it returns is also a context manager: at the end of the ``with`` statement it waits for
    nothing any more. A loop that is left early has that effect as soon as the iterator is freed.

    Raises AttributeError if one of the objects cannot be waited for. (As gevent.iwait.)
    """
    if objects is None:
        return iter([get_hub().join(timeout=timeout)])
    return _WaitIterator(objects, timeout, count)


def wait(
    objects: Iterable[Any] | None = None, timeout: float | None = None, count: int | None = None
) -> Any:
    """Wait for several objects, or until there is nothing left to do.

    objects: as for iwait. None waits until the loop has nothing left to do: no greenlet is ready
        and no timer, watcher or descriptor is being waited for. The result is True then, False
        if it took longer than *timeout* seconds.
    timeout: how many seconds to wait at most; None for no limit.
    count: how many objects to wait for; None for all.

    Returns a list of the objects that are ready, in the order in which they became so.
    Raises AttributeError if one of them cannot be waited for. (As gevent.wait.)
    """
    if objects is None:
        return get_hub().join(timeout=timeout)
    objects = list(objects)
    if count is None and _all_greenlets(objects):
        return _join_all(objects, timeout)
    return list(_WaitIterator(objects, timeout, count))

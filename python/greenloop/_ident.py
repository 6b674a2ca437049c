"""Small numbers for objects."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["IdentRegistry"]


class _Numbered(ref[Any]):
    """A weak reference to an object that has a number."""

    __slots__ = ("number",)
    number: int


class IdentRegistry:
    """Gives objects small numbers: no two that exist at the same time have the same.

    The objects have to be hashable and weakly referable.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, _Numbered] = WeakKeyDictionary()
        # Of objects that are gone.
        self._free: list[int] = []

    def get_ident(self, obj: Any) -> int:
        """Return the number of an object: the smallest that is free if it has none yet."""
        known = self._known.get(obj)
        if known is None:
            known = _Numbered(obj, self._release)
            known.number = heappop(self._free) if self._free else len(self._known)
            self._known[obj] = known
        return known.number

    def _release(self, known: _Numbered) -> None:
        heappush(self._free, known.number)

    def __len__(self) -> int:
        return len(self._known)

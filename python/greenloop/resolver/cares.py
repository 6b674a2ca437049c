"""What programs take from gevent's module of this name beside the resolver. (As
gevent.resolver.cares.)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

__all__ = ["ares_host_result"]


class ares_host_result(tuple[Any, ...]):  # noqa: N801 -- gevent's name
    """A tuple with the family of the addresses in it."""

    family: Any

    def __new__(cls, family: Any, iterable: Iterable[Any]) -> Self:
        """Make one of the items of `iterable`."""
        self = super().__new__(cls, iterable)
        self.family = family
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.family, tuple(self)

"""AbstractLinkable: what can be waited for."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any

from greenloop._core import AsyncResult, Event, Greenlet, Lock, Semaphore

__all__ = ["AbstractLinkable"]


class AbstractLinkable(metaclass=ABCMeta):
    """What `greenloop.wait` and `iwait` take: events, results, semaphores, locks and greenlets, and
    objects of a program's own classes that have these methods.

    Programs may subclass it, or register a class of theirs. (As gevent's class of this name, which
    the primitives there are made of.)
    """

    __slots__ = ()

    @abstractmethod
    def ready(self) -> bool:
        """Whether what is waited for has happened."""

    @abstractmethod
    def rawlink(self, callback: Callable[[Any], object]) -> None:
        """Have the hub call ``callback(self)`` once it has happened."""

    @abstractmethod
    def unlink(self, callback: Callable[[Any], object]) -> None:
        """Take `rawlink` back, if the call has not been made yet."""


for _class in (AsyncResult, Event, Greenlet, Lock, Semaphore):
    AbstractLinkable.register(_class)

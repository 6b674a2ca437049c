"""Waiter and MultipleWaiter, under the name of the module that gevent has them in."""

from __future__ import annotations

from collections import deque
from typing import Any

from greenloop._core import Waiter

__all__ = ["MultipleWaiter", "Waiter"]


class MultipleWaiter(Waiter):
    """A Waiter that keeps all values it is switched to with, and gives them in order.

    hub: taken for compatibility.
    """

    def __init__(self, hub: object = None) -> None:
        super().__init__()
        self._values: deque[Any] = deque()

    def switch(self, value: Any = None) -> None:
        """Keep a value, and wake the greenlet that waits in `get` if there is one."""
        self._values.append(value)
        super().switch(True)

    def get(self) -> Any:
        """Return the first value that has not been taken yet; wait for it if there is none."""
        while not self._values:
            super().get()
            self.clear()
        return self._values.popleft()

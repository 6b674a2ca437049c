"""Timeout: an exception that is raised in a greenlet when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from greenloop._core import Timeout

__all__ = ["Timeout", "with_timeout"]

_T = TypeVar("_T")


class _NotGiven:
    """The type of the default of with_timeout's timeout_value."""


_NOT_GIVEN = _NotGiven()


def with_timeout(
    seconds: float | Timeout | None,
    function: Callable[..., _T],
    *args: Any,
    timeout_value: Any = _NOT_GIVEN,
    **kwargs: Any,
) -> _T | Any:
    """Call ``function(*args, **kwargs)`` and stop it after a number of seconds.

    seconds: as for Timeout, or a Timeout.
    timeout_value: what to return if the time is over first.

    Returns what *function* returns, and raises what it raises. Raises Timeout if the time is over
    first and no *timeout_value* is given. (As gevent.with_timeout.)
    """
    timeout = Timeout.start_new(seconds)
    try:
        return function(*args, **kwargs)
    except Timeout as error:
        if error is timeout and timeout_value is not _NOT_GIVEN:
            return timeout_value
        raise
    finally:
        timeout.close()

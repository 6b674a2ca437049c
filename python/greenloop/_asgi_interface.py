"""Which interface an application has: WSGI or ASGI."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Interface", "as_asgi3", "detect"]

Interface = str


def detect(application: Callable[..., Any]) -> Interface:
    """Return "wsgi", "asgi" for the single callable of ASGI 3, or "asgi2" for the double one.

    An application is one of ASGI if calling it gives a coroutine: an `async def` function, or an
    object whose `__call__` is one. A class whose objects are such, and a function of one parameter,
    are of ASGI 2. Everything else is WSGI.
    """
    plain = application
    while isinstance(plain, functools.partial):
        plain = plain.func
    if inspect.isclass(plain):
        if hasattr(plain, "__await__"):
            return "asgi"
        return "asgi2" if _is_coroutine_function(plain.__call__) else "wsgi"
    if _is_coroutine_function(plain):
        return "asgi"
    call = getattr(plain, "__call__", None)  # noqa: B004 - what it is, not whether it is there
    if _is_coroutine_function(call):
        return "asgi"
    return "asgi2" if _takes_scope_alone(application) else "wsgi"


def _is_coroutine_function(function: Any) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    if "asyncio" not in sys.modules:
        return False
    # Before Python 3.12 asyncio had a mark of its own for functions that return coroutines. Servers
    # of nothing but WSGI do without asyncio, and where it was not imported nothing has the mark.
    from greenloop.asyncio import _private

    return _private.iscoroutinefunction(function)


def _takes_scope_alone(application: Callable[..., Any]) -> bool:
    """Whether an application can be called with one argument only."""
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None)
    except TypeError:
        return False
    try:
        signature.bind(None, None)
    except TypeError:
        return True
    return False


def as_asgi3(application: Callable[..., Any], interface: Interface) -> Callable[..., Any]:
    """Return an application of ASGI as the single callable of ASGI 3."""
    if interface != "asgi2":
        return application

    async def single(scope: Any, receive: Any, send: Any) -> None:
        await application(scope)(receive, send)

    return single

"""shield: a block of code in which a greenlet is not killed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from greenloop import _core

__all__ = ["shield"]

_F = TypeVar("_F", bound=Callable[..., Any])


class shield(_core.Shield):  # noqa: N801 - used as a function
    """Holds back what others raise in the current greenlet, until the block ends.

    ::

        with shield():
            connection.commit()  # may wait, and is neither killed nor timed out meanwhile
        # a kill or Timeout that came meanwhile is raised here, at the end of the block

        @shield()
        def close(connection): ...

    Held back are `kill`, `killall` and `throw`, and a `Timeout` that was started outside of the
    block. They are raised by the end of the block, in place of its own exception if it has one,
    which is their ``__context__`` then. If there are several, the first is raised there and each
    other one when the greenlet waits next, as if it had come just then; none is lost. A `Timeout`
    that is cancelled or closed before is not raised any more. With blocks within each other, it
    is the end of the outermost that counts; for a `Timeout` that was started in one of them, the
    end of the next one within.

    Not held back are a `Timeout` that was started in the block, the ``timeout`` arguments of what
    is called in it, errors of what the greenlet waits for (as of a socket that is closed),
    LoopExit, and what signal handlers raise, such as KeyboardInterrupt. What a greenlet raises in
    itself is raised at once. A raw greenlet that was left by its own ``switch()`` gets what is
    thrown by whom it switched to.

    Whoever waits for the end of a greenlet that is killed, waits for the end of its block.

    It is for the greenlet that enters the block. In coroutines that is the one that runs their
    loop, which may run other tasks during an ``await``; the cancelling of tasks is asyncio's and
    not held back. A function is decorated by ``@shield()``, also one made by ``async def``. A
    shield can be used again, in the greenlet that is in it also at the same time.

    Raises RuntimeError if it is used by another greenlet at that moment. (gevent has nothing
    like it.)
    """

    def __call__(self, function: _F) -> _F:
        """Decorate a function: each call of it is a block of its own.

        Raises TypeError for a generator function, whose code runs when the call is over.
        """
        # Here, as few programs need it.
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator function cannot be shielded as a whole; use `with` in it")
        new = type(self)
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with new():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with new():
                    return function(*args, **kwargs)

        return wrapper  # type: ignore[no-any-return]

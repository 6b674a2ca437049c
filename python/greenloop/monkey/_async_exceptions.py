"""`ctypes.pythonapi.PyThreadState_SetAsyncExc`, by which programs end threads and limit calls.

The interpreter raises the exception in a native thread. Greenlets share that: to it, those that are
threads do not exist, and what is meant for the main thread would be raised in whichever greenlet
runs, such as the timer that asks for it. So exceptions for greenlets of the calling native thread
are thrown into them, and the interpreter gets all others.

Only who calls the function by ctypes finds this one. Functions in C call the interpreter's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from greenloop import thread as green_thread
from greenloop._core import _throw_later, get_hub_if_exists, getcurrent

_NAME = "PyThreadState_SetAsyncExc"


class _SetAsyncExc:
    """Raises exceptions in threads by their identities.

    native: the interpreter's function. Its attributes (`argtypes`, ...) are those of this one.
    """

    __slots__ = ("_null", "_pending", "native")

    def __init__(self, native: Any, null: type[Any]) -> None:
        object.__setattr__(self, "native", native)
        # The type of arguments that may be a null pointer.
        object.__setattr__(self, "_null", null)
        # What is to be thrown into a greenlet; the last one counts.
        object.__setattr__(self, "_pending", {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.native, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.native, name, value)

    def __call__(self, ident: Any, exception: Any) -> Any:
        """Raise an exception in a thread.

        ident: the thread's identity, an integer or one of ctypes.
        exception: a class of exceptions, itself or as a `ctypes.py_object`; None or a null pointer
            to take back what has not been raised yet.

        Returns the number of threads in which it will be raised: 1, or 0 if there is no such
        thread.
        """
        number = getattr(ident, "value", ident)
        current = getcurrent()
        target = _greenlet(number)
        if target is None:
            return self.native(ident, exception)
        if target is current:
            # At once, as the interpreter does.
            return self.native(type(ident)(green_thread._native_get_ident()), exception)
        hub: Any = get_hub_if_exists() if target.parent is None else target.parent
        error = self._exception(exception)
        if error is None:
            self._pending.pop(target, None)
        else:
            if target not in self._pending:
                hub.loop.run_callback_threadsafe(self._throw, target)
            self._pending[target] = error
        return 1

    def _exception(self, argument: Any) -> Any:
        if not isinstance(argument, self._null):
            return argument or None
        try:
            return argument.value
        except ValueError:
            return None  # a null pointer

    def _throw(self, target: Any) -> None:
        error = self._pending.pop(target, None)
        if error is not None and not target.dead:
            _throw_later(target, error)


def _greenlet(ident: int) -> Any:
    """The greenlet that a thread is; None for native threads that only the interpreter reaches."""
    hub = get_hub_if_exists()
    if hub is not None and ident == green_thread._native_get_ident():
        main = hub.parent
        # The native thread runs it: the interpreter reaches it.
        return None if getcurrent() is main else main
    for greenlet in list(green_thread._running):
        if id(greenlet) == ident:
            return greenlet
    return None


def patch_async_exceptions(module: ModuleType) -> None:
    """Replace the function.

    module: `ctypes`.
    """
    api = module.pythonapi
    present = getattr(api, _NAME)
    if not isinstance(present, _SetAsyncExc):
        setattr(api, _NAME, _SetAsyncExc(present, module.py_object))

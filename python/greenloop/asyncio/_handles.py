"""What the core asks for about handles: how they look, and what to tell when something is wrong.

None of it is called for a callback that does its work in time.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenloop.asyncio import _private

if TYPE_CHECKING:
    import asyncio

    from greenloop import _core
    from greenloop.asyncio._event_loop import EventLoop

__all__ = ["blocked", "create_task", "describe", "examine", "failed", "slow"]


def describe(handle: _core.Handle) -> str:
    """Return what `repr` says of a handle."""
    earlier: str | None = handle._repr
    if earlier is not None:
        return earlier.replace("Handle ", "Handle cancelled ", 1)
    is_timer = type(handle).__name__ == "TimerHandle"
    parts = [type(handle).__name__]
    if handle._cancelled:
        parts.append("cancelled")
    if is_timer:
        parts.append(f"when={handle.when()}")  # type: ignore[attr-defined]
    if handle._callback is not None:
        parts.append(_private.format_callback_source(handle._callback, handle._args or ()))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        parts.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(parts)}>"


def examine(loop: EventLoop, callback: Callable[..., Any], method: str) -> Any:
    """In debug mode: check a call of one of the loop's methods; return where it was made."""
    if method in ("call_soon", "call_at", "call_later") and not loop._is_local():
        raise RuntimeError(
            "Non-thread-safe operation invoked on an event loop other than the current one"
        )
    if method.startswith("call_"):
        loop._check_callback(callback, "call_at" if method == "call_later" else method)
    # A step of a task has no frame below it that made the call: the loop is not written in Python.
    frame = sys._getframe().f_back
    return None if frame is None else _private.extract_stack(frame)


def failed(handle: _core.Handle, error: BaseException) -> None:
    """Tell the loop's exception handler of what a callback has raised."""
    callback = _private.format_callback_source(handle._callback, handle._args or ())
    context: dict[str, Any] = {
        "message": f"Exception in callback {callback}",
        "exception": error,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(context)


def slow(callback: Any, text: str, seconds: float) -> None:
    """In debug mode: tell of a callback that took long; `text` describes its handle."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, _private.Task):
        text = repr(task)
    _private.logger_home.logger.warning("Executing %s took %.3f seconds", text, seconds)


def blocked(runner: _core.greenlet) -> None:
    """Tell of a callback that waits: of the innermost line that is in a coroutine, if it is one."""
    frame = runner.gr_frame
    found = None
    while frame is not None:
        found = frame
        if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            break
        frame = frame.f_back
    if found is not None:
        code = found.f_code
        _private.logger_home.logger.warning(
            "Blocking call in %s at %s:%d", code.co_qualname, code.co_filename, found.f_lineno
        )


#: Tasks can begin at once from CPython 3.12 on; the standard loop takes `eager_start` from 3.13.3
#: on.
_PASSES_EAGER_START = sys.version_info < (3, 12) or inspect.Parameter.VAR_KEYWORD in {
    parameter.kind
    for parameter in inspect.signature(_private.base_event_loop.create_task).parameters.values()
}


def create_task(loop: EventLoop, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
    """Make a task as the standard loop does: by the task factory, or without its own frames.

    eager_start: as with later releases of CPython, where the running one has tasks that can.
    """
    if "eager_start" in kwargs and not _PASSES_EAGER_START:
        return _create_task_now(loop, *args, **kwargs)
    task: asyncio.Future[Any] = _private.base_event_loop.create_task(loop, *args, **kwargs)
    try:
        return task
    finally:
        # The traceback of a task that has begun here, and failed, leads to this frame.
        del task


def _create_task_now(loop: EventLoop, coro: Any, **kwargs: Any) -> asyncio.Future[Any]:
    loop._check_closed()
    factory: Any = loop.get_task_factory()
    if factory is not None:
        made: asyncio.Future[Any] = factory(loop, coro, **kwargs)
        try:
            return made
        finally:
            del made
    task: asyncio.Task[Any] = _private.Task(coro, loop=loop, **kwargs)
    try:
        if task._source_traceback:  # type: ignore[attr-defined]
            del task._source_traceback[-1]  # type: ignore[attr-defined]
        return task
    finally:
        # As above.
        del task

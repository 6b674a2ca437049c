"""The lifespan of an ASGI application: it is told when its server starts and stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from greenloop.hub import get_hub

__all__ = ["Lifespan", "LifespanError", "finish"]

#: How long what has nothing to do any more may take to end.
_END_SECONDS = 1.0

_log = logging.getLogger("greenloop.asgi")


class LifespanError(Exception):
    """The application cannot be started, or has failed while it was stopped. `__cause__` is its
    exception, if it has raised one."""


class Lifespan:
    """The lifespan of an application.

    application: of ASGI 3. mode: "on", "off", or "auto" for applications that may not know of
    lifespans: those that raise an exception when they are called for one go on without.
    """

    def __init__(self, application: Callable[..., Any], mode: str) -> None:
        self.application = application
        self.mode = mode
        #: What the application leaves for its requests; each has a copy.
        self.state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answer: asyncio.Future[str | None] | None = None
        self._expected = ""
        self._is_supported = False

    async def startup(self) -> None:
        """Tell the application that the server starts. Raises LifespanError if it cannot."""
        if self.mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="lifespan")
        try:
            failure = await self._ask("startup")
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if failure is not None:
            self._is_supported = False
            await self._end()
            raise LifespanError(failure or "the application has failed to start")

    async def shutdown(self) -> None:
        """Tell the application that the server has stopped. Raises LifespanError if it fails."""
        if not self._is_supported or self._task is None:
            return
        failure = await self._ask("shutdown")
        await self._end()
        if failure is not None:
            raise LifespanError(failure or "the application has failed to stop")

    async def _ask(self, what: str) -> str | None:
        """Send an event, and wait for the answer: None if it is complete, or what has failed."""
        assert self._task is not None
        if self._task.done():
            return self._ended(what)
        self._expected = what
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{what}"})
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        self._answer = None
        if answer.done():
            self._is_supported = True
            failure: str | None = answer.result()
            return failure
        return self._ended(what)

    def _ended(self, what: str) -> str | None:
        """The application has returned, or raised something, in place of an answer."""
        assert self._task is not None
        error = None if self._task.cancelled() else self._task.exception()
        if what == "shutdown" and error is None:
            return None
        if error is None or (what == "startup" and self.mode == "auto"):
            if error is not None:
                _log.debug("the application does without a lifespan: %r", error)
            # It does not know of lifespans, or has no use for them.
            return None if self.mode == "auto" else "the application has no lifespan"
        raise LifespanError(
            f"the application has failed in its lifespan: {type(error).__name__}: {error}"
        ) from error

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self.application(scope, self._events.get, self._send)
        except Exception as error:
            if self._is_supported and self._expected == "startup":
                # The server is told when it stops; whoever runs it wants to know now.
                get_hub().handle_error("the lifespan", type(error), error, error.__traceback__)
            raise

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        answer = self._answer
        if kind not in (
            f"lifespan.{self._expected}.complete",
            f"lifespan.{self._expected}.failed",
        ):
            raise RuntimeError(f"{kind!r} is no answer to 'lifespan.{self._expected}'")
        if answer is None or answer.done():
            raise RuntimeError(f"{kind!r} was sent a second time")
        answer.set_result(None if kind.endswith("complete") else message.get("message", ""))

    async def _end(self) -> None:
        """Have the task end, which has nothing to do any more."""
        assert self._task is not None
        if not self._task.done():
            # After its last answer an application returns.
            await asyncio.wait({self._task}, timeout=_END_SECONDS)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        if not self._task.cancelled():
            # Asked for, so that nobody complains that it was not.
            error = self._task.exception()
            if error is not None:
                _log.debug("the lifespan has ended with an error", exc_info=error)


async def finish(tasks: set[asyncio.Task[Any]], timeout: float) -> None:
    """Wait for tasks, so many seconds at most; cancel those that are left then."""
    _, late = await asyncio.wait(tasks, timeout=timeout)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=_END_SECONDS)


async def clear() -> None:
    """Cancel all that runs on the loop, and have its asynchronous generators end."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_END_SECONDS)
    await loop.shutdown_asyncgens()

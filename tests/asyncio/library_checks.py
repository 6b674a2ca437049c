"""What holds for every library on the loop, whoever holds its operations: see `check`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import greenloop

#: How many operations are under way at once.
SIZE = 20


class Gate(Protocol):
    """Holds operations at the server."""

    async def held(self) -> int:
        """How many are held."""

    async def open(self) -> None:
        """Let them go on, and those that come later."""


class LocalGate:
    """A gate of a server in this loop."""

    def __init__(self) -> None:
        self.count = 0
        self.event = asyncio.Event()

    async def hold(self) -> None:
        self.count += 1
        try:
            await self.event.wait()
        finally:
            self.count -= 1

    async def held(self) -> int:
        return self.count

    async def open(self) -> None:
        self.event.set()


async def until(gate: Gate, count: int) -> None:
    while await gate.held() != count:
        await asyncio.sleep(0.001)


async def greenlets_go_on() -> None:
    """Wait until a greenlet beside the loop has gone on for a while."""

    def work() -> int:
        for _ in range(5):
            greenloop.sleep(0.001)
        return 5

    assert await greenloop.spawn(work) == 5


async def check(call: Callable[[int], Awaitable[int]], gate: Gate, size: int = SIZE) -> None:
    """Operations overlap with each other and with greenlets; timeouts end those they are for.

    call: an operation that the server holds at the gate, and that has what it was called with for
        its result.
    """
    limits: dict[int, asyncio.Timeout] = {}

    async def limited(number: int) -> int:
        async with asyncio.timeout(None) as limits[number]:
            return await call(number)

    calls = [asyncio.create_task(limited(number)) for number in range(size)]
    # If they came one after the other nobody would be let on.
    await until(gate, size)
    await greenlets_go_on()
    for number in range(0, size, 2):
        limits[number].reschedule(0)
    found = await asyncio.gather(*calls[::2], return_exceptions=True)
    assert [type(error) for error in found] == [TimeoutError] * len(found)
    await gate.open()
    assert await asyncio.gather(*calls[1::2]) == list(range(1, size, 2))
    # Nothing was lost with those that were given up.
    assert await asyncio.gather(*[call(number) for number in range(size)]) == list(range(size))

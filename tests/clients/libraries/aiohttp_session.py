"""aiohttp: every call is an event loop of its own, in its greenlet."""

from __future__ import annotations

import asyncio

import aiohttp
from support import HOST, Gate, answer_to
from support import Library as Base


class Library(Base):
    lost = (aiohttp.ClientError,)

    async def fetch(self, gate: Gate, number: int) -> str:
        tls = self.where.tls()
        url = f"{'https' if tls else 'http'}://{HOST}:{self.where.port}/{gate.key}/{number}"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=tls or True) as answer:
            return await answer.text()

    def call(self, gate: Gate, number: int) -> None:
        assert asyncio.run(self.fetch(gate, number)) == answer_to(number)

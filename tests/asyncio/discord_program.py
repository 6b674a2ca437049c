"""A bot on discord.py, and a service for it to talk to: the parts of Discord's that it needs.

As a script it runs patched.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import Any

if __name__ == "__main__":
    from greenloop import monkey

    monkey.patch_all()

import discord
import yarl
from aiohttp import web

import greenloop
import greenloop.asyncio
from greenloop.asyncio import to_async, wait

HOST = "127.0.0.1"
MESSAGES = 20
BOT = {"id": "1", "username": "bot", "discriminator": "0", "avatar": None, "bot": True}
HUMAN = {"id": "2", "username": "human", "discriminator": "0", "avatar": None}


def as_json(data: Any) -> web.Response:
    # The library looks for exactly this.
    return web.Response(body=json.dumps(data).encode(), content_type="application/json")


class Service:
    """Greets bots, sends them messages, has each come back once, and takes what they answer."""

    def __init__(self) -> None:
        self.url = ""
        self.begun: list[str] = []
        self.heartbeats = 0
        self.answers: list[str] = []
        self.numbers = 0

    async def user(self, request: web.Request) -> web.Response:
        return as_json(BOT)

    async def application(self, request: web.Request) -> web.Response:
        about: dict[str, Any] = {"id": "1", "name": "bot", "description": "", "owner": HUMAN}
        about |= {"icon": None, "team": None, "bot_public": True, "bot_require_code_grant": False}
        return as_json({**about, "verify_key": "", "rpc_origins": [], "summary": ""})

    async def post(self, request: web.Request) -> web.Response:
        content = (await request.json())["content"]
        self.answers.append(content)
        return as_json(self.message(content, BOT))

    async def open_channel(self, request: web.Request) -> web.Response:
        return as_json({"id": "3", "type": 1, "recipients": [HUMAN]})

    def message(self, content: str, author: dict[str, Any]) -> dict[str, Any]:
        self.numbers += 1
        empty: dict[str, Any] = {"mentions": [], "mention_roles": [], "attachments": []}
        about = {"tts": False, "mention_everyone": False, "pinned": False, "type": 0, "embeds": []}
        time = {"timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None}
        who = {"id": str(100 + self.numbers), "channel_id": "3", "author": author}
        return {**who, **empty, **about, **time, "content": content}

    async def gateway(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_json({"op": 10, "d": {"heartbeat_interval": 10}, "s": None, "t": None})
        async for message in websocket:
            told = json.loads(message.data)
            if told["op"] == 1:
                self.heartbeats += 1
                await websocket.send_json({"op": 11, "d": None, "s": None, "t": None})
            elif told["op"] == 2:
                self.begun.append("identify")
                url = f"ws://{request.host}/gateway"
                ready = {"v": 10, "user": BOT, "guilds": [], "session_id": "session"}
                ready |= {"resume_gateway_url": url, "application": {"id": "1", "flags": 0}}
                await self.dispatch(websocket, 1, "READY", ready)
                for number in range(MESSAGES // 2):
                    await self.send(websocket, number)
                # "Come back and resume."
                await websocket.send_json({"op": 7, "d": None, "s": None, "t": None})
            elif told["op"] == 6:
                self.begun.append(f"resume after {told['d']['seq']}")
                await self.dispatch(websocket, 100, "RESUMED", {})
                for number in range(MESSAGES // 2, MESSAGES):
                    await self.send(websocket, number)
        return websocket

    async def send(self, websocket: web.WebSocketResponse, number: int) -> None:
        content = self.message(f"work {number}", HUMAN)
        await self.dispatch(websocket, number + 2, "MESSAGE_CREATE", content)

    async def dispatch(
        self, websocket: web.WebSocketResponse, sequence: int, name: str, data: Any
    ) -> None:
        await websocket.send_json({"op": 0, "s": sequence, "t": name, "d": data})

    @asynccontextmanager
    async def serving(self) -> Any:
        app = web.Application()
        app.router.add_get("/api/users/@me", self.user)
        app.router.add_get("/api/oauth2/applications/@me", self.application)
        app.router.add_post("/api/users/@me/channels", self.open_channel)
        app.router.add_post("/api/channels/3/messages", self.post)
        app.router.add_get("/gateway", self.gateway)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        port = runner.addresses[0][1]
        try:
            yield port
        finally:
            await runner.cleanup()


class Bot(discord.Client):
    """Answers by work that blocks: in a greenlet, in a coroutine, and in code called by one."""

    def __init__(self) -> None:
        super().__init__(intents=discord.Intents.all(), guild_ready_timeout=0.01)
        self.left = MESSAGES
        self.over = asyncio.Event()

    async def on_message(self, message: discord.Message) -> None:
        if message.author.bot:
            return
        number = int(message.content.split()[1])
        way = (self.in_greenlet, self.in_coroutine, self.in_sync_code)[number % 3]
        await way(message, number)
        self.left -= 1
        if not self.left:
            self.over.set()

    async def in_greenlet(self, message: discord.Message, number: int) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            greenloop.sleep(0.002)
            wait(message.channel.send(f"done {number}"), loop=loop)

        await to_async(work)()

    async def in_coroutine(self, message: discord.Message, number: int) -> None:
        greenloop.sleep(0.002)
        await message.channel.send(f"done {number}")

    async def in_sync_code(self, message: discord.Message, number: int) -> None:
        def work() -> None:
            greenloop.sleep(0.002)
            wait(message.channel.send(f"done {number}"))

        work()


async def main() -> None:
    service = Service()
    async with service.serving() as port:
        discord.http.Route.BASE = f"http://{HOST}:{port}/api"
        discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(f"ws://{HOST}:{port}/gateway")
        async with Bot() as bot:
            running = asyncio.create_task(bot.start("token"))
            while not (bot.over.is_set() and service.heartbeats >= 3):
                assert not running.done(), running
                await asyncio.sleep(0.001)
            await bot.close()
            await running
    assert sorted(service.answers) == sorted(f"done {number}" for number in range(MESSAGES))
    assert service.begun[0] == "identify"
    assert service.begun[1].startswith("resume after")


def run() -> None:
    greenloop.asyncio.run(main())


if __name__ == "__main__":
    run()
    print("done")
    sys.exit()

"""The ASGI site on Starlette. See test_asgi_frameworks.py for what its pages are for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket


class Barrier:
    """Lets tasks go on when there are a hundred of them."""

    def __init__(self) -> None:
        self.count = 0
        self.full = asyncio.Event()

    async def wait(self) -> None:
        self.count += 1
        if self.count == 100:
            self.full.set()
        await self.full.wait()


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"barrier": Barrier()}
    Path("stopped").touch()


async def hello(request: Request) -> Response:
    how = request.query_params.get("how", "quietly")
    return PlainTextResponse(f"hello {request.path_params['name']}, {how}")


async def upload(request: Request) -> Response:
    form = await request.form()
    file: Any = form["file"]
    digest = hashlib.sha256(await file.read()).hexdigest()
    return JSONResponse({"name": file.filename, "digest": digest})


async def download(request: Request) -> Response:
    return FileResponse(Path("data.bin").absolute(), filename="data.bin")


async def stream(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        yield "first\n"
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        yield "second\n"

    return StreamingResponse(lines(), media_type="text/plain")


async def endless(request: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            Path("ended").touch()

    return StreamingResponse(lines())


async def together(request: Request) -> Response:
    await request.state.barrier.wait()
    return PlainTextResponse("together")


def blocking(request: Request) -> Response:
    # In a thread, of anyio's.
    time.sleep(0.01)
    return PlainTextResponse("blocked")


async def blocking_here(request: Request) -> Response:
    while not Path("go").exists():
        time.sleep(0.01)
    return PlainTextResponse("blocked")


async def background(request: Request) -> Response:
    async def later() -> None:
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        Path("background").touch()

    return PlainTextResponse("begun", background=BackgroundTask(later))


async def gone(request: Request) -> Response:
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    Path("gone").touch()
    return PlainTextResponse("nobody hears this")


async def fail(request: Request) -> Response:
    raise LookupError("of a test")


async def chat(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=websocket.scope["subprotocols"][0])
    async for text in websocket.iter_text():
        await websocket.send_json({"said": text})


class Header(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Site"] = "starlette"
        return response


pages = [
    Route("/hello/{name}", hello),
    Route("/upload", upload, methods=["POST"]),
    Route("/download", download),
    Route("/stream", stream),
    Route("/endless", endless),
    Route("/together", together),
    Route("/blocking", blocking),
    Route("/blocking-here", blocking_here),
    Route("/background", background),
    Route("/gone", gone),
    Route("/fail", fail),
    WebSocketRoute("/chat", chat),
]
marked = Starlette(routes=pages, middleware=[Middleware(Header)])
app = Starlette(routes=[Mount("/marked", marked), *pages], lifespan=lifespan)

"""An ASGI application for uvicorn: `asgi_site.py FD` runs it on a socket, patched."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

if __name__ == "__main__":
    from greenloop import monkey

    monkey.patch_all()

import threading
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import greenloop

held = 0
gate = asyncio.Event()
thread_gate = threading.Event()
ticks = 0


def count() -> None:
    """A greenlet beside the server."""
    global ticks
    while True:
        greenloop.sleep(0.001)
        ticks += 1


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    counter = greenloop.spawn(count)
    yield
    counter.kill()


async def hold(request: Request) -> JSONResponse:
    global held
    held += 1
    await gate.wait()
    return JSONResponse(request.path_params["number"])


def hold_thread(request: Request) -> JSONResponse:
    """Run by a thread of Starlette's."""
    global held
    held += 1
    thread_gate.wait()
    return JSONResponse(request.path_params["number"])


async def block(request: Request) -> JSONResponse:
    """Blocking calls in a coroutine."""
    for _ in range(5):
        (time.sleep if __name__ == "__main__" else greenloop.sleep)(0.002)
        await asyncio.sleep(0)
    return JSONResponse(request.path_params["number"])


async def state(request: Request) -> JSONResponse:
    loop = type(asyncio.get_running_loop())
    return JSONResponse(
        {"held": held, "ticks": ticks, "loop": f"{loop.__module__}.{loop.__qualname__}"}
    )


async def open_gate(request: Request) -> JSONResponse:
    gate.set()
    thread_gate.set()
    return JSONResponse(None)


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%d " % number * 1000
            await asyncio.sleep(0)

    return StreamingResponse(parts())


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def form(request: Request) -> JSONResponse:
    body: Any = await request.json()
    return JSONResponse(len(body["text"]))


app = Starlette(
    routes=[
        Route("/hold/{number:int}", hold),
        Route("/hold_thread/{number:int}", hold_thread),
        Route("/block/{number:int}", block),
        Route("/state", state),
        Route("/open", open_gate),
        Route("/stream", stream),
        Route("/form", form, methods=["POST"]),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        app, fd=int(sys.argv[1]), loop="greenloop.asyncio:new_event_loop", log_level="warning"
    )

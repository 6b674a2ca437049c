"""A FastAPI application for uvicorn: `fastapi_site.py FD` runs it on a socket, by the policy."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import anyio
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import greenloop
from greenloop.asyncio import to_async

held = 0
gate = asyncio.Event()
thread_gate = threading.Event()
#: What dependencies have opened and closed, and what was done in the background.
opened: list[str] = []
path_of_request: ContextVar[str] = ContextVar("path_of_request")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with anyio.create_task_group() as group:
        yield {"group": group}
        group.cancel_scope.cancel()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def middleware(request: Request, call_next: Any) -> Any:
    path_of_request.set(request.url.path)
    response = await call_next(request)
    response.headers["x-path"] = path_of_request.get()
    return response


async def resource() -> AsyncIterator[str]:
    opened.append("resource")
    try:
        yield "resource"
    finally:
        await asyncio.sleep(0)
        opened.remove("resource")


def resource_of_thread(name: Annotated[str, Depends(resource)]) -> Iterator[str]:
    """Run in a thread."""
    opened.append("in thread")
    time.sleep(0.001)
    yield f"{name} of {threading.current_thread() is threading.main_thread()}"
    opened.remove("in thread")


class Item(BaseModel):
    number: int
    text: str


@app.get("/hold/{number}")
async def hold(number: int, name: Annotated[str, Depends(resource)]) -> int:
    global held
    held += 1
    await gate.wait()
    return number


@app.get("/hold_thread/{number}")
def hold_thread(number: int, name: Annotated[str, Depends(resource_of_thread)]) -> int:
    assert name == "resource of False"
    thread_gate.wait()
    return number


@app.get("/block/{number}")
async def block(number: int) -> int:
    """Blocking calls: in the coroutine, and in a greenlet."""
    greenloop.sleep(0.002)

    def work() -> int:
        greenloop.sleep(0.002)
        assert path_of_request.get() == f"/block/{number}"
        return number

    return await to_async(work)()


@app.post("/items")
async def add(item: Item, background: BackgroundTasks) -> Item:
    if item.number < 0:
        raise HTTPException(422, "negative")
    opened.append("background")
    background.add_task(opened.remove, "background")
    return Item(number=item.number + 1, text=item.text.upper())


@app.get("/state")
async def state() -> dict[str, Any]:
    loop = type(asyncio.get_running_loop())
    return {
        "held": held,
        "opened": opened,
        "loop": f"{loop.__module__}.{loop.__qualname__}",
    }


@app.get("/open")
async def open_gate() -> None:
    gate.set()
    thread_gate.set()


@app.get("/stream")
async def stream() -> StreamingResponse:
    def parts() -> Iterator[bytes]:
        for number in range(50):
            yield b"%d " % number * 1000

    return StreamingResponse(parts())


@app.get("/fail")
async def fail() -> None:
    raise HTTPException(418)


@app.websocket("/double")
async def double(websocket: WebSocket) -> None:
    await websocket.accept()
    async for item in websocket.iter_json():
        await websocket.send_json(item * 2)


if __name__ == "__main__":
    import uvicorn

    import greenloop.asyncio

    greenloop.asyncio.install()
    uvicorn.run(app, fd=int(sys.argv[1]), loop="none", log_level="warning")

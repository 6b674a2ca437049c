"""An API on FastAPI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from pydantic import BaseModel

notes: list[str] = []
log: list[str] = []


class Note(BaseModel):
    text: str
    stars: int = 0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    notes.append("started")
    yield


app = FastAPI(lifespan=lifespan)


async def session() -> AsyncIterator[list[str]]:
    await asyncio.sleep(0)
    yield notes
    log.append("closed")


Session = Annotated[list[str], Depends(session)]


@app.get("/notes")
async def list_notes(kept: Session) -> list[str]:
    return kept


@app.post("/notes", status_code=201)
async def add_note(note: Note, kept: Session, background: BackgroundTasks) -> dict[str, Any]:
    kept.append(note.text)
    background.add_task(log.append, f"noted {note.text}")
    return {"index": len(kept) - 1, **note.model_dump()}


@app.get("/notes/{index}")
def read_note(index: int) -> str:
    # In a thread.
    time.sleep(0.001)
    if index >= len(notes):
        raise HTTPException(404, "no such note")
    return notes[index]


@app.get("/log")
async def read_log() -> list[str]:
    return log


@app.websocket("/talk")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text((await websocket.receive_text()).upper())

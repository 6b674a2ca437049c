"""The site on Bottle. See test_frameworks.py for what its pages are for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
from bottle import Bottle, request, response, static_file

app = Bottle()
everybody = threading.Barrier(100)
SECRET = "of a test"


@app.get("/hello/<name>")
def hello(name: str) -> str:
    return f"hello {name}, {request.query.getunicode('how', 'quietly')}"


@app.get("/count")
def count() -> str:
    number = (request.get_cookie("count", secret=SECRET) or 0) + 1
    response.set_cookie("count", number, secret=SECRET, path="/")
    return str(number)


@app.post("/form")
def form() -> str:
    return f"{request.forms.getunicode('name')} is {request.forms['age']}"


@app.post("/upload")
def upload() -> str:
    file = request.files["file"]
    return f"{file.filename} {hashlib.sha256(file.file.read()).hexdigest()}"


@app.get("/download")
def download() -> Any:
    return static_file("data.bin", root=".", download="data.bin")


@app.get("/stream")
def stream() -> Iterator[str]:
    response.content_type = "text/plain"
    yield "first\n"
    while not Path("go").exists():
        time.sleep(0.01)
    yield "second\n"


@app.get("/endless")
def endless() -> Iterator[str]:
    response.content_type = "text/plain"
    try:
        while True:
            yield "tick\n"
            time.sleep(0.001)
    finally:
        Path("gone").touch()


@app.get("/together")
def together() -> str:
    everybody.wait()
    return "together"


@app.get("/limited")
def limited() -> str:
    try:
        with gevent.Timeout(0.01):
            time.sleep(60)
    except gevent.Timeout:
        response.status = 504
        return "too late"
    return "in time"


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("as it should")


@app.error(404)
def missing(_: Any) -> str:
    return "there is no such page"


@app.error(500)
def failed(_: Any) -> str:
    return "the page has failed"

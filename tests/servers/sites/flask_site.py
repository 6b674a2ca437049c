"""The site on Flask. See test_frameworks.py for what its pages are for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
from flask import Flask, Response, request, send_file, session

app = Flask(__name__)
app.secret_key = "of a test"
everybody = threading.Barrier(100)


@app.get("/hello/<name>")
def hello(name: str) -> str:
    return f"hello {name}, {request.args.get('how', 'quietly')}"


@app.get("/count")
def count() -> str:
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@app.post("/form")
def form() -> str:
    return f"{request.form['name']} is {request.form['age']}"


@app.post("/upload")
def upload() -> str:
    file = request.files["file"]
    return f"{file.filename} {hashlib.sha256(file.read()).hexdigest()}"


@app.get("/download")
def download() -> Response:
    return send_file(Path("data.bin").absolute(), as_attachment=True, download_name="data.bin")


@app.get("/stream")
def stream() -> Response:
    def lines() -> Iterator[str]:
        yield "first\n"
        while not Path("go").exists():
            time.sleep(0.01)
        yield "second\n"

    return Response(lines(), mimetype="text/plain")


@app.get("/endless")
def endless() -> Response:
    def lines() -> Iterator[str]:
        try:
            while True:
                yield "tick\n"
                time.sleep(0.001)
        finally:
            Path("gone").touch()

    return Response(lines(), mimetype="text/plain")


@app.get("/together")
def together() -> str:
    everybody.wait()
    return "together"


@app.get("/limited")
def limited() -> tuple[str, int]:
    try:
        with gevent.Timeout(0.01):
            time.sleep(60)
    except gevent.Timeout:
        return "too late", 504
    return "in time", 200


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("as it should")


@app.errorhandler(404)
def missing(_: Any) -> tuple[str, int]:
    return "there is no such page", 404


@app.errorhandler(500)
def failed(_: Any) -> tuple[str, int]:
    return "the page has failed", 500

"""The applications that HTTP servers are measured with: ordinary ones, of blocking calls."""

from __future__ import annotations

import functools
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import FileWrapper

HELLO = b"Hello, World!\n"
FILE_SIZE = 1 << 20
BLOCK = 64 * 1024
SLEEP_SECONDS = 0.01

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with the body of the request."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(
        "200 OK",
        [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))],
    )
    return [body]


@functools.cache
def _stored() -> Any:
    """A file that is deleted with the process; its pages stay in the system's cache."""
    stored = tempfile.NamedTemporaryFile()  # noqa: SIM115 (it stays open)
    stored.write(os.urandom(FILE_SIZE))
    stored.flush()
    return stored


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with a file of 1 MiB: by the server's wrapper, if it has one."""
    content = open(_stored().name, "rb")  # noqa: SIM115 (the server closes it)
    start_response(
        "200 OK",
        [("Content-Type", "application/octet-stream"), ("Content-Length", str(FILE_SIZE))],
    )
    wrapper = environ.get("wsgi.file_wrapper", FileWrapper)
    wrapped: Iterable[bytes] = wrapper(content, BLOCK)
    return wrapped


def sleep(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Sleeps before it answers, but not for /hello."""
    if environ["PATH_INFO"] != "/hello":
        time.sleep(SLEEP_SECONDS)
    return hello(environ, start_response)


def path(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with the path it was asked for."""
    body = environ["PATH_INFO"].encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def flask_hello() -> Any:
    """A Flask application."""
    flask = importlib.import_module("flask")
    application = flask.Flask("hello")

    def view() -> Any:
        return flask.Response(HELLO, mimetype="text/plain")

    application.add_url_rule("/", view_func=view)
    application.add_url_rule("/hello", "hello", view)
    return application


def __getattr__(name: str) -> Any:
    # Made only in the servers that serve it: most do not need Flask.
    if name == "flask":
        return flask_hello()
    raise AttributeError(name)

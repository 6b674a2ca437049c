"""HTTP servers that are measured: `wsgi_server.py SERVER APPLICATION`.

APPLICATION is one of wsgi_application.py, or of asgi_application.py if it begins with "asgi". A
server has one process for requests, and is set up as its documentation asks for speed; logs of
requests are off.

Writes the server's port and process number as a line of JSON when it answers, and kills it, with
all processes that it has started, when the standard input closes. With `--port PORT` this process
becomes the server.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benches.harness import raise_descriptor_limit

APPLICATIONS = "benches.companions.{}_application"
#: Connections that are accepted at a time, where a server wants to know.
CONNECTIONS = 20_000
#: Seconds that an idle connection is kept, where the default is less.
KEEP_ALIVE = 300
#: Threads for applications that block, where a server has threads for them.
THREADS = 64
#: Seconds that a server has to start in: a guard.
START_SECONDS = 60.0
REQUEST = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def interface_of(application: str) -> str:
    return "asgi" if application.startswith("asgi") else "wsgi"


def name_of(application: str) -> str:
    """The application as servers are told: its module and its name there."""
    return f"{APPLICATIONS.format(interface_of(application))}:{application}"


def gunicorn(application: str, port: int) -> list[str]:
    # No thread of its own is asked for by one worker; keep-alive is 2 s by default.
    return [
        *("gunicorn", "-k", "gevent", "-w", "1", "-b", f"127.0.0.1:{port}"),
        *("--worker-connections", str(CONNECTIONS), "--backlog", "8192"),
        *("--keep-alive", str(KEEP_ALIVE), "--log-level", "warning"),
        name_of(application),
    ]


def granian(application: str, port: int) -> list[str]:
    # One thread for Python is fastest, unless the application waits.
    threads = THREADS if application == "sleep" else 1
    # "nl" is without a lifespan, which the application has none of.
    interface = "asginl" if interface_of(application) == "asgi" else "wsgi"
    return [
        *("granian", "--interface", interface, "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--runtime-threads", "1", "--blocking-threads", str(threads)),
        *("--backlog", "8192", "--http", "1", "--no-ws", "--log-level", "warning"),
        name_of(application),
    ]


def uvicorn(application: str, port: int) -> list[str]:
    return [
        *("uvicorn", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--loop", "uvloop", "--http", "httptools", "--interface", "asgi3", "--ws", "none"),
        *("--lifespan", "off", "--backlog", "8192", "--timeout-keep-alive", str(KEEP_ALIVE)),
        *("--no-access-log", "--log-level", "warning"),
        name_of(application),
    ]


def greenloop_serve(application: str, port: int) -> list[str]:
    return [
        *("greenloop", "serve", "--bind", f"127.0.0.1:{port}", "--workers", "1"),
        *("--keep-alive-timeout", str(KEEP_ALIVE)),
        name_of(application),
    ]


COMMANDS: dict[str, Callable[[str, int], list[str]]] = {
    "gunicorn": gunicorn,
    "granian": granian,
    "uvicorn": uvicorn,
    "greenloop_serve": greenloop_serve,
}


def load(application: str) -> Any:
    module, _, name = name_of(application).partition(":")
    return getattr(importlib.import_module(module), name)


def bjoern(application: str, port: int) -> None:
    importlib.import_module("bjoern").run(load(application), "127.0.0.1", port, listen_backlog=8192)


def pywsgi(name: str, application: str, port: int) -> None:
    """The server of greenloop or gevent, in a program that is patched."""
    importlib.import_module(f"{name}.monkey").patch_all()
    if interface_of(application) == "asgi":
        server = importlib.import_module(f"{name}.asgi").ASGIServer
    else:
        server = importlib.import_module(f"{name}.pywsgi").WSGIServer
    address = ("127.0.0.1", port)
    server(address, load(application), backlog=8192, log=None, error_log=None).serve_forever()


def become(server: str, application: str, port: int) -> None:
    """Be the server, until the process is killed."""
    raise_descriptor_limit(CONNECTIONS)
    if server in COMMANDS:
        command = COMMANDS[server](application, port)
        os.execv(sys.executable, [sys.executable, "-m", *command])
    if server == "bjoern":
        bjoern(application, port)
    else:
        pywsgi(server, application, port)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait for the answer to a request: some listen before they are ready."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(START_SECONDS)
            client.sendall(REQUEST)
            if client.recv(1):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit("the server does not start")
        time.sleep(0.02)


def start(server: str, application: str) -> None:
    """Start the server, and kill it when the standard input closes, or this process is to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    port = free_port()
    command = [sys.executable, "-m", "benches.companions.wsgi_server"]
    command += [server, application, "--port", str(port)]
    # A session of its own: what it starts is killed with it.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until_it_answers(process, port)
        print(json.dumps({"port": port, "pid": process.pid}), flush=True)
        sys.stdin.read()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["greenloop", "gevent", "bjoern", *COMMANDS])
    parser.add_argument("application")
    parser.add_argument("--port", type=int)
    parser.add_argument("--cpu", type=int, help="the CPU to run on")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    if options.port is None:
        start(options.server, options.application)
    else:
        become(options.server, options.application, options.port)


if __name__ == "__main__":
    main()

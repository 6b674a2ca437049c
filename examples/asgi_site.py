"""A site of two applications in one process: pages by WSGI, an API and a clock by ASGI.

    cd examples && greenloop serve asgi_site:pages --mount /api=asgi_site:api

serves it on http://127.0.0.1:8000. Run as a program it serves itself on a port that the system
chooses, and asks for a few things. The server is greenloop's own and not to be had from gevent.

    python -m greenloop examples/asgi_site.py
"""

from gevent import monkey

monkey.patch_all()

import asyncio
import json
import time
from urllib.request import urlopen

import gevent

#: Filled by the API, shown by the pages: both are in one process, and in one thread.
notes = []


def pages(environ, start_response):
    """WSGI: a greenlet for each request, in which blocking calls wait."""
    time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return ["".join(f"{note}\n" for note in notes).encode()]


async def api(scope, receive, send):
    """ASGI: a task for each request. A blocking call makes only that task wait."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"].removeprefix(scope["root_path"])
    if path == "/sleep":
        await asyncio.sleep(0.05)
    elif path == "/block":
        time.sleep(0.05)
    notes.append(path)
    body = json.dumps({"path": path, "notes": len(notes)}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main():
    from greenloop.asgi import ASGIServer

    with ASGIServer(("127.0.0.1", 0), pages, mounts={"/api": api}, log=None) as server:
        server.start()
        site = f"http://127.0.0.1:{server.server_port}"
        print(urlopen(f"{site}/api/now").read().decode())
        paths = ["/api/sleep", "/api/block"] * 10 + ["/"] * 10
        begin = time.perf_counter()
        gevent.joinall([gevent.spawn(lambda url: urlopen(url).read(), site + p) for p in paths])
        seconds = time.perf_counter() - begin
        print(f"{len(paths)} requests of 50 ms each, at once: {'yes' if seconds < 1 else seconds}")
        print(len(urlopen(site).read().splitlines()), "notes")


if __name__ == "__main__":
    main()

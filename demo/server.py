"""The servers of the demo: HTTP and HTTPS on loopback, answering every request after a delay.

Writes one line of JSON, the two ports and the path of the certificate authority's certificate,
and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path

import trustme
from fetching import HOST, page

# A client opens as many connections at once as its pool has room for; the default of 100
# would leave some to be repeated after a second.
BACKLOG = 2048


class DelayedPages(asyncio.Protocol):
    """Answers one GET request with its page after a delay, and closes the connection."""

    def __init__(self, delay: float) -> None:
        self._delay = delay  # seconds
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            path = self._received.split(b" ", 2)[1].decode("ascii")
            asyncio.get_running_loop().call_later(self._delay, self._answer, path)

    def _answer(self, path: str) -> None:
        body = page(path)
        head = (
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + body)
        self._transport.close()


async def serve(delay: float, directory: Path) -> None:
    """Run both servers, leaving the certificate authority's certificate in *directory*."""
    authority = trustme.CA()
    authority_file = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(authority_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)

    loop = asyncio.get_running_loop()
    ports = {}
    for scheme, tls in (("http", None), ("https", context)):
        server = await loop.create_server(
            lambda: DelayedPages(delay), HOST, 0, ssl=tls, backlog=BACKLOG
        )
        ports[scheme] = server.sockets[0].getsockname()[1]
    print(json.dumps({"ports": ports, "authority": str(authority_file)}), flush=True)

    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)  # readable at its end: nothing is written to it
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), Path(sys.argv[2])))

"""A small web site on loopback, in a process of its own, for the examples to fetch from.

/page/N answers after 50 ms with an HTML page that links to /page/2N and /page/2N+1, as far as
the site has that many pages; other addresses answer 404 at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
DELAY = 0.05  # seconds


def page(number: int, pages: int) -> str | None:
    """The HTML of one page of a site of *pages*, or None if it has no such page."""
    if not 1 <= number <= pages:
        return None
    linked = [other for other in (2 * number, 2 * number + 1) if other <= pages]
    links = "".join(f'<a href="/page/{other}">page {other}</a>\n' for other in linked)
    return f"<title>page {number}</title>\n{links}"


@contextmanager
def site(pages: int = 100) -> Iterator[str]:
    """Run a site of *pages* and give the URL of its root."""
    command = [sys.executable, __file__, str(pages)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections come in bursts here; the default is 5


class Handler(BaseHTTPRequestHandler):
    pages = 0

    def do_GET(self) -> None:
        name, _, number = self.path.removeprefix("/").partition("/")
        known = name == "page" and number.isdecimal()
        text = page(int(number), self.pages) if known else None
        if text is None:
            self.send_error(404)
            return
        time.sleep(DELAY)
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the output is the example's."""


def main() -> None:
    Handler.pages = int(sys.argv[1])
    with Server((HOST, 0), Handler) as server:
        print(f"http://{HOST}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()

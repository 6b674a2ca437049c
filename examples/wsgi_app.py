"""A WSGI application that waits: ordinary code that blocks, and others are served meanwhile.

    cd examples && greenloop serve wsgi_app:app

serves it on http://127.0.0.1:8000; `greenloop serve --help` tells what else can be said. So does

    cd examples && gunicorn -k greenloop.integrations.gunicorn.Worker wsgi_app:app

where gunicorn is what a deployment is written for. Run as a program it serves itself on a port that
the system chooses, and asks for twenty pages at once.

    python -m greenloop examples/wsgi_app.py [SECONDS]

SECONDS is what a page takes, 0.1 if nothing is said.
"""

from gevent import monkey

monkey.patch_all()

import sys
import time
import urllib.request

import gevent
from gevent.pywsgi import WSGIServer

SECONDS = float(sys.argv[1]) if __name__ == "__main__" and sys.argv[1:] else 0.1


def app(environ, start_response):
    time.sleep(SECONDS)  # a query, say, or a request to somebody else
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"this is {environ['PATH_INFO']}\n".encode()]


def main():
    with WSGIServer(("127.0.0.1", 0), app, log=None) as server:
        server.start()
        base = f"http://127.0.0.1:{server.server_port}"

        def fetch(number):
            with urllib.request.urlopen(f"{base}/page/{number}") as response:
                return response.read().decode()

        begin = time.perf_counter()
        pages = [gevent.spawn(fetch, number) for number in range(20)]
        gevent.joinall(pages, raise_error=True)
        seconds = time.perf_counter() - begin
    print(pages[-1].value, end="")
    print(f"{len(pages)} pages in {seconds:.2f} s; one takes {SECONDS:g} s")


if __name__ == "__main__":
    main()

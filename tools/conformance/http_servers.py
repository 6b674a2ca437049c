"""Starts a server of `make conformance-http` that has no command of its own.

python http_servers.py {greenloop,gevent} {wsgi,asgi} PORT
"""

from __future__ import annotations

import importlib
import sys

from http_application import application, asgi_application

if __name__ == "__main__":
    package, interface, port = sys.argv[1:]
    listener = ("127.0.0.1", int(port))
    if interface == "asgi":
        asgi = importlib.import_module(f"{package}.asgi")
        server = asgi.ASGIServer(
            listener, asgi_application, lifespan="off", log=None, error_log=None
        )
    else:
        pywsgi = importlib.import_module(f"{package}.pywsgi")
        server = pywsgi.WSGIServer(listener, application, log=None, error_log=None)
    server.serve_forever()

"""Programs of the standard library and of others, patched."""

from __future__ import annotations

import importlib.util

import pytest

SERVER_AND_CLIENTS = """
    from gevent import monkey
    monkey.patch_all()

    import http.client
    import socket
    import ssl
    import urllib.request
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    import threading
    import time

    import gevent

    assert socket.socket is gevent.socket.socket

    at_once = {"now": 0, "most": 0}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            at_once["now"] += 1
            at_once["most"] = max(at_once["most"], at_once["now"])
            time.sleep(0.05)
            at_once["now"] -= 1
            body = self.path.encode() * 100
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[::-1])

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = server.server_address
"""

HUNDRED_CLIENTS = (
    SERVER_AND_CLIENTS
    + """
    def client(index):
        connection = http.client.HTTPConnection(host, port, timeout=30)
        for round_ in range(2):
            path = f"/{index}/{round_}"
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert response.read() == path.encode() * 100
        body = b"%d-" % index * 10_000
        connection.request("POST", "/", body=body)
        assert connection.getresponse().read() == body[::-1]
        connection.close()

    clients = [gevent.spawn(client, index) for index in range(100)]
    gevent.joinall(clients, timeout=60, raise_error=True)
    assert all(greenlet.successful() for greenlet in clients)
    assert at_once["most"] > 50, at_once
    with urllib.request.urlopen(f"http://localhost:{port}/x") as response:
        assert response.read() == b"/x" * 100
    print("done")
"""
)

HTTPS_CLIENTS = (
    SERVER_AND_CLIENTS
    + """
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    tls_server = Server(("127.0.0.1", 0), Handler)
    tls_server.socket = context.wrap_socket(tls_server.socket, server_side=True)
    threading.Thread(target=tls_server.serve_forever, daemon=True).start()

    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def client(index):
        connection = http.client.HTTPSConnection(
            "localhost", tls_server.server_address[1], timeout=30, context=trusting
        )
        for round_ in range(2):
            path = f"/{index}/{round_}"
            connection.request("GET", path)
            assert connection.getresponse().read() == path.encode() * 100
        connection.close()

    clients = [gevent.spawn(client, index) for index in range(30)]
    gevent.joinall(clients, timeout=60, raise_error=True)
    assert all(greenlet.successful() for greenlet in clients)
    assert at_once["most"] > 10, at_once
    print("done")
"""
)

REQUESTS = (
    SERVER_AND_CLIENTS
    + """
    import requests

    def client(index):
        with requests.Session() as session:
            for _ in range(2):
                response = session.get(f"http://{host}:{port}/{index}", timeout=30)
                assert response.content == b"/%d" % index * 100

    clients = [gevent.spawn(client, index) for index in range(50)]
    gevent.joinall(clients, timeout=60, raise_error=True)
    assert all(greenlet.successful() for greenlet in clients)
    assert at_once["most"] > 20, at_once
    try:
        requests.get(f"http://{host}:{port}/slow", timeout=0.005)
    except requests.exceptions.Timeout:
        print("done")
"""
)


def test_hundred_clients_at_once(run_script):
    assert run_script(HUNDRED_CLIENTS).check() == "done\n"


def test_https_clients(run_script):
    assert run_script(HTTPS_CLIENTS).check() == "done\n"


@pytest.mark.skipif(importlib.util.find_spec("requests") is None, reason="requests is not there")
def test_requests(run_script):
    assert run_script(REQUESTS).check() == "done\n"

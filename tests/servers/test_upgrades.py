"""Packages that take connections over from `pywsgi`, for WebSocket, run unmodified."""

from __future__ import annotations

from pathlib import Path

import websocket
from gunicorn_support import gunicorn
from scripts import SCRIPT_TIMEOUT, RunScript

# What a client of Flask-SocketIO says, in the words of its protocol (version 4 of Engine.IO).
SOCKET_IO = """
    from gevent import monkey; monkey.patch_all()
    import json, gevent, requests, websocket
    from flask import Flask
    from flask_socketio import SocketIO, emit

    app = Flask(__name__)
    sockets = SocketIO(app, async_mode="gevent")

    @app.route("/")
    def index():
        return "hello"

    @sockets.on("echo")
    def echo(text):
        emit("echoed", text.upper())

    @sockets.on("all")
    def tell_all(text):
        emit("told", text, broadcast=True)

    gevent.spawn(sockets.run, app, "127.0.0.1", 0)
    with gevent.Timeout(30):
        while getattr(sockets, "wsgi_server", None) is None or not sockets.wsgi_server.started:
            gevent.sleep(0.001)
    port = sockets.wsgi_server.server_port
    assert requests.get(f"http://127.0.0.1:{port}/").text == "hello"

    # By polling.
    url = f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling"
    with requests.Session() as session:
        sid = json.loads(session.get(url).text[1:])["sid"]
        url += f"&sid={sid}"
        session.post(url, data="40")
        assert session.get(url).text.startswith("40")
        session.post(url, data='42["echo","hello"]')
        assert session.get(url).text == '42["echoed","HELLO"]'

    # By WebSocket.
    def connect():
        url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
        client = websocket.create_connection(url, timeout=30)
        assert client.recv().startswith("0{")
        client.send("40")
        assert client.recv().startswith("40{")
        return client

    clients = [connect() for _ in range(20)]
    for client in clients:
        client.send('42["echo","hello"]')
    for client in clients:
        assert client.recv() == '42["echoed","HELLO"]'
    clients[0].send('42["all","news"]')
    for client in clients:
        assert client.recv() == '42["told","news"]'
    for client in clients:
        client.close()
    print("done")
    """


def test_flask_socketio(run_script: RunScript) -> None:
    assert run_script(SOCKET_IO).check().endswith("done\n")


APP = """\
def app(environ, start_response):
    connection = environ.get("wsgi.websocket")
    if connection is None:
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]
    while (message := connection.receive()) is not None:
        connection.send(message.upper())
    return []
"""


def test_gevent_websocket_by_gunicorn(tmp_path: Path) -> None:
    """With the worker of gevent-websocket, as its documentation says."""
    (tmp_path / "app.py").write_text(APP)
    worker = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
    with gunicorn(tmp_path, worker, app="app:app") as server:
        assert server.get() == "hello"
        host, port = server.address
        url = f"ws://{host}:{port}/"
        clients = [websocket.create_connection(url, timeout=SCRIPT_TIMEOUT) for _ in range(20)]
        for client in clients:
            for text in ("a", "b" * 100_000):
                client.send(text)
                assert client.recv() == text.upper()
        assert server.get() == "hello"
        for client in clients:
            client.close()


def test_a_method_that_is_replaced_in_the_class_itself(run_script: RunScript) -> None:
    """As Flask-Sockets does it, when it is imported."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import requests
        from gevent import pywsgi

        def log_request(self):
            print(self.requestline)

        pywsgi.WSGIHandler.log_request = log_request

        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"hello"]

        with pywsgi.WSGIServer(("127.0.0.1", 0), application) as server:
            server.start()
            print(requests.get(f"http://127.0.0.1:{server.server_port}/").text)
        """
    out = run_script(script).check_quiet()
    assert sorted(out.splitlines()) == ["GET / HTTP/1.1", "hello"]

"""A chat over WebSockets: what one says, all hear. Blocking code, two greenlets for each client.

    cd examples && greenloop serve websocket_chat:app

serves it on ws://127.0.0.1:8000. Run as a program it serves itself on a port that the system
chooses, and has three clients talk. These need websocket-client; the server is greenloop's own and
not to be had from gevent.

    python -m greenloop examples/websocket_chat.py
"""

from gevent import monkey

monkey.patch_all()

import gevent
from gevent.pywsgi import WSGIServer
from gevent.queue import Full, Queue

#: What is to be sent to each client. One that does not keep up misses messages.
clients = set()


def app(environ, start_response):
    websocket = environ.get("wsgi.websocket")
    if websocket is None:
        start_response("426 Upgrade Required", [("Upgrade", "websocket")])
        return [b"This is a chat: ask for a WebSocket.\n"]
    websocket.accept()
    outgoing = Queue(100)
    sender = gevent.spawn(lambda: [websocket.send(message) for message in outgoing])
    clients.add(outgoing)
    try:
        for message in websocket:
            for client in clients:
                try:
                    client.put_nowait(message)
                except Full:
                    pass
    finally:
        clients.discard(outgoing)
        sender.kill()
    return []


def main():
    import websocket

    with WSGIServer(("127.0.0.1", 0), app, log=None) as server:
        server.start()
        url = f"ws://127.0.0.1:{server.server_port}/"
        people = {name: websocket.create_connection(url) for name in ("Ann", "Ben", "Cleo")}
        while len(clients) < len(people):
            gevent.sleep(0.01)
        for name, client in people.items():
            client.send(f"{name}: hello")
            for listener in people.values():
                print(listener.recv(), end="; " if listener is not people["Cleo"] else "\n")
        for client in people.values():
            client.close()


if __name__ == "__main__":
    main()

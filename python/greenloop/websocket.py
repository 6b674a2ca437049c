"""WebSockets of WSGI applications: `environ["wsgi.websocket"]`, and its exception.

def application(environ, start_response):
    websocket = environ.get("wsgi.websocket")
    if websocket is None:
        start_response("426 Upgrade Required", [("Upgrade", "websocket")])
        return [b"This is a WebSocket"]
    for message in websocket:
        websocket.send(message)
    return []
"""

from __future__ import annotations

from greenloop._core import WebSocket
from greenloop.exceptions import WebSocketError

__all__ = ["WebSocket", "WebSocketError"]

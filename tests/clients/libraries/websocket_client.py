"""websocket-client: a connection for each call."""

from __future__ import annotations

import websocket
from support import HOST, Gate, answer_to
from support import Library as Base


class Library(Base):
    # It does not make ECONNRESET an error of its own.
    lost = (websocket.WebSocketConnectionClosedException, ConnectionResetError)

    def call(self, gate: Gate, number: int) -> None:
        tls = self.where.tls()
        connection = websocket.create_connection(
            f"{'wss' if tls else 'ws'}://{HOST}:{self.where.port}/", sslopt={"context": tls}
        )
        try:
            connection.send(f"{gate.key} {number}")
            assert connection.recv() == answer_to(number)
            connection.close()
        finally:
            # close() would wait for the server to agree.
            connection.shutdown()

"""grpcio, with what it has for gevent."""

from __future__ import annotations

import grpc
import grpc.experimental.gevent
from support import HOST, Gate, Where, answer_to
from support import Library as Base

grpc.experimental.gevent.init_gevent()


class Library(Base):
    lost = (grpc.RpcError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.channel = grpc.insecure_channel(f"{HOST}:{where.port}")
        self.unary = self.channel.unary_unary("/test/unary")
        self.stream = self.channel.unary_stream("/test/stream")

    def call(self, gate: Gate, number: int) -> None:
        request = f"{gate.key} {number}".encode()
        call = self.unary.future(request) if number % 2 else self.stream(request)
        try:
            answer = call.result() if number % 2 else b"".join(call)
        finally:
            # It would go on where a Timeout ends the wait for it.
            call.cancel()
        assert answer.decode() == answer_to(number)

    def close(self) -> None:
        self.channel.close()

"""A gRPC server in a process of its own: `grpc_server.py CONTROL`. It prints its port.

It is no part of the test process because gRPC's threads do not go with the processes started there.
A request is "KEY NUMBER": it is held at the gate.
"""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

HOST = "127.0.0.1"


class Answers(grpc.GenericRpcHandler):
    """Answers /test/unary, and /test/stream with an answer in pieces."""

    def __init__(self, control: int) -> None:
        self.control = control

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method == "/test/stream":
            return grpc.unary_stream_rpc_method_handler(self.stream)
        return grpc.unary_unary_rpc_method_handler(self.unary)

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        key, _, number = request.decode().partition(" ")
        with socket.create_connection((HOST, self.control)) as connection:
            connection.sendall(f"wait {key}\n".encode())
            connection.recv(100)
        return f"answer {number} ".encode() * 20

    def stream(self, request: bytes, context: grpc.ServicerContext):
        answer = self.unary(request, context)
        for at in range(0, len(answer), 50):
            yield answer[at : at + 50]


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(300))
    server.add_generic_rpc_handlers([Answers(int(sys.argv[1]))])
    print(server.add_insecure_port(f"{HOST}:0"), flush=True)
    server.start()
    # Until the tests are done with it.
    sys.stdin.read()


if __name__ == "__main__":
    main()

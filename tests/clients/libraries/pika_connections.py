"""pika: a blocking connection for each call, as they must not be shared."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from support import HOST, Where, unique
from support import Library as Base


class Gate:
    """A queue: a call waits for a message in it.

    What calls say in another queue is counted, and not who consumes: a call that the server has in
    its books is not yet told so, and pika cannot close a connection at that point.
    """

    def __init__(self, channel: BlockingChannel, size: int):
        self.key = f"gate{unique()}"
        self.waiting = f"{self.key}-waiting"
        self.channel = channel
        self.size = size
        channel.queue_declare(self.key, auto_delete=True)
        channel.queue_declare(self.waiting, exclusive=True)

    def held(self) -> int:
        return int(self.channel.queue_declare(self.waiting, passive=True).method.message_count)

    def open(self) -> None:
        for number in range(self.size):
            self.channel.basic_publish("", self.key, str(number).encode())


class Library(Base):
    lost = (pika.exceptions.AMQPConnectionError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        tls = where.tls()
        self.tls = pika.SSLOptions(tls, HOST) if tls else None
        self.direct = self.connect(where.direct, None)

    @staticmethod
    def connect(port: int, tls: pika.SSLOptions | None) -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.ConnectionParameters(HOST, port, ssl_options=tls))

    def gate(self) -> Gate:
        return Gate(self.direct.channel(), self.size)

    def call(self, gate: Gate, number: int) -> None:
        with closing(self.connect(self.where.port, self.tls)) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1)
            got: list[bytes] = []

            def received(channel: BlockingChannel, method: Any, _: object, body: bytes) -> None:
                channel.basic_ack(method.delivery_tag)
                got.append(body)

            channel.basic_consume(gate.key, received)
            channel.basic_publish("", gate.waiting, b"")
            while not got:
                connection.process_data_events(time_limit=None)
            assert 0 <= int(got[0]) < self.size

    def close(self) -> None:
        self.direct.close()

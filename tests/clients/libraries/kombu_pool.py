"""kombu over AMQP, with its pool of connections."""

from __future__ import annotations

import kombu
from amqp.exceptions import ConnectionError as AMQPConnectionError
from kombu.pools import connections
from support import HOST, Where, unique
from support import Library as Base


class Gate:
    """A queue: a call waits for a message in it."""

    def __init__(self, connection: kombu.Connection, size: int) -> None:
        self.key = f"gate{unique()}"
        self.size = size
        self.connection = connection
        self.channel = connection.channel()
        self.queue(self.channel).declare()

    def queue(self, channel: object) -> kombu.Queue:
        return kombu.Queue(self.key, channel=channel, durable=False, no_ack=False)

    def held(self) -> int:
        return int(self.queue(self.channel).queue_declare(passive=True).consumer_count)

    def open(self) -> None:
        producer = kombu.Producer(self.channel, routing_key=self.key)
        for number in range(self.size):
            producer.publish({"number": number})


class Library(Base):
    lost = (*kombu.Connection("amqp://").connection_errors, AMQPConnectionError)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.direct = self.connection(where.direct)
        connections.set_limit = self.size
        self.pool = connections[self.connection(where.port)]
        self.pool.limit = self.size

    @staticmethod
    def connection(port: int) -> kombu.Connection:
        return kombu.Connection(f"amqp://guest:guest@{HOST}:{port}//")

    def gate(self) -> Gate:
        return Gate(self.direct, self.size)

    def call(self, gate: Gate, number: int) -> None:
        got = []

        def received(body: dict[str, int], message: kombu.Message) -> None:
            message.ack()
            got.append(body["number"])

        with self.pool.acquire(block=True) as connection:
            # The pool also lends connections that it has closed after an error.
            connection.ensure_connection(max_retries=1)
            with (
                connection.channel() as channel,
                kombu.Consumer(
                    channel, gate.queue(channel), callbacks=[received], prefetch_count=1
                ),
            ):
                while not got:
                    connection.drain_events()
        assert 0 <= got[0] < self.size

    def close(self) -> None:
        self.pool.force_close_all()
        self.direct.release()

"""redis-py, with a pool that lets calls wait for a connection."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support import HOST, Where, unique
from support import Library as Base


class Gate:
    """Lists that are empty: a call is a BLPOP from one of them."""

    def __init__(self, client: redis.Redis, size: int) -> None:
        self.key = f"gate{unique()}"
        self.client = client
        self.size = size

    def held(self) -> int:
        return int(self.client.info("clients")["blocked_clients"])

    def open(self) -> None:
        with self.client.pipeline() as pipeline:
            for number in range(self.size):
                pipeline.rpush(f"{self.key}-{number}", number)
            pipeline.execute()


class Library(Base):
    lost = (redis.ConnectionError,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.direct = redis.Redis(HOST, where.direct)
        self.direct.ping()
        self.client = redis.Redis(
            connection_pool=redis.BlockingConnectionPool(
                max_connections=self.size,
                timeout=None,
                host=HOST,
                port=where.port,
                retry=Retry(NoBackoff(), 0),
            )
        )

    def gate(self) -> Gate:
        return Gate(self.direct, self.size)

    def call(self, gate: Gate, number: int) -> None:
        key = f"{gate.key}-{number}"
        assert self.client.blpop(key) == (key.encode(), str(number).encode())

    def close(self) -> None:
        self.client.connection_pool.disconnect()
        self.direct.close()


def subscriber(library: Library) -> None:
    """One listens, and many publish beside it."""
    import gevent

    subscription = library.client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe("news")

    def listen() -> list[int]:
        got: list[int] = []
        for message in subscription.listen():
            got.append(int(message["data"]))
            if len(got) == 50:
                return sorted(got)
        raise AssertionError("the subscription ended")

    listener = gevent.spawn(listen)
    while library.client.pubsub_numsub("news")[0][1] == 0:
        gevent.sleep(0.01)
    publishers = [gevent.spawn(library.client.publish, "news", number) for number in range(50)]
    gevent.joinall(publishers, raise_error=True)
    assert listener.get() == list(range(50))

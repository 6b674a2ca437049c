"""redis-py, unmodified, against a real server: many blocking calls at once."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Seconds until the server has to be up. A hang guard.
START_TIMEOUT = 30.0


@pytest.fixture(scope="module")
def real_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a Redis of our own, which keeps nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: python tools/services.py")
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    break
            assert process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server did not come up"
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait()


def test_blocking_pops_wait_at_once(run_script: Any, real_redis: Path) -> None:
    """50 greenlets block in BLPOP, each on its own connection, until one pushes for all.

    Were the calls made one after the other, the first would wait for ever.
    """
    script = """
        import sys
        from gevent import monkey
        monkey.patch_all()
        import gevent, redis

        client = redis.Redis(unix_socket_path=sys.argv[1])
        waiting = [gevent.spawn(client.blpop, f"list-{n}") for n in range(50)]
        while len(client.client_list()) < 51:
            gevent.sleep(0.01)
        assert not any(greenlet.ready() for greenlet in waiting)
        with client.pipeline() as pipeline:
            for n in range(50):
                pipeline.rpush(f"list-{n}", n)
            pipeline.execute()
        gevent.joinall(waiting, raise_error=True)
        print([int(greenlet.value[1]) for greenlet in waiting] == list(range(50)))
    """
    assert run_script(script, str(real_redis)).check_quiet() == "True\n"


def test_subscriber_beside_publishers(run_script: Any, real_redis: Path) -> None:
    script = """
        import sys
        from gevent import monkey
        monkey.patch_all()
        import gevent, redis

        client = redis.Redis(unix_socket_path=sys.argv[1])
        subscription = client.pubsub(ignore_subscribe_messages=True)
        subscription.subscribe("news")

        def listen():
            got = []
            for message in subscription.listen():
                got.append(int(message["data"]))
                if len(got) == 50:
                    return sorted(got)

        listener = gevent.spawn(listen)
        while client.pubsub_numsub("news")[0][1] == 0:
            gevent.sleep(0.01)
        gevent.joinall([gevent.spawn(client.publish, "news", n) for n in range(50)])
        print(listener.get() == list(range(50)))
    """
    assert run_script(script, str(real_redis)).check_quiet() == "True\n"

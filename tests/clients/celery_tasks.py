"""The tasks of the tests' Celery worker."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import celery
import redis

URL = os.environ["CELERY_TASKS_URL"]

app = celery.Celery("celery_tasks", broker=URL, backend=URL)
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False
store = redis.Redis.from_url(URL)


@app.task
def describe() -> dict[str, str]:
    """What the worker runs on."""
    import gevent
    import greenlet

    return {
        "gevent": Path(str(gevent.__file__)).parent.name,
        "greenlet": Path(str(greenlet.__file__)).parent.name,
        "thread": str(threading.get_native_id()),
    }


@app.task
def meet(key: str, number: int) -> int:
    """Wait until somebody lets one that waits there go on."""
    store.incr(f"{key}.held")
    assert store.blpop([f"{key}.gate"], timeout=60) is not None
    return number


@app.task
def hang(key: str) -> None:
    """Wait for ever, and say when that ends."""
    store.incr(f"{key}.begun")
    try:
        while True:
            time.sleep(1)
    finally:
        store.incr(f"{key}.ended")


@app.task(bind=True, max_retries=3)
def succeed_in_the_end(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.01)
    return int(self.request.retries)


@app.task
def fail() -> None:
    raise LookupError("no such thing")


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def double(number: int) -> int:
    return 2 * number

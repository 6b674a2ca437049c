"""A Celery worker with the pool `gevent`, on Redis: its greenlets are greenloop's."""

from __future__ import annotations

import importlib.machinery
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from control import HOST
from scripts import SCRIPT_TIMEOUT, TEST_TIMEOUT, USE_PEER

pytestmark = [
    pytest.mark.timeout(TEST_TIMEOUT + servers.START_TIMEOUT),
    pytest.mark.skipif(
        importlib.machinery.PathFinder.find_spec("celery") is None, reason="not installed"
    ),
]

HERE = Path(__file__).resolve().parent
#: Tasks that the worker does at once.
SIZE = 50


class Worker:
    """A worker's process."""

    def __init__(self, url: str, directory: Path) -> None:
        self.log = directory / "worker.log"
        environment = {**os.environ, "CELERY_TASKS_URL": url, "PYTHONPATH": str(HERE)}
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        if not USE_PEER:
            environment["GREENLOOP_DROPIN"] = "1"
        command = [sys.executable, "-m", "celery", "--app", "celery_tasks", "worker"]
        options = ["--pool", "gevent", "--concurrency", str(SIZE), "--loglevel", "info"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *options, "--without-mingle", "--without-gossip"],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="backslashreplace")

    def stop(self) -> int:
        """Have it end in good order; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SCRIPT_TIMEOUT)


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    try:
        with servers.running("redis") as server:
            yield f"redis://{HOST}:{server.port}/0"
    except servers.ProgramMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tasks(redis_url: str) -> Iterator[Any]:
    """The module of tasks, as a client has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_TASKS_URL", redis_url)
        patch.syspath_prepend(str(HERE))
        import celery_tasks

        yield celery_tasks


@pytest.fixture
def worker(tasks: Any, redis_url: str, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(redis_url, tmp_path)
    try:
        wait_until(made, lambda: "ready." in made.output())
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def wait_until(worker: Worker, condition: Callable[[], Any]) -> None:
    end = time.monotonic() + SCRIPT_TIMEOUT
    while not condition():
        if worker.process.poll() is not None or time.monotonic() > end:
            pytest.fail(worker.output())
        time.sleep(0.01)


def ends_quietly(worker: Worker) -> None:
    """Stop the worker, which has nothing to complain of."""
    assert worker.stop() == 0, worker.output()
    assert "Traceback" not in worker.output(), worker.output()
    assert "greenloop: warning" not in worker.output(), worker.output()


def test_tasks_run_at_once_in_one_thread(tasks: Any, worker: Worker) -> None:
    described = [tasks.describe.delay().get(SCRIPT_TIMEOUT) for _ in range(3)]
    assert len({one["thread"] for one in described}) == 1
    package = ("gevent", "greenlet") if USE_PEER else ("greenloop", "greenloop")
    assert (described[0]["gevent"], described[0]["greenlet"]) == package

    results = [tasks.meet.delay("at-once", number) for number in range(SIZE)]
    wait_until(worker, lambda: int(tasks.store.get("at-once.held") or 0) == SIZE)
    # The worker answers while all of its greenlets wait.
    (answer,) = tasks.app.control.ping(timeout=SCRIPT_TIMEOUT, limit=1)
    assert list(answer.values()) == [{"ok": "pong"}]
    tasks.store.rpush("at-once.gate", *range(SIZE))
    assert [result.get(SCRIPT_TIMEOUT) for result in results] == list(range(SIZE))
    ends_quietly(worker)


def test_retries_errors_and_chords(tasks: Any, worker: Worker) -> None:
    assert tasks.succeed_in_the_end.delay().get(SCRIPT_TIMEOUT) == 2
    with pytest.raises(LookupError, match="no such thing"):
        tasks.fail.delay().get(SCRIPT_TIMEOUT)
    chord = tasks.celery.chord([tasks.double.s(number) for number in range(10)], tasks.total.s())
    assert chord.apply_async().get(SCRIPT_TIMEOUT) == 90
    assert tasks.double.apply_async([4], countdown=0.2).get(SCRIPT_TIMEOUT) == 8
    assert worker.stop() == 0


def test_tasks_that_take_too_long_and_tasks_that_are_revoked(tasks: Any, worker: Worker) -> None:
    from billiard.exceptions import TimeLimitExceeded
    from celery.exceptions import TaskRevokedError

    late = tasks.hang.apply_async(["late"], time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        late.get(SCRIPT_TIMEOUT)
    wait_until(worker, lambda: tasks.store.get("late.ended"))

    revoked = tasks.hang.delay("revoked")
    wait_until(worker, lambda: tasks.store.get("revoked.begun"))
    revoked.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        revoked.get(SCRIPT_TIMEOUT)
    wait_until(worker, lambda: tasks.store.get("revoked.ended"))

    # It has greenlets for others.
    assert tasks.double.delay(3).get(SCRIPT_TIMEOUT) == 6
    assert worker.stop() == 0


def test_a_worker_that_stops_lets_its_tasks_end(tasks: Any, worker: Worker) -> None:
    result = tasks.meet.delay("at-the-end", 5)
    wait_until(worker, lambda: tasks.store.get("at-the-end.held"))
    worker.process.send_signal(signal.SIGTERM)
    wait_until(worker, lambda: "Warm shutdown" in worker.output())
    tasks.store.rpush("at-the-end.gate", 1)
    assert worker.process.wait(SCRIPT_TIMEOUT) == 0
    assert result.get(SCRIPT_TIMEOUT) == 5
    assert "Traceback" not in worker.output(), worker.output()

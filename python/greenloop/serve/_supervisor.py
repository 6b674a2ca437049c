"""The process that starts workers, watches over them, and replaces them."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._bind import Listener, are_waiting
from ._messages import CHANGED, FAILED, READY, REOPEN, RETIRE, STOP, say
from ._metrics import Metrics
from ._options import Options

__all__ = ["InWorker", "Supervisor"]

#: A worker that has lived for so many seconds is taken to be sound.
_SOUND = 10.0
#: Seconds until the next worker is started, after two that were not; doubled each time, up to the
#: second.
_FIRST_DELAY, _MAX_DELAY = 0.25, 30.0
#: Seconds that workers have, after the graceful timeout, to end.
_GRACE = 5.0

_SIGNALS = ("CHLD", "HUP", "INT", "QUIT", "TERM", "TTIN", "TTOU", "USR1")


class InWorker(Exception):
    """Raised in a new worker, for whoever has called the supervisor to go on there."""

    def __init__(self, control: socket.socket, place: int, workers: int) -> None:
        super().__init__()
        self.control = control
        self.place = place
        self.workers = workers


@dataclass
class _Worker:
    pid: int
    place: int
    generation: int
    control: socket.socket
    since: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    #: It has asked to be replaced.
    retires: bool = False
    #: Until when it may finish, once it was told to.
    deadline: float | None = None
    #: It has told that it has no application.
    has_failed: bool = False
    is_killed: bool = False


class Supervisor:
    """Keeps so many workers running.

    A worker is replaced by one that serves already: it is told to stop after that. `generation`
    says which are to be replaced.
    """

    def __init__(
        self,
        options: Options,
        listeners: Sequence[Listener],
        admin: Listener | None,
        metrics: Metrics,
    ) -> None:
        self.options = options
        self.listeners = listeners
        self.admin = admin
        self.metrics = metrics
        self._target = options.workers
        self._generation = 0
        self._workers: dict[int, _Worker] = {}
        self._was_ready = False
        self._status: int | None = None  # set: to be returned when all workers have gone
        self._short_lives = 0
        self._next_start = 0.0
        self._phase: Callable[[], None] = self._keep
        self._deadline = 0.0
        # Signals are told by a pipe, one after the other, and wake up `poll`.
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers: dict[int, Any] = {}

    def run(self) -> int:
        """Run until told to stop, and return the exit status. Raises InWorker in workers."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for name in _SIGNALS:
            number = getattr(signal, "SIG" + name)
            self._handlers[number] = signal.signal(number, _nothing)
        while True:
            self._phase()
            if self._status is not None and not self._workers:
                return self._status
            self._wait()

    # --- waiting

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        by_fd = {}
        for worker in self._workers.values():
            if worker.control.fileno() >= 0:
                poll.register(worker.control, select.POLLIN)
                by_fd[worker.control.fileno()] = worker
        for fd, _ in poll.poll(self._milliseconds()):
            if fd == self._wake_read:
                self._read_signals()
            else:
                self._read_messages(by_fd[fd])

    def _milliseconds(self) -> float | None:
        now = time.monotonic()
        times = [worker.deadline for worker in self._workers.values() if worker.deadline]
        if self._phase == self._empty_queues:
            times.append(now + 0.005)
        if self._status is None and self._next_start > now:
            times.append(self._next_start)
        return max(0.0, min(times) - now) * 1000 + 1 if times else None

    def _read_signals(self) -> None:
        try:
            numbers = os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number == signal.SIGCHLD:
                continue
            if number in (signal.SIGTERM, signal.SIGINT):
                if self._status is not None and number == signal.SIGINT:
                    self._kill_all()
                else:
                    self._begin_to_stop(0, f"received {signal.Signals(number).name}; stopping")
            elif number == signal.SIGQUIT:
                self._begin_to_stop(0, "received SIGQUIT; stopping at once")
                self._kill_all()
            elif number == signal.SIGHUP:
                say("received SIGHUP; replacing the workers")
                self._renew()
            elif number in (signal.SIGTTIN, signal.SIGTTOU):
                change = 1 if number == signal.SIGTTIN else -1
                self._target = max(1, self._target + change)
                say(f"{self._target} workers from now on")
            elif number == signal.SIGUSR1:
                for worker in self._workers.values():
                    self._tell(worker, REOPEN)
        self._bury()

    def _read_messages(self, worker: _Worker) -> None:
        try:
            messages = worker.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            messages = b""
        if not messages:
            # It is about to end, or has: SIGCHLD tells.
            worker.control.close()
            return
        for code in messages:
            message = bytes((code,))
            if message == READY:
                worker.is_ready = self._was_ready = True
            elif message == RETIRE:
                worker.retires = True
            elif message == FAILED:
                worker.has_failed = True
            elif message == CHANGED and worker.generation == self._generation:
                self._renew()

    # --- workers

    def _renew(self) -> None:
        """Have all workers replaced."""
        self._generation += 1
        self._short_lives = 0
        self._next_start = 0.0

    def _is_fresh(self, worker: _Worker) -> bool:
        return worker.generation == self._generation and not worker.retires

    def _keep(self) -> None:
        """Start and stop workers, as many as it takes."""
        present = [worker for worker in self._workers.values() if worker.deadline is None]
        fresh = [worker for worker in present if self._is_fresh(worker)]
        starting = [worker for worker in fresh if not worker.is_ready]
        # What was about to serve what is not wanted any more.
        outdated = [w for w in present if not w.is_ready and not self._is_fresh(w)]
        for worker in outdated:
            self._stop(worker)
            present.remove(worker)
        now = time.monotonic()
        if now >= self._next_start:
            # The first has to serve before there are more: what is wrong is told once.
            limit = self._target if self._was_ready else 1
            while len(fresh) < limit and (
                len(present) < self._target or (len(present) == self._target and not starting)
            ):
                worker = self._start()
                for some in (present, fresh, starting):
                    some.append(worker)
        ready = [worker for worker in present if worker.is_ready]
        # Those that are not wanted go once others have come: first of all the outdated.
        ready.sort(key=lambda worker: (self._is_fresh(worker), -worker.since))
        while len(ready) > self._target:
            self._stop(ready.pop(0))
        self._kill_late()
        self.metrics.set_workers(
            sum(worker.is_ready and worker.deadline is None for worker in self._workers.values())
        )

    def _start(self) -> _Worker:
        taken = {worker.place for worker in self._workers.values()}
        place = next(place for place in range(len(taken) + 1) if place not in taken)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._leave_to_worker()
            raise InWorker(theirs, place, self._target)
        theirs.close()
        ours.setblocking(False)
        worker = _Worker(pid, place, self._generation, ours)
        self._workers[pid] = worker
        return worker

    def _leave_to_worker(self) -> None:
        """In a new worker: forget what is the supervisor's."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # Until it has handlers of its own, a worker goes at once if it is told to, except by a
        # terminal, which tells the supervisor as well.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        os.close(self._wake_read)
        os.close(self._wake_write)
        for worker in self._workers.values():
            worker.control.close()

    def _stop(self, worker: _Worker) -> None:
        worker.deadline = time.monotonic() + self.options.graceful_timeout + _GRACE
        if worker.is_ready:
            self._tell(worker, STOP)
        else:
            # It has nothing to finish.
            self._kill(worker)

    def _tell(self, worker: _Worker, message: bytes) -> None:
        if worker.control.fileno() >= 0:
            try:
                worker.control.send(message)
            except OSError:
                pass  # It is about to end.

    def _kill(self, worker: _Worker) -> None:
        worker.is_killed = True
        os.kill(worker.pid, signal.SIGKILL)

    def _kill_late(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.deadline is not None and worker.deadline <= now:
                if not worker.is_killed:
                    say(f"worker {worker.pid} does not end; killed")
                    self._kill(worker)
                worker.deadline = now + 60

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._has_ended(worker, os.waitstatus_to_exitcode(status))

    def _has_ended(self, worker: _Worker, status: int) -> None:
        if worker.control.fileno() >= 0:
            # What it has said in the end.
            self._read_messages(worker)
            worker.control.close()
        self.metrics.worker_is_gone(worker.place)
        if worker.deadline is not None or self._status is not None:
            return
        if worker.has_failed:
            self._cannot_load(worker)
            return
        if not worker.is_ready and not status:
            return  # A file has changed.
        self.metrics.count_death()
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        say(f"worker {worker.pid} has died: {how}")
        if not self._was_ready and not worker.is_ready:
            self._begin_to_stop(1, "no worker could be started")
            return
        is_short = time.monotonic() - worker.since < _SOUND
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives > 1:
            delay = min(_MAX_DELAY, _FIRST_DELAY * 2 ** min(self._short_lives - 2, 20))
            self._next_start = time.monotonic() + delay

    def _cannot_load(self, worker: _Worker) -> None:
        """A worker has told that there is no application to serve."""
        others = [
            other for other in self._workers.values() if other.is_ready and other.deadline is None
        ]
        if not self._was_ready:
            # It has said why.
            self._begin_to_stop(1, "")
        elif others:
            if worker.generation == self._generation:
                say("the workers that are there go on")
            for other in others:
                other.generation = self._generation
                other.retires = False
        self._short_lives += 1
        delay = min(_MAX_DELAY, _FIRST_DELAY * 2 ** min(self._short_lives, 20))
        self._next_start = time.monotonic() + delay

    # --- stopping

    def _begin_to_stop(self, status: int, text: str) -> None:
        if self._status is not None:
            return
        if text:
            say(text)
        self._status = status
        for listener in self.listeners:
            try:
                listener.refuse_new()
            except OSError as error:
                # Where filters are not allowed, a connection that comes now may be reset.
                if error.errno not in (errno.EPERM, errno.ENOPROTOOPT):
                    raise
        self._deadline = time.monotonic() + self.options.graceful_timeout
        self._phase = self._empty_queues

    def _empty_queues(self) -> None:
        """Wait until workers have accepted what was there before it was refused."""
        serving = any(
            worker.is_ready and worker.deadline is None for worker in self._workers.values()
        )
        if serving and time.monotonic() < self._deadline and are_waiting(self.listeners):
            self._kill_late()
            return
        self._phase = self._stop_all
        self._stop_all()

    def _stop_all(self) -> None:
        for worker in self._workers.values():
            if worker.deadline is None:
                self._stop(worker)
                limit = max(self._deadline, time.monotonic()) + _GRACE
                worker.deadline = limit
        self._kill_late()

    def _kill_all(self) -> None:
        self._phase = self._stop_all
        for worker in self._workers.values():
            worker.deadline = time.monotonic() + _GRACE
            self._kill(worker)


def _nothing(number: int, frame: Any) -> None:
    """A handler, so that the signal is told by the pipe."""

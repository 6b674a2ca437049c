"""A worker for gunicorn: `gunicorn -k greenloop.integrations.gunicorn.Worker module:app`.

Requests are read and answered by gunicorn, so that all of its settings hold; each connection has
a greenlet. The standard library is patched in the worker, before the application is imported there,
and `import gevent` means greenloop in all of gunicorn's processes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import greenloop
from greenloop import monkey
from greenloop import socket as green_socket
from greenloop.dropin import install_as_gevent
from greenloop.event import Event
from greenloop.pool import Pool
from greenloop.server import StreamServer

__all__ = ["Worker"]

# The arbiter imports this before an application that it may preload.
install_as_gevent()

if TYPE_CHECKING:

    class AsyncWorker:
        """What is used here of gunicorn's class, which says nothing of types."""

        alive: bool
        booted: bool
        cfg: Any
        log: Any
        ppid: int
        sockets: list[Any]
        worker_connections: int

        def handle(self, listener: Any, client: Any, addr: Any) -> None: ...
        def handle_exit(self, sig: int, frame: Any) -> None: ...
        def handle_quit(self, sig: int, frame: Any) -> None: ...
        def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any: ...
        def handle_usr1(self, sig: int, frame: Any) -> None: ...
        def init_process(self) -> None: ...
        def notify(self) -> None: ...

else:
    from gunicorn.workers.base_async import AsyncWorker


class _Listener:
    """Tells where connections came in, also when the socket is closed: gunicorn asks when it begins
    to handle one, and a worker may have been told to stop between that and accepting it."""

    def __init__(self, sock: Any) -> None:
        self._name = sock.getsockname()

    def getsockname(self) -> Any:
        return self._name


class Worker(AsyncWorker):
    """A worker process of gunicorn. Its setting `worker_connections` limits the connections of each
    socket; `graceful_timeout` how long requests may take after it was told to stop."""

    _has_ended: Event

    def init_process(self) -> None:
        """Patch the standard library, and go on as workers do."""
        self._has_ended = Event()
        self._take_signals()
        monkey.patch_all()
        # The sockets were made by the arbiter, which is not patched.
        self.sockets = [green_socket.socket(fileno=sock.detach()) for sock in self.sockets]
        super().init_process()

    def _take_signals(self) -> None:
        """Handle the signals to stop from now on, and those that came since the fork.

        Handlers of the arbiter are in place until workers have set theirs, which they do late. They
        would put the signal in a queue that nobody reads in this process: it would be lost, and
        the arbiter would wait for this worker until it kills it.
        """
        arbiter = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        handlers = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_quit,
            signal.SIGQUIT: self.handle_quit,
        }
        for number, handler in handlers.items():
            signal.signal(number, handler)
        came = getattr(arbiter, "SIG_QUEUE", None)
        while isinstance(came, SimpleQueue) and not came.empty():
            number = came.get_nowait()
            if number in handlers:
                handlers[number](number, None)

    def run(self) -> None:
        """Serve until told to stop."""
        from gunicorn.sock import ssl_context  # type: ignore[import, unused-ignore]

        tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        servers = []
        for sock in self.sockets:
            server = StreamServer(
                sock,
                partial(self.handle, _Listener(sock)),
                spawn=Pool(self.worker_connections),
                **tls,
            )
            if self.cfg.workers > 1:
                # Workers that share a listener take turns.
                server.max_accept = 1
            server.start()
            servers.append(server)
        while self.alive:
            # A sign of life for the arbiter, which kills those whose loop does not turn.
            self.notify()
            self._has_ended.wait(1.0)
        self._stop(servers)

    def _stop(self, servers: list[StreamServer]) -> None:
        for server in servers:
            server.close()
        end = time.monotonic() + self.cfg.graceful_timeout
        for server in servers:
            while server.pool and time.monotonic() < end:
                self.notify()
                server.pool.join(timeout=min(1.0, max(0.0, end - time.monotonic())))
        if any(server.pool for server in servers):
            self.log.warning("Worker graceful timeout (pid:%s)", os.getpid())
        for server in servers:
            server.stop(timeout=0)

    def notify(self) -> None:
        """Give a sign of life, and end if the arbiter is gone."""
        super().notify()
        if self.ppid != os.getppid():
            self.log.info("Parent changed, shutting down: %s", self)
            sys.exit(0)

    def timeout_ctx(self) -> greenloop.Timeout:
        """Limits the wait for the next request of a connection."""
        return greenloop.Timeout(self.cfg.keepalive, False)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Handle a connection. Whatever `socket.setdefaulttimeout` says, it has no timeout."""
        client.setblocking(True)
        super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Handle a request. One that is killed, as it has not ended in time, is no error."""
        try:
            return super().handle_request(listener_name, req, sock, addr)
        except (greenloop.GreenletExit, SystemExit):
            return None

    # --- signals: what handlers do may wait, which a greenlet can and they cannot

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: stop when requests are done."""
        super().handle_exit(sig, frame)
        self._has_ended.set()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: stop at once."""
        if self.booted:
            greenloop.spawn(super().handle_quit, sig, frame)
        else:
            super().handle_quit(sig, frame)

    def handle_usr1(self, sig: int, frame: Any) -> None:
        """SIGUSR1: open logs anew."""
        greenloop.spawn(super().handle_usr1, sig, frame)

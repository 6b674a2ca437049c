"""A worker: a process that serves."""

from __future__ import annotations

import signal
import socket as native_socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._application import LoadError, load
from ._bind import Listener
from ._files import FileWatch
from ._messages import CHANGED, FAILED, READY, REOPEN, RETIRE, STOP, say
from ._metrics import Metrics, admin_application
from ._options import Options

if TYPE_CHECKING:
    from greenloop._asgi_server import AsgiHost
    from greenloop.pywsgi import WSGIServer

    from ._requests import Server

__all__ = ["prepare", "work"]

#: Seconds between two looks at the files of the program, and between two updates of numbers that
#: go up and down.
_TICK = 0.5


def prepare(options: Options) -> AsgiHost:
    """Patch, and import the applications. Raises LoadError."""
    from greenloop.dropin import DropInError, install_as_gevent

    try:
        install_as_gevent()
    except DropInError as error:
        raise LoadError(str(error)) from None
    if options.patch:
        from greenloop import monkey

        monkey.patch_all()
    from greenloop._asgi_server import AsgiHost

    application = None if options.app is None else load(options.app, options.factory)
    mounts = [(path, load(name, options.factory)) for path, name in options.mount]
    return AsgiHost(application, mounts, options.interface, options.lifespan)


def work(
    options: Options,
    listeners: Sequence[Listener],
    admin: Listener | None,
    control: native_socket.socket,
    place: int,
    workers: int,
    metrics: Metrics,
) -> int:
    """Be a worker; return the exit status.

    control: leads to the supervisor. place: the worker's number among those that run. workers: how
    many there are to be.
    """
    return _Worker(options, listeners, admin, control, place, workers, metrics).run()


class _Worker:
    def __init__(
        self,
        options: Options,
        listeners: Sequence[Listener],
        admin: Listener | None,
        control: native_socket.socket,
        place: int,
        workers: int,
        metrics: Metrics,
    ) -> None:
        self.options = options
        self.listeners = listeners
        self.admin = admin
        self.place = place
        self.workers = workers
        self.metrics = metrics
        self._native_control = control
        self._servers: list[Server] = []

    def run(self) -> int:
        try:
            host = self._host = prepare(self.options)
        except LoadError as error:
            return self._cannot_load(error)

        import greenloop
        from greenloop import pool
        from greenloop import socket as green_socket
        from greenloop.event import Event

        from ._requests import Requests

        self._stop = Event()
        self._control = green_socket.socket(fileno=self._native_control.detach())
        options = self.options
        self._connections = pool.Pool(options.max_connections or None)
        try:
            self._start_applications()
        except LoadError as error:
            return self._cannot_load(error)
        try:
            self._requests = Requests(options, self.metrics.worker(self.place), self._retire)
            for listener in self.listeners:
                self._servers.append(self._server(listener, host))
        except (OSError, ValueError) as error:
            # Files were looked at by the supervisor; they have changed since.
            say(f"cannot serve: {error}")
            return self._end(1)
        self._signals = [
            # Ctrl-C reaches all processes of a terminal: the supervisor decides what is done.
            greenloop.signal_handler(signal.SIGINT, lambda: None),
            greenloop.signal_handler(signal.SIGTERM, self._retire),
            greenloop.signal_handler(signal.SIGUSR1, self._requests.reopen),
        ]
        for server in self._servers:
            server.start()
        admin_server = self._admin_server()
        greenloop.spawn(self._listen_to_supervisor)
        greenloop.spawn(self._tick)
        if options.reload:
            greenloop.spawn(self._watch)
        self._tell(READY)
        self._stop.wait()
        stops = [greenloop.spawn(server.stop, options.graceful_timeout) for server in self._servers]
        greenloop.joinall(stops)
        if admin_server is not None:
            admin_server.stop(0)
        for failure in self._host.stop(is_last=True):
            say(f"an application has not stopped well: {failure}")
        self._requests.close()
        return 0

    def _start_applications(self) -> None:
        """Have the applications start. Raises LoadError."""
        from greenloop._asgi_lifespan import LifespanError

        try:
            self._host.start()
        except LifespanError as error:
            # Frameworks tell of an exception by its traceback.
            details, _, last = str(error).rstrip().rpartition("\n")
            failure = LoadError(f"the application cannot start: {last}", error.__cause__)
            if details:
                failure.details += f"{details}\n{last}\n"
            raise failure from None

    # --- serving

    def _server(self, listener: Listener, host: AsgiHost) -> Server:
        from ._requests import Server

        return Server(
            self._green(listener),
            host,
            self._requests,
            multiprocess=self.workers > 1,
            root_path=self.options.root_path,
            spawn=self._connections,
            **self.options.server_settings(),
            **self.options.tls_settings(),
        )

    def _admin_server(self) -> WSGIServer | None:
        if self.admin is None:
            return None
        from greenloop.pywsgi import WSGIServer

        server = WSGIServer(self._green(self.admin), admin_application(self.metrics), log=None)
        server.start()
        return server

    def _green(self, listener: Listener) -> Any:
        from greenloop import socket as green_socket

        return green_socket.socket(fileno=listener.socket.detach())

    def _tick(self) -> None:
        import greenloop

        while True:
            count = sum(server.connection_count for server in self._servers)
            self._requests.tick(count)
            greenloop.sleep(_TICK)

    # --- what others want

    def _tell(self, message: bytes) -> None:
        try:
            self._control.sendall(message)
        except OSError:
            # The supervisor is gone, which the other direction tells as well.
            self._stop.set()

    def _retire(self) -> None:
        self._tell(RETIRE)

    def _listen_to_supervisor(self) -> None:
        while True:
            try:
                message = self._control.recv(1)
            except OSError:
                message = b""
            if message == REOPEN:
                self._requests.reopen()
            elif message in (STOP, b""):
                if not message:
                    say("the supervisor is gone; stopping")
                self._stop.set()
                return

    def _watch(self) -> None:
        import greenloop

        files = FileWatch()
        while True:
            greenloop.sleep(_TICK)
            path = files.changed()
            if path is not None:
                say(f"{path} has changed")
                self._tell(CHANGED)

    # --- failing

    def _cannot_load(self, error: LoadError) -> int:
        if error.details:
            sys.stderr.write(error.details)
        say(str(error))
        if self.options.reload:
            self._wait_for_change(error.files)
            return self._end(0)
        return self._end(1)

    def _wait_for_change(self, more: list[str]) -> None:
        """Wait until a file changes; the supervisor then starts another worker."""
        say("waiting for a file to change")
        files = FileWatch(more)
        # What has happened to signals and sockets until now does not matter.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._native_control.setblocking(False)
        while True:
            time.sleep(_TICK)
            path = files.changed()
            if path is not None:
                say(f"{path} has changed")
                self._native_control.setblocking(True)
                self._native_control.sendall(CHANGED)
                return
            try:
                # Whatever the supervisor says, or if it is gone: there is nothing to finish.
                message = self._native_control.recv(1)
            except BlockingIOError:
                continue
            if message in (STOP, b""):
                return

    def _end(self, status: int) -> int:
        if status:
            control: Any = getattr(self, "_control", self._native_control)
            try:
                control.sendall(FAILED)
            except OSError:
                pass
        return status

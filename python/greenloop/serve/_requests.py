"""What happens around the requests of a worker: what it is told of them, and tells others."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from greenloop._asgi_server import AsgiHost, HostedServer, environ_of
from greenloop._core import getcurrent

from ._access_log import AccessLog
from ._messages import say
from ._metrics import WorkerMetrics
from ._options import Options
from ._proxy import with_forwarded, with_forwarded_scope
from ._statsd import Statsd

__all__ = ["Requests", "Server"]

#: An attribute of greenlets that serve: the environment of the request they are at.
_ENVIRON = "_greenloop_serve_environ"


class Requests:
    """The requests of a worker.

    metrics: where they are counted. retire: called once there were enough of them.

    Raises OSError for a log that cannot be opened.
    """

    def __init__(
        self, options: Options, metrics: WorkerMetrics, retire: Callable[[], object]
    ) -> None:
        self._peers = options.forwarded_allow_ips if options.proxy_headers else None
        self._metrics = metrics if options.admin is not None else None
        self._log = self._statsd = None
        if options.access_log is not None:
            self._log = AccessLog(options.access_log, options.access_log_format)
        if options.statsd is not None:
            self._statsd = Statsd(options.statsd, options.statsd_prefix)
        self._retire = retire
        self._left = 0
        if options.max_requests:
            self._left = options.max_requests + random.randint(0, options.max_requests_jitter)
        self._in_progress = 0

    @property
    def are_recorded(self) -> bool:
        """Whether anybody wants to know of requests when they are over."""
        return bool(self._log or self._statsd or self._metrics or self._left)

    def wrap(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The application with what is to happen before it is called; as it is if that is
        nothing."""
        if self._peers is not None:
            application = with_forwarded(application, self._peers)
        if not self.are_recorded:
            return application

        def recorded(environ: dict[str, Any], start_response: Any) -> Any:
            self._in_progress += 1
            setattr(getcurrent(), _ENVIRON, environ)
            return application(environ, start_response)

        return recorded

    def wrap_asgi(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """As `wrap`, for an ASGI application."""
        if self._peers is not None:
            application = with_forwarded_scope(application, self._peers)
        if not self.are_recorded:
            return application

        def recorded(scope: dict[str, Any], receive: Any, send: Any) -> Any:
            self._in_progress += 1
            return application(scope, receive, send)

        return recorded

    def over_asgi(
        self, scope: Any, address: Any, line: str | None, status: int, length: int, seconds: float
    ) -> None:
        """A request to an ASGI application is over."""
        self._over(environ_of(scope), line, status, length, seconds)

    def over(
        self, address: Any, line: str | None, status: int, length: int, seconds: float
    ) -> None:
        """A request is over. Called in the greenlet that has called the application, if that was
        called."""
        greenlet = getcurrent()
        environ = greenlet.__dict__.pop(_ENVIRON, None)
        if environ is None:
            environ = {"REMOTE_ADDR": address[0] if isinstance(address, tuple) else ""}
            self._record(environ, line, status, length, seconds)
        else:
            self._over(environ, line, status, length, seconds)

    def _over(
        self, environ: Mapping[str, Any], line: str | None, status: int, length: int, seconds: float
    ) -> None:
        """A request that the application was called for is over."""
        self._in_progress -= 1
        if self._left:
            self._left -= 1
            if not self._left:
                self._retire()
        self._record(environ, line, status, length, seconds)

    def _record(
        self, environ: Mapping[str, Any], line: str | None, status: int, length: int, seconds: float
    ) -> None:
        if self._metrics is not None:
            self._metrics.count(status, length, seconds)
        if self._statsd is not None:
            self._statsd.count(status, seconds)
        if self._log is not None:
            self._log.write(environ, line, status, length, seconds)

    def tick(self, connections: int) -> None:
        """Tell of what goes up and down. Called now and then, with the number of connections."""
        if self._metrics is not None:
            self._metrics.set_connections(connections)
            self._metrics.set_in_progress(self._in_progress)
        if self._statsd is not None:
            self._statsd.flush()

    def reopen(self) -> None:
        """Open the access log anew."""
        if self._log is None:
            return
        try:
            self._log.reopen()
        except OSError as error:
            say(f"cannot open the access log {error.filename}: {error.strerror}")

    def close(self) -> None:
        """Send what is to be sent."""
        if self._statsd is not None:
            self._statsd.flush()


class Server(HostedServer):
    """A server whose requests are those of a worker."""

    def __init__(
        self,
        listener: Any,
        host: AsgiHost,
        requests: Requests,
        multiprocess: bool,
        **options: Any,
    ) -> None:
        self._requests = requests
        super().__init__(
            listener,
            host,
            # Something that is not None: lines are written by `requests`.
            log=_Recorded() if requests.are_recorded else None,
            environ={"wsgi.multiprocess": multiprocess},
            **options,
        )

    def _wrap_wsgi(self, application: Callable[..., Any]) -> Callable[..., Any]:
        return self._requests.wrap(application)

    def _wrap_asgi(self, application: Callable[..., Any]) -> Callable[..., Any]:
        return self._requests.wrap_asgi(application)

    def _on_over(self) -> Callable[..., Any] | None:
        return self._requests.over_asgi if self._requests.are_recorded else None

    def _log_access(
        self, address: Any, line: str | None, status: int, length: int, seconds: float
    ) -> None:
        self._requests.over(address, line, status, length, seconds)


class _Recorded:
    """Stands for a log that there is."""

    def write(self, msg: str) -> None:
        """Do nothing."""

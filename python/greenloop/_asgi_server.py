"""Servers whose applications may be ASGI ones: what runs these, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from greenloop import _core
from greenloop._asgi_interface import as_asgi3, detect
from greenloop._core import getcurrent
from greenloop._root_path import normal_mount_path, normal_root_path, quoted_path
from greenloop._wsgi_log import NoLog
from greenloop.hub import get_hub
from greenloop.pywsgi import WSGIHandler, WSGIServer

# asyncio is imported only where there is an ASGI application.
if TYPE_CHECKING:
    from greenloop._asgi_lifespan import Lifespan
    from greenloop.asyncio import EventLoop

__all__ = ["AsgiHost", "HostedServer", "environ_of"]


class _Hosted:
    """An application: of WSGI as it is, of ASGI with its lifespan."""

    def __init__(self, application: Callable[..., Any], interface: str, lifespan: str) -> None:
        self.original = application
        self.interface = detect(application) if interface == "auto" else interface
        self.is_asgi = self.interface != "wsgi"
        self.application = application
        self.lifespan: Lifespan | None = None
        if self.is_asgi:
            from greenloop._asgi_lifespan import Lifespan

            self.application = as_asgi3(application, self.interface)
            self.lifespan = Lifespan(self.application, lifespan)


class AsgiHost:
    """The applications of a server, or of several, and the loop that runs those of ASGI.

    application: the one for all that no mount is for; None for nothing but mounts. mounts: paths,
    and the applications for what is below. interface: "wsgi", "asgi", or "auto" to find out; of
    `application`. lifespan: "on", "off", or "auto", see `Lifespan`.

    Raises ValueError for paths that are none.
    """

    def __init__(
        self,
        application: Callable[..., Any] | None,
        mounts: Iterable[tuple[str, Callable[..., Any]]] = (),
        interface: str = "auto",
        lifespan: str = "auto",
    ) -> None:
        self.application = None
        if application is not None:
            self.application = _Hosted(application, interface, lifespan)
        found = {normal_mount_path(path): _Hosted(one, "auto", lifespan) for path, one in mounts}
        #: The longest path first: it is the one that fits best.
        self.mounts = dict(sorted(found.items(), key=lambda item: -len(item[0])))
        self.loop: EventLoop | None = None

    @property
    def is_asgi(self) -> bool:
        """Whether there is an application of ASGI."""
        return any(hosted.is_asgi for hosted in self._all())

    def _all(self) -> list[_Hosted]:
        own = [] if self.application is None else [self.application]
        return [*own, *self.mounts.values()]

    def start(self) -> None:
        """Have the applications start. Raises LifespanError if one cannot; others are stopped."""
        if self.loop is not None or not self.is_asgi:
            return
        from greenloop.asyncio import EventLoop, _hub_loop, wait

        loop = _hub_loop.current()
        if not isinstance(loop, EventLoop):
            raise RuntimeError(
                "ASGI applications need greenloop's event loop, and another one runs here: "
                f"{type(loop).__name__}"
            )
        self.loop = loop
        # As long as they are served, what they wait for is waited for.
        loop._change_waits(True)
        started: list[Lifespan] = []
        try:
            for hosted in self._all():
                if hosted.lifespan is not None:
                    wait(hosted.lifespan.startup(), loop=loop)
                    started.append(hosted.lifespan)
        except BaseException:
            self._shut_down(started)
            self._leave()
            raise

    def stop(self, *, is_last: bool = False) -> list[Exception]:
        """Have the applications stop. Returns what goes wrong with that.

        is_last: nothing else runs on the loop: what is left there is cancelled, as by
            `asyncio.run` in the end.
        """
        if self.loop is None:
            return []
        lifespans = [one.lifespan for one in self._all() if one.lifespan is not None]
        failures = self._shut_down(lifespans)
        if is_last:
            from greenloop._asgi_lifespan import clear
            from greenloop.asyncio import wait

            wait(clear(), loop=self.loop)
        self._leave()
        return failures

    def _shut_down(self, lifespans: list[Lifespan]) -> list[Exception]:
        from greenloop._asgi_lifespan import LifespanError
        from greenloop.asyncio import wait

        assert self.loop is not None
        failures: list[Exception] = []
        for lifespan in reversed(lifespans):
            try:
                wait(lifespan.shutdown(), loop=self.loop)
            except LifespanError as error:
                failures.append(error)
        return failures

    def _leave(self) -> None:
        loop, self.loop = self.loop, None
        assert loop is not None
        loop._change_waits(False)


class HostedServer(WSGIServer):
    """A server for the applications of a host, which has been started.

    As a `WSGIServer` otherwise; `handler_class` is its own. root_path: what is in front of all
    paths that are asked for, for clients; `environ` may have it as SCRIPT_NAME instead.
    """

    def __init__(
        self, listener: Any, host: AsgiHost, *, root_path: str = "", **options: Any
    ) -> None:
        if options.get("handler_class") is not None or self.handler_class is not WSGIHandler:
            raise TypeError("a server of ASGI applications has no handler_class")
        environ = dict(options.pop("environ", None) or {})
        if root_path:
            if "SCRIPT_NAME" in environ:
                raise TypeError("root_path and SCRIPT_NAME in environ mean the same")
            environ["SCRIPT_NAME"] = _as_wsgi_text(normal_root_path(root_path))
        self._host = host
        #: What the core has of each application, and the loop it was made for.
        self._of_core: dict[_Hosted, tuple[EventLoop | None, Any]] = {}
        application = None if host.application is None else host.application.original
        super().__init__(listener, application or _not_found, environ=environ, **options)

    @property
    def _root_path(self) -> str:
        """What is in front of all paths, for clients."""
        script_name: str = self.environ.get("SCRIPT_NAME", "")
        return script_name.encode("latin-1").decode("utf-8", "replace").rstrip("/")

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return 0 if self._core is None else self._core.connection_count

    def _served(self) -> Any:
        """What the core calls, or has the loop call."""
        hosted = self._host.application
        if hosted is None:
            return self.application
        if self.application is not hosted.original:
            # Set anew. It has no part in the lifespan.
            hosted = _Hosted(self.application, hosted.interface, "off")
            self._host.application = hosted
        return self._for_core(hosted, "")

    def _mounted(self) -> list[tuple[str, Any]]:
        return [(path, self._for_core(one, path)) for path, one in self._host.mounts.items()]

    def _for_core(self, hosted: _Hosted, path: str) -> Any:
        loop = self._host.loop
        if hosted.is_asgi and loop is None:
            # Before it is started: settings are looked at, and nothing is called.
            return _not_found
        made = self._of_core.get(hosted)
        if made is None or made[0] is not loop:
            made = self._of_core[hosted] = (loop, self._make_for_core(hosted, path, loop))
        return made[1]

    def _make_for_core(self, hosted: _Hosted, path: str, loop: EventLoop | None) -> Any:
        if hosted.lifespan is None or loop is None:
            return self._wrap_wsgi(hosted.application)
        root = self._root_path
        return _core.AsgiApplication(
            self._wrap_asgi(hosted.application),
            loop,
            scheme="https" if self.ssl_enabled else "http",
            root_path=root + path,
            path_prefix=root,
            raw_path_prefix=quoted_path(root),
            state=None if hosted.lifespan.mode == "off" else hosted.lifespan.state,
            on_over=self._on_over(),
        )

    def _wrap_wsgi(self, application: Callable[..., Any]) -> Callable[..., Any]:
        return application

    def _wrap_asgi(self, application: Callable[..., Any]) -> Callable[..., Any]:
        return application

    def _on_over(self) -> Callable[..., Any] | None:
        """What is called after each request of ASGI."""
        return None if isinstance(self.log, NoLog) else self._log_scope

    def _log_scope(
        self, scope: Any, address: Any, line: str | None, status: int, length: int, seconds: float
    ) -> None:
        self._log_access(address, line, status, length, seconds)

    # --- logs

    def _report_error(self, environ: Any, error: BaseException) -> None:
        super()._report_error(environ_of(environ), error)

    def _log_mistake(self, environ: Any, text: str) -> None:
        super()._log_mistake(environ_of(environ), text)

    # --- stopping

    def _drain(self, core: Any, end: float) -> None:
        super()._drain(core, end)
        self._finish_lingering(end)

    def _finish_lingering(self, end: float) -> None:
        """Wait for tasks that go on after their responses; cancel those that are left."""
        loop = self._host.loop
        if loop is None or getcurrent() is get_hub():
            return
        hosted = [made for _, made in self._of_core.values()]
        applications = [one for one in hosted if isinstance(one, _core.AsgiApplication)]
        tasks = {task for application in applications for task in application.lingering}
        if tasks:
            from greenloop._asgi_lifespan import finish
            from greenloop.asyncio import wait

            wait(finish(tasks, max(0.0, end - time.monotonic())), loop=loop)


def _as_wsgi_text(text: str) -> str:
    """The bytes of a text, a character each."""
    return text.encode().decode("latin-1")


def _not_found(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"there is nothing here\n"]


#: What logs and reports want to know of requests, and the headers that say it.
_HEADERS = {b"host": "HTTP_HOST", b"referer": "HTTP_REFERER", b"user-agent": "HTTP_USER_AGENT"}


def environ_of(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """What logs and reports want to know of a request's scope, as WSGI has it. An environment is
    returned as it is."""
    if "asgi" not in scope:
        return scope
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "PATH_INFO": scope.get("path"),
        "wsgi.url_scheme": scope.get("scheme"),
        "REMOTE_ADDR": "",
    }
    client = scope.get("client")
    if client:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    for name, value in scope.get("headers", ()):
        key = _HEADERS.get(name)
        if key is not None:
            environ[key] = value.decode("latin-1")
    return environ

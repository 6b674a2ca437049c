"""What servers have in common: accepting while others run, limits, starting and stopping. (As
gevent.baseserver.)
"""

from __future__ import annotations

import errno
import socket as __socket__
import sys
from collections.abc import Callable
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any

from greenloop._core import Greenlet, getcurrent
from greenloop.event import Event
from greenloop.greenlet import joinall, killall
from greenloop.hub import get_hub, sleep
from greenloop.pool import Pool

if TYPE_CHECKING:
    from typing import Self

__all__ = ["BaseServer"]

#: Seconds that `stop` gives to handlers that it has killed.
_KILL_TIMEOUT = 1.0


class BaseServer:
    """The base of servers: what they accept is handled by a greenlet each.

    listener: the address to listen on, see `parse_address`; or a socket that is bound to one.
    handle: called for what is accepted, with the arguments that the kind of server documents. A
        derived class may have a method `handle` instead. When it returns, what was accepted is
        closed: it must not return while others still use it.
    spawn: how handlers are started. "default": by `Greenlet.spawn`, any number of them. A number:
        that many at most, in a pool of the server's own. A `Pool`: in that. While a pool is full
        nothing is accepted. None: called by the hub at once, without a greenlet; such a handler
        must not wait. Any other callable, `spawn_raw` say: called with the handler and its
        arguments.

    A server can be used in a `with` statement, whose end stops it.

    Raises TypeError and ValueError for arguments that do not fit.
    """

    #: Seconds until the next try after an error in accepting or spawning; doubled each time, up
    #: to `max_delay`, until something is accepted. Negative: without a pause.
    min_delay = 0.01
    max_delay = 1
    #: How many are accepted before other greenlets get their turn. Processes that share a listener
    #: share connections more evenly if it is low.
    max_accept = 100
    #: Seconds that `stop` waits for handlers by default.
    stop_timeout: float = 1
    #: Numbers of errors in accepting after which the server closes.
    fatal_errors = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)

    #: The socket that is listened on. There is none while a server is closed that was given an
    #: address.
    socket: Any
    #: The address that is listened on.
    address: Any
    #: Its family.
    family: int
    #: The pool of the handlers, if they have one.
    pool: Any = None
    #: Seconds until the next try after the next error.
    delay: float
    #: Called with what was accepted.
    handle: Callable[..., Any]

    _spawn: Callable[..., Any] | None = Greenlet.spawn
    _handle: Callable[..., Any]
    _loop: Any = None
    _watcher: Any = None
    _timer: Any = None
    #: How many handlers have been started and have not begun, or were killed before they did.
    _beginning = 0

    def __init__(
        self,
        listener: Any,
        handle: Callable[..., Any] | None = None,
        spawn: Any = "default",
    ) -> None:
        self._stop_event = Event()
        self._stop_event.set()
        self.set_listener(listener)
        self.set_spawn(spawn)
        self.set_handle(handle)
        self.delay = self.min_delay

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- what it is made of

    def set_listener(self, listener: Any) -> None:
        """Set what to listen on: an address, or a bound socket. To be called before `start`.

        Raises TypeError, also for a TLS socket, and ValueError.
        """
        if not hasattr(listener, "getsockname"):
            self.family, self.address = parse_address(listener)
            return
        if hasattr(listener, "do_handshake"):
            raise TypeError(f"Expected a plain socket, not a TLS one: {listener!r}")
        self.family = listener.family
        self.address = listener.getsockname()
        self.socket = listener

    def set_spawn(self, spawn: Any) -> None:
        """Set how handlers are started, see the class. Raises TypeError, ValueError."""
        self.__dict__.pop("full", None)
        self.pool = None
        if isinstance(spawn, str):
            if spawn != "default":
                raise TypeError(f"invalid spawn: {spawn!r}")
            self.__dict__.pop("_spawn", None)
            return
        if isinstance(spawn, int):
            spawn = Pool(spawn)
        if hasattr(spawn, "spawn"):
            self.pool = spawn
            self._spawn = spawn.spawn
            if hasattr(spawn, "full"):
                self.full = spawn.full  # type: ignore[method-assign]
        elif spawn is None or callable(spawn):
            self._spawn = spawn
        else:
            raise TypeError(f"invalid spawn: {spawn!r}")

    def set_handle(self, handle: Callable[..., Any] | None) -> None:
        """Set what handles the connections, or datagrams, from now on. None: the method `handle`
        of the class, or what was set before. Raises TypeError if there is none."""
        if handle is not None:
            if not callable(handle):
                raise TypeError(f"'handle' must be callable: {handle!r}")
            self.handle = handle
        elif not hasattr(self, "handle"):
            raise TypeError("'handle' must be provided")
        self._handle = self._handler()

    def _handler(self) -> Callable[..., Any]:
        """What is called with what was accepted, on behalf of `handle`."""
        return self.handle

    @property
    def loop(self) -> Any:
        """The loop that tells when to accept: that of the hub, unless it is set."""
        return get_hub().loop if self._loop is None else self._loop

    @loop.setter
    def loop(self, loop: Any) -> None:
        self._loop = loop

    # --- what kinds of servers define

    def init_socket(self) -> None:
        """Make the socket, bind it, have it listen. Called by `start`; does nothing if a listening
        socket was given. Before processes are forked that shall share the socket, call it oneself.
        """

    def do_read(self) -> tuple[Any, ...] | None:
        """Accept, without waiting: return the arguments for the handler, or None if there is
        nothing to accept."""
        raise NotImplementedError

    def _has_more(self) -> bool:
        """Whether there may be more to accept at once."""
        return True

    def do_close(self, *args: Any) -> None:
        """Close what was accepted. Gets the arguments of the handler."""

    # --- accepting

    def start_accepting(self) -> None:
        """Accept from now on. `start` does it; of use after `stop_accepting`."""
        if self._watcher is None:
            self._watcher = self.loop.io(self.socket.fileno(), 1)
            self._watcher.start(self._do_read)

    def stop_accepting(self) -> None:
        """Accept nothing for the time being: connections wait in the queue of the system."""
        for name in ("_watcher", "_timer"):
            watcher = self.__dict__.pop(name, None)
            if watcher is not None:
                watcher.stop()
                watcher.close()

    def _start_accepting_if_started(self, _: Any = None) -> None:
        if self.started:
            self.stop_accepting()  # the timer, that is
            self.start_accepting()

    def _pause(self, delay: float) -> None:
        """Accept nothing for some seconds."""
        self.stop_accepting()
        self._timer = self.loop.timer(delay)
        self._timer.start(self._start_accepting_if_started)

    def full(self) -> bool:
        """Whether nothing is accepted for the moment, as the pool is full."""
        return False

    def _until_not_full(self) -> None:
        semaphore: Any = getattr(self.pool, "_semaphore", None)
        if hasattr(semaphore, "rawlink"):
            self.stop_accepting()
            semaphore.rawlink(self._start_accepting_if_started)
        else:
            self._pause(self.min_delay)

    def _do_read(self) -> None:
        """Accept what there is. Called by the hub."""
        for _ in range(self.max_accept):
            if self.full():
                self._until_not_full()
                return
            args: tuple[Any, ...] | None = None
            try:
                args = self.do_read()
                self.delay = self.min_delay
                if not args:
                    return
                self.do_handle(*args)
            except BaseException as error:
                context = self if args is None else (args[1:], self)
                get_hub().handle_error(context, *sys.exc_info())
                if args is None and self.is_fatal_error(error):
                    self.close()
                    sys.stderr.write(f"ERROR: {self} failed with {error}\n")
                elif self.started and self.delay >= 0:
                    self._pause(self.delay)
                    self.delay = min(self.max_delay, self.delay * 2)
                return
            if self._watcher is None or not self._has_more():
                return

    def do_handle(self, *args: Any) -> None:
        """Have what was accepted handled, and closed after that."""
        spawn, handle, close = self._spawn, self._handle, self.do_close
        self._beginning += 1
        if spawn is None:
            self._handle_and_close(handle, close, args)
            return
        try:
            spawn(self._handle_and_close, handle, close, args)
        except BaseException:
            self._beginning -= 1
            close(*args)
            raise

    def _handle_and_close(
        self, handle: Callable[..., Any], close: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        self._beginning -= 1
        try:
            return handle(*args)
        finally:
            close(*args)

    def is_fatal_error(self, ex: BaseException) -> bool:
        """Whether the server is to close after an error in accepting."""
        return isinstance(ex, OSError) and ex.errno in self.fatal_errors

    # --- starting and stopping

    @property
    def started(self) -> bool:
        """Whether it has been started, and not been stopped since."""
        return not self._stop_event.is_set()

    @property
    def closed(self) -> bool:
        """Whether there is no socket to listen on."""
        return "socket" not in self.__dict__

    def start(self) -> None:
        """Begin to accept. A server that was given an address makes its socket now. Nothing happens
        if it has been started.

        A stopped server can be started again: it listens on the same address, and port, as before.

        Raises OSError if the address cannot be had.
        """
        if self.started:
            return
        self.init_socket()
        self._stop_event.clear()
        try:
            self.start_accepting()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Accept nothing any more, and close the socket. Handlers go on; those that have not begun
        yet do so first, as they may ask the socket for its name."""
        self._stop_event.set()
        self.stop_accepting()
        try:
            if self._beginning and getcurrent() is not get_hub():
                sleep(0)
        finally:
            sock = self.__dict__.pop("socket", None)
            if sock is not None:
                sock.close()

    def stop(self, timeout: float | None = None) -> None:
        """Close; if the handlers are in a pool, wait for them to end, and kill those that do not.

        timeout: how many seconds to wait for them; None for `stop_timeout`. A handler that calls
            this does not wait for itself.

        Handlers without a pool go on. Nothing happens if it has been stopped.
        """
        self.close()
        if not self.pool:
            return
        if timeout is None:
            timeout = self.stop_timeout
        members = getattr(self.pool, "greenlets", None)
        if members is None:
            self.pool.join(timeout=timeout)
            self.pool.kill(block=True, timeout=_KILL_TIMEOUT)
            return
        me = getcurrent()
        joinall([member for member in members if member is not me], timeout=timeout)
        killall([member for member in members if member is not me], timeout=_KILL_TIMEOUT)

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start the server if it has not been started, and wait until it is stopped.

        stop_timeout: how many seconds to wait for handlers then, see `stop`. If the wait is ended
            by an exception, Ctrl-C say, the server is stopped before it is raised.
        """
        if not self.started:
            self.start()
        try:
            self._stop_event.wait()
        finally:
            # In a greenlet of its own: this one may be about to be killed once more.
            Greenlet.spawn(self.stop, timeout=stop_timeout).join()

    # --- what to tell of it

    @property
    def server_host(self) -> str | None:
        """The IP address that the server listens on; None if it has none."""
        return self.address[0] if isinstance(self.address, tuple) else None

    @property
    def server_port(self) -> int | None:
        """The port that the server listens on; None if it has none. That which the system chose
        for port 0 is known from `start` on."""
        return self.address[1] if isinstance(self.address, tuple) else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} {self._formatinfo()}>"

    def __str__(self) -> str:
        return f"<{type(self).__name__} {self._formatinfo()}>"

    def _formatinfo(self) -> str:
        """What is said of it in its representation."""
        parts = []
        if not self.closed:
            try:
                parts.append(f"fileno={self.socket.fileno()}")
            except Exception as error:
                parts.append(f"fileno={error!r}")
        address = self.address
        if isinstance(address, tuple) and len(address) == 2:
            parts.append(f"address={address[0]}:{address[1]}")
        else:
            parts.append(f"address={address}")
        handle = self.__dict__.get("handle")
        if isinstance(handle, MethodType) and handle.__self__ is self:
            function = handle.__func__
            name = getattr(function, "__qualname__", function)
            parts.append(f"handle=<bound method {name} of self>")
        elif handle is not None:
            parts.append(f"handle={handle!r}")
        return " ".join(parts)


def parse_address(address: Any) -> tuple[int, Any]:
    """The family of an address, and the address as sockets take it.

    address: a tuple of host and port. Or a port only, a number or text, for all addresses of the
        machine, of IPv6 where there is it as well as of IPv4. Or a text: "host:port",
        "[IPv6 address]:port", "*:port" or ":port" for all IPv4 addresses. Or the path of a
        Unix-domain socket: a text that begins with "/", "unix:", or a zero byte for the abstract
        namespace.

    Raises ValueError for other texts, TypeError for anything else.
    """
    if isinstance(address, tuple):
        # All addresses are those of IPv6 too.
        is_ipv6 = not address[0] or ":" in address[0]
        return (__socket__.AF_INET6 if is_ipv6 else __socket__.AF_INET), address
    if isinstance(address, int):
        return __socket__.AF_INET6, ("", int(address))
    if not isinstance(address, str):
        raise TypeError(f"Expected tuple or string, got {type(address)}")
    if address.startswith(("/", "\0")):
        return __socket__.AF_UNIX, address
    if address.startswith("unix:"):
        return __socket__.AF_UNIX, address.removeprefix("unix:")
    try:
        if ":" not in address:
            return __socket__.AF_INET6, ("", int(address))
        host, _, port = address.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        family = __socket__.AF_INET6 if ":" in host else __socket__.AF_INET
        return family, ("" if host == "*" else host, int(port))
    except ValueError as error:
        raise ValueError(f"Failed to parse address {address!r}: {error}") from None

"""Cooperative sockets: the standard :mod:`socket` module, blocking one greenlet only.

Everything the standard module has is here under the same name. `socket` is a subclass of the
standard class; its descriptor is non-blocking all the time, and a call that would block parks the
calling greenlet until the descriptor is ready. (As gevent.socket.)
"""

from __future__ import annotations

import _socket
import errno
import io
import os
import socket as __socket__
from collections.abc import Callable
from time import monotonic_ns
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from greenloop import _core
from greenloop._socket_event import READ as _READ
from greenloop._socket_event import WRITE as _WRITE
from greenloop._socket_event import SocketEvent
from greenloop.exceptions import ConcurrentObjectUseError
from greenloop.hub import Hub, get_hub
from greenloop.resolver import AbstractResolver
from greenloop.resolver._numeric import is_numeric
from greenloop.timeout import Timeout

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What the standard module has besides is put into the namespace below."""


#: Names that replace those of the standard module when it is patched.
__implements__ = [
    "create_connection",
    "create_server",
    "has_dualstack_ipv6",
    "socket",
    "fromfd",
    "socketpair",
    "getaddrinfo",
    "gethostbyname",
    "gethostbyname_ex",
    "gethostbyaddr",
    "getnameinfo",
    "getfqdn",
]

#: Those of `__implements__` that look names up.
__dns__ = [
    "getaddrinfo",
    "gethostbyname",
    "gethostbyname_ex",
    "gethostbyaddr",
    "getnameinfo",
    "getfqdn",
]

#: Names that the standard module does not have.
__extensions__ = ["cancel_wait", "wait_read", "wait_write", "wait_readwrite"]

#: Names taken over from the standard module as they are. (`SocketType` is our class here, as in
#: gevent. There it stays the C class, the base of all sockets: of those made before patching too.)
__imports__ = [
    name
    for name in dir(__socket__)
    if not name.startswith("__") and name not in __implements__ and name != "SocketType"
]

for _name in __imports__:
    globals().setdefault(_name, getattr(__socket__, _name))
del _name

__all__ = sorted(
    {name for name in [*__socket__.__all__, *__implements__] if hasattr(__socket__, name)}
    | set(__extensions__)
)

_Address = Any


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class _DefaultError:
    """Stands for the error raised when no other is asked for."""


_DEFAULT_ERROR = _DefaultError()


class cancel_wait_ex(OSError):  # noqa: N801 -- gevent's name
    """Raised in a greenlet whose wait for a descriptor was ended by another greenlet."""

    def __init__(self) -> None:
        super().__init__(errno.EBADF, "File descriptor was closed in another greenlet")


class socket(__socket__.socket):  # noqa: N801 -- the standard name
    """A socket whose calls block the calling greenlet only.

    It has everything the standard class has, with the same meaning, timeouts included. If a
    greenlet closes a socket (or shuts it down) that another waits on, the other gets an OSError
    (EBADF). Two greenlets must not wait for the same direction of one socket:
    ConcurrentObjectUseError is raised in the second.
    """

    __slots__ = ("_state",)

    _state: _core.SocketState

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        timeout = _socket.getdefaulttimeout()
        if fileno is None:
            if type == -1:
                type = _socket.SOCK_STREAM
            elif type & _socket.SOCK_NONBLOCK:
                timeout = 0.0
            super().__init__(family, type | _socket.SOCK_NONBLOCK, proto)
        else:
            if type != -1 and type & _socket.SOCK_NONBLOCK:
                timeout = 0.0
            super().__init__(family, type, proto, fileno)
            _socket.socket.setblocking(self, False)
        self._state = _core.SocketState(self.fileno(), _family(self), timeout)

    # recv, recv_into, recvfrom, recvfrom_into, recvmsg, recvmsg_into, _accept, send, sendall,
    # sendto, sendmsg and sendmsg_afalg are put on the class by the core, below.

    def accept(self) -> tuple[socket, _Address]:
        """Wait for a connection: return a new socket for it, and the address of the peer."""
        fd, address = self._accept()  # type: ignore[attr-defined]
        return _connection(self, fd), address

    def connect(self, address: _Address, /) -> None:
        """Connect to an address. Raise OSError if that fails, TimeoutError if it takes longer
        than the timeout."""
        error = self._internal_connect(address)
        if error:
            raise OSError(error, os.strerror(error))

    def connect_ex(self, address: _Address, /) -> int:
        """As `connect`, but return the error's number (0 for success) where `connect` would raise
        OSError. Errors of name lookup are raised all the same."""
        try:
            return self._internal_connect(address)
        except __socket__.gaierror:
            raise
        except TimeoutError:
            return errno.EAGAIN
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno

    def _internal_connect(self, address: _Address) -> int:
        state = self._state
        address = _resolved(self, address)
        deadline = state.deadline()
        pause = 0.001
        has_waited = False
        while True:
            # Made again after the wait, the call tells how the attempt ended, and leaves the socket
            # as a blocking call would. (Asking for SO_ERROR would not.)
            error = _socket.socket.connect_ex(self, address)
            if state.timeout == 0.0:
                return error
            if error in (errno.EINPROGRESS, errno.EALREADY, errno.EINTR):
                state.wait_ready(self, _WRITE, deadline)
                has_waited = True
                continue
            if error == errno.EISCONN and has_waited:
                return 0
            if error != errno.EAGAIN or _family(self) != _socket.AF_UNIX:
                return error
            # The listener's queue is full, and the system tells nobody when it has room again.
            pause = _pause_before_retry(pause, deadline)

    def bind(self, address: _Address, /) -> None:
        """Bind the socket to a local address. A host name is looked up cooperatively."""
        super().bind(_resolved(self, address))

    def settimeout(self, value: float | None, /) -> None:
        """Set the seconds that a call may wait; None for no limit, 0 for not at all.

        Raises OSError if the socket is closed.
        """
        self._state.timeout = value
        # As the standard method, this fails if there is no descriptor; and sets right what another
        # process that has it may have changed.
        _socket.socket.setblocking(self, False)

    def gettimeout(self) -> float | None:
        """The seconds that a call may wait; None for no limit."""
        return self._state.timeout

    def setblocking(self, flag: bool, /) -> None:
        """Have calls wait without limit, or (False) not at all. As `settimeout`."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Whether calls wait."""
        return self._state.timeout != 0.0

    timeout = property(gettimeout, settimeout, doc="The timeout in seconds, or None.")

    def shutdown(self, how: int, /) -> None:
        """Shut down one or both halves of the connection. Greenlets that wait for a half that is
        shut down get an OSError."""
        super().shutdown(how)
        self._state.cancel_waits(
            {_socket.SHUT_RD: _READ, _socket.SHUT_WR: _WRITE}.get(how, _READ | _WRITE)
        )

    @property
    def closed(self) -> bool:
        """Whether the socket has been closed or detached."""
        return self._closed  # type: ignore[attr-defined, no-any-return]

    @property
    def ref(self) -> bool:
        """Whether greenlets that wait for the socket keep the loop running: True at first.

        If it is False, waits that begin from then on do not count: a hub that only has such waits
        left has nothing to do.
        """
        return self._state.ref

    @ref.setter
    def ref(self, value: bool) -> None:
        self._state.ref = value

    # Programs and packages for gevent use these. There they are the parts that its sockets are
    # made of.

    @property
    def hub(self) -> Hub:
        """The calling thread's hub: sockets belong to none."""
        hub: Hub = get_hub()
        return hub

    @property
    def _sock(self) -> socket:
        """The socket itself: there is no other one inside."""
        return self

    @property
    def _read_event(self) -> SocketEvent:
        """What calls wait for that read."""
        return SocketEvent(self, _READ)

    @property
    def _write_event(self) -> SocketEvent:
        """What calls wait for that write."""
        return SocketEvent(self, _WRITE)

    def _wait(self, watcher: Any, timeout_exc: object = _DEFAULT_ERROR) -> None:
        """The function `wait` with the socket's timeout."""
        wait(watcher, self._state.timeout, timeout_exc)

    def _real_close(self, _ss: Any = _socket.socket) -> None:
        # Uses no globals: it may run while the interpreter shuts down.
        self._state.release()
        _ss.close(self)

    def detach(self) -> int:
        """Give the descriptor away: return it, and leave the socket closed.

        A system call on the descriptor blocks unless the socket had a timeout, as after the
        standard method.
        """
        state = self._state
        state.release()
        fd = super().detach()
        if fd != -1 and state.timeout is None and not state.passes_on:
            os.set_blocking(fd, True)
        return fd

    def _sendfile_use_sendfile(
        self, file: _HasFileno, offset: int = 0, count: int | None = None
    ) -> int:
        # As the standard method, which would wait in a system call.
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
        try:
            fileno = file.fileno()
            size = os.fstat(fileno).st_size
        except (AttributeError, io.UnsupportedOperation, OSError) as error:
            raise __socket__._GiveupOnSendfile(error) from error  # type: ignore[attr-defined]
        state = self._state
        if size == 0:
            return 0
        if state.timeout == 0.0:
            raise ValueError("non-blocking sockets are not supported")
        chunk = min(count or size, 2**30)
        total = 0
        try:
            while count is None or total < count:
                if count is not None:
                    chunk = min(count - total, chunk)
                try:
                    sent = os.sendfile(self.fileno(), fileno, offset + total, chunk)
                except BlockingIOError:
                    # The timeout is for each wait, as in the standard method.
                    state.wait(self, _WRITE, state.deadline())
                    continue
                except OSError as error:
                    if total == 0:
                        raise __socket__._GiveupOnSendfile(error) from error  # type: ignore[attr-defined]
                    raise
                if sent == 0:
                    break
                total += sent
            return total
        finally:
            if total > 0 and hasattr(file, "seek"):
                file.seek(offset + total)


_core._attach_socket_methods(socket)

SocketType: type[socket] = socket

#: The C class' own family: a plain int, without the making of an enum member.
_family: Callable[[__socket__.socket], int] = _socket.socket.family.__get__


def _connection(listener: socket, fd: int) -> socket:
    """The socket of an accepted connection, whose descriptor is non-blocking already."""
    connection = socket.__new__(socket)
    kind = _type(listener) | _socket.SOCK_NONBLOCK
    try:
        __socket__.socket.__init__(connection, _family(listener), kind, listener.proto, fd)
    except BaseException:
        os.close(fd)
        raise
    connection._state = _core.SocketState(fd, _family(listener), _socket.getdefaulttimeout())
    return connection


_type: Callable[[__socket__.socket], int] = _socket.socket.type.__get__


def _pause_before_retry(pause: float, deadline: int | None) -> float:
    """Sleep for up to `pause` seconds; return how long to sleep the next time."""
    if deadline is not None:
        left = (deadline - monotonic_ns()) / 1e9
        if left <= 0:
            raise TimeoutError("timed out")
        pause = min(pause, left)
    _core.sleep(pause)
    return min(pause * 2, 0.05)


# ---------------------------------------------------------------------------------------------
# Names


def _resolved(sock: socket, address: _Address) -> _Address:
    """The address with its host name looked up. What is no host name is left as it is, the errors
    of malformed addresses to the system call."""
    family = _family(sock)
    if family not in (_socket.AF_INET, _socket.AF_INET6):
        return address
    if not isinstance(address, tuple) or len(address) < 2:
        return address
    host = address[0]
    if isinstance(host, bytearray):
        host = bytes(host)
    if not isinstance(host, (str, bytes)) or not host or host == "<broadcast>":
        return address
    if is_numeric(host, family):
        return address
    found = getaddrinfo(host, None, family)[0][4]
    if family == _socket.AF_INET6 and len(address) == 2:
        return (found[0], address[1], *found[2:])
    return (found[0], *address[1:])


def _resolver() -> AbstractResolver:
    resolver: AbstractResolver = get_hub().resolver
    return resolver


def getaddrinfo(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[Any, Any, int, str, _Address]]:
    """Resolve host and port into a list of `(family, type, proto, canonname, sockaddr)`.

    The hub's resolver looks them up, and blocks the calling greenlet only. Raises gaierror.
    """
    found = _resolver().getaddrinfo(host, port, family, type, proto, flags)
    return [(_FAMILIES.get(af, af), _KINDS.get(kind, kind), *rest) for af, kind, *rest in found]


#: Members by value: calling an enum takes longer than converting an address in digits.
_FAMILIES: dict[int, int] = {member.value: member for member in __socket__.AddressFamily}
_KINDS: dict[int, int] = {member.value: member for member in __socket__.SocketKind}


def gethostbyname(hostname: str) -> str:
    """The IPv4 address of a host. Raises gaierror."""
    return _resolver().gethostbyname(hostname)


def gethostbyname_ex(hostname: str) -> tuple[str, list[str], list[str]]:
    """`(name, aliases, addresses)` of a host. Raises gaierror."""
    return _resolver().gethostbyname_ex(hostname)


def gethostbyaddr(ip_address: str) -> tuple[str, list[str], list[str]]:
    """`(name, aliases, addresses)` of the host with an address. Raises herror, gaierror."""
    return _resolver().gethostbyaddr(ip_address)


def getnameinfo(sockaddr: _Address, flags: int) -> tuple[str, str]:
    """`(host, port)` of a socket address. Raises gaierror."""
    return _resolver().getnameinfo(sockaddr, flags)


# ---------------------------------------------------------------------------------------------
# Functions that the standard module writes in terms of the above


def _rebound(name: str) -> Any:
    """A function of the standard module, with this module as its global names: it makes our
    sockets, calls our functions, and is otherwise the running Python's own."""
    original = getattr(__socket__, name)
    function = FunctionType(
        original.__code__, globals(), name, original.__defaults__, original.__closure__
    )
    function.__kwdefaults__ = original.__kwdefaults__
    return function


_STANDARD = {
    name: (getattr(__socket__, name), _rebound(name))
    for name in ("create_server", "has_dualstack_ipv6", "fromfd", "getfqdn")
}


def _standard(function: Any) -> Any:
    """The standard module's function that one of ours stands for."""
    name = function.__name__
    original, rebound = _STANDARD[name]
    # Once ours stands in the standard module, the names there hold: ours as a rule, and whatever
    # the program has put in their place.
    return original if getattr(__socket__, name) is function else rebound


def create_server(
    address: _Address,
    *,
    family: int = __socket__.AF_INET,
    backlog: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> socket:
    """Return a TCP socket that is bound to an address and listens.

    address: `(host, port)`; host '' stands for all interfaces.
    family: AF_INET or AF_INET6.
    backlog: as for `socket.listen`.
    reuse_port: set SO_REUSEPORT.
    dualstack_ipv6: have a socket of AF_INET6 accept IPv4 connections too. ValueError where that is
        not possible.

    Raises OSError.
    """
    return _standard(create_server)(  # type: ignore[no-any-return]
        address,
        family=family,
        backlog=backlog,
        reuse_port=reuse_port,
        dualstack_ipv6=dualstack_ipv6,
    )


def has_dualstack_ipv6() -> bool:
    """Whether a socket of AF_INET6 can accept IPv4 connections too."""
    return _standard(has_dualstack_ipv6)()  # type: ignore[no-any-return]


def fromfd(fd: int, family: int, type: int, proto: int = 0) -> socket:
    """Return a socket on a duplicate of a descriptor, whose family, type and protocol are given."""
    return _standard(fromfd)(fd, family, type, proto)  # type: ignore[no-any-return]


def getfqdn(name: str = "") -> str:
    """Return the fully qualified domain name of a host, of this one by default; `name` itself if
    none is found."""
    return _standard(getfqdn)(name)  # type: ignore[no-any-return]


def create_connection(
    address: tuple[str | None, int | str | None],
    timeout: float | None = __socket__._GLOBAL_DEFAULT_TIMEOUT,  # type: ignore[attr-defined]
    source_address: _Address = None,
    *,
    all_errors: bool = False,
) -> socket:
    """Connect to a TCP service: return the socket.

    address: `(host, port)`. All addresses of a host are tried in turn.
    timeout: the socket's timeout in seconds; by default `getdefaulttimeout()`.
    source_address: `(host, port)` to bind the socket to; host '' or port 0 stand for any.
    all_errors: if no address could be connected to, raise an ExceptionGroup of all errors, instead
        of the last one.

    Raises OSError. Whatever ends the attempt, a Timeout or GreenletExit too, no socket stays open.
    """
    host, port = address
    make, find = _in_use("socket"), _in_use("getaddrinfo")
    errors: list[OSError] = []
    for family, kind, proto, _, target in find(host, port, 0, _socket.SOCK_STREAM):
        sock = None
        try:
            sock = make(family, kind, proto)
            if timeout is not __socket__._GLOBAL_DEFAULT_TIMEOUT:  # type: ignore[attr-defined]
                sock.settimeout(timeout)
            if source_address:
                sock.bind(source_address)
            sock.connect(target)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            errors.append(error)
        else:
            return sock  # type: ignore[no-any-return]
    try:
        if not errors:
            raise OSError("getaddrinfo returns an empty list")
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        raise errors[-1]
    finally:
        # The errors refer to this frame.
        del errors


#: What programs replace, with what stands there unless they do: the standard module's, ours.
_REPLACEABLE = {
    "socket": (__socket__.socket, socket),
    "getaddrinfo": (__socket__.getaddrinfo, getaddrinfo),
}


def _in_use(name: str) -> Any:
    """The class or function of a name that a program means: what it has put in the place of ours,
    here or, once that is patched, in the standard module."""
    standard, own = _REPLACEABLE[name]
    here = globals()[name]
    if here is own and __socket__.create_connection is create_connection:
        there = getattr(__socket__, name)
        if there is not standard:
            return there
    return here


def socketpair(
    family: int | None = None, type: int = _socket.SOCK_STREAM, proto: int = 0
) -> tuple[socket, socket]:
    """A pair of connected sockets; of family AF_UNIX by default."""
    if family is None:
        family = _socket.AF_UNIX
    first, second = _socket.socketpair(family, type, proto)
    return (
        socket(family, type, proto, first.detach()),
        socket(family, type, proto, second.detach()),
    )


# ---------------------------------------------------------------------------------------------
# Waiting for descriptors


def _wait_for(fileno: int, events: int, timeout: float | None, error: object) -> None:
    if timeout is not None and timeout < 0:
        timeout = None
    if _core._wait_fd(fileno, events, timeout):
        return
    _raise_timeout(timeout, error)


def _raise_timeout(seconds: float | None, error: object) -> None:
    if error is _DEFAULT_ERROR:
        raise TimeoutError("timed out")
    if error is False:
        return
    if error is None or error is True:
        raise Timeout(seconds)
    if isinstance(error, str):
        raise Timeout(seconds, error)
    raise error  # type: ignore[misc]


def wait_read(
    fileno: int, timeout: float | None = None, timeout_exc: object = _DEFAULT_ERROR
) -> None:
    """Block the calling greenlet until a descriptor is ready to read.

    After `timeout` seconds `timeout_exc` is raised: an exception class or instance, None for a
    gevent Timeout, False for nothing; TimeoutError by default.
    """
    _wait_for(fileno, _READ, timeout, timeout_exc)


def wait_write(
    fileno: int,
    timeout: float | None = None,
    timeout_exc: object = _DEFAULT_ERROR,
    event: object = None,
) -> None:
    """Block the calling greenlet until a descriptor is ready to write. See `wait_read`; `event`
    is ignored."""
    _wait_for(fileno, _WRITE, timeout, timeout_exc)


def wait_readwrite(
    fileno: int,
    timeout: float | None = None,
    timeout_exc: object = _DEFAULT_ERROR,
    event: object = None,
) -> None:
    """Block the calling greenlet until a descriptor is ready to read or to write. See
    `wait_read`; `event` is ignored."""
    _wait_for(fileno, _READ | _WRITE, timeout, timeout_exc)


def wait(
    watcher: Any,
    timeout: float | None = None,
    timeout_exc: object = _DEFAULT_ERROR,
    hub: object = None,
) -> None:
    """Block the calling greenlet until a watcher (of `hub.loop`) that is not started fires.

    After `timeout` seconds `timeout_exc` is raised, as for `wait_read`. `hub` is ignored. Raises
    ConcurrentObjectUseError if the watcher is started already.
    """
    if watcher.callback is not None:
        raise ConcurrentObjectUseError(
            f"This socket is already used by another greenlet: {watcher.callback!r}"
        )
    clock = Timeout.start_new(None if timeout is None or timeout < 0 else timeout)
    try:
        get_hub().wait(watcher)
    except Timeout as error:
        if error is not clock:
            raise
    else:
        return
    finally:
        clock.close()
    _raise_timeout(timeout, timeout_exc)


def cancel_wait(watcher: Any, error: type[BaseException] | BaseException = cancel_wait_ex) -> None:
    """End another greenlet's `wait` for a watcher by an exception. Does nothing if nobody waits,
    or `watcher` is None."""
    if watcher is not None:
        get_hub().cancel_wait(watcher, error)

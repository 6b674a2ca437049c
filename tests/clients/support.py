"""What every check does with a client library. Runs in a patched process, see run_check.py.

A library's module in `libraries` has a class `Library`, which makes calls that the server holds at
a gate, and counts them as the server sees them. The checks do the rest.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

if "gevent" in sys.modules:
    import gevent
else:  # the process runs without the drop-in
    import greenloop as gevent

HOST = "127.0.0.1"
_numbers = count(1)


def unique() -> int:
    """A number that no other process has at the same time, below 2**31."""
    return (os.getpid() << 8 | next(_numbers)) & 0x7FFFFFFF


def answer_to(number: int) -> str:
    """What the tests' own servers answer."""
    return f"answer {number} " * 20


@dataclass
class Where:
    """Where the servers are."""

    #: The server's port, or that of the proxy before it.
    port: int
    #: The server's port.
    direct: int
    #: Where to control gates and the proxy.
    control: int
    #: What else there is to say about the server.
    more: dict[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str | None:
        """The file with the authority's certificate, if clients have to speak TLS."""
        return self.more.get("authority")

    def tls(self) -> ssl.SSLContext | None:
        """A context of the standard library, if clients have to speak TLS."""
        return ssl.create_default_context(cafile=self.authority) if self.authority else None

    def tell(self, line: str) -> str:
        """Give the test process an order, and return its answer."""
        with socket.create_connection((HOST, self.control)) as connection:
            connection.sendall(f"{line}\n".encode())
            return connection.makefile().readline().strip()


class Gate:
    """Holds calls at one of the tests' own servers, which the test process has the control of."""

    def __init__(self, where: Where) -> None:
        self.key = f"gate{unique()}"
        self.where = where

    def held(self) -> int:
        """How many calls the server holds."""
        return int(self.where.tell(f"held {self.key}"))

    def open(self) -> None:
        """Let them go on."""
        self.where.tell(f"open {self.key}")


class Library:
    """How to make calls with a client library."""

    #: How many calls are made at once: if there is a pool, that is its size.
    size = 100
    #: What is raised when the server goes away.
    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, where: Where) -> None:
        self.where = where

    def gate(self) -> Any:
        """A gate that is closed."""
        return Gate(self.where)

    def call(self, gate: Any, number: int) -> None:
        """Make a call that is held at the gate, and see that the answer is right."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open."""


def outcome(call: Callable[..., None], *args: object) -> BaseException | None:
    """What a call raises."""
    try:
        call(*args)
    except BaseException as error:
        return error
    return None


def begin(library: Library, gate: Any, size: int) -> list[Any]:
    """Have so many calls held at the gate, all at once."""
    calls = [gevent.spawn(outcome, library.call, gate, number) for number in range(size)]
    while gate.held() != size:
        for call in calls:
            if call.ready():
                raise call.value or AssertionError("a call came through a closed gate")
        gevent.sleep(0.02)
    return calls


def finish(gate: Any, calls: list[Any]) -> None:
    """Open the gate, and see that all calls come to their end."""
    gate.open()
    for error in [call.get() for call in calls]:
        if error is not None:
            raise error


def sockets() -> list[str]:
    """The sockets that are open, as the system sees them."""
    gc.collect()
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return sorted(found)


def overlap(library: Library) -> None:
    """All calls are under way at once."""
    gate = library.gate()
    finish(gate, begin(library, gate, library.size))


def timeouts(library: Library) -> None:
    """Every call runs into a Timeout at the server. Afterwards as many are possible as before."""
    gate = library.gate()
    calls = begin(library, gate, library.size)
    limits = [gevent.Timeout() for _ in calls]
    for call, limit in zip(calls, limits, strict=True):
        call.kill(limit, block=False)
    for call, limit in zip(calls, limits, strict=True):
        if call.get() is not limit:
            raise AssertionError(f"not the timeout: {call.value!r}") from call.value
    gate.open()
    overlap(library)


def lost(library: Library) -> None:
    """The connections break in the middle of calls. Afterwards there are new ones."""
    gate = library.gate()
    calls = begin(library, gate, min(library.size, 6))
    # Some libraries try again by themselves.
    while not all(call.ready() for call in calls):
        library.where.tell("cut")
        gevent.joinall(calls, timeout=0.1)
    for call in calls:
        error = call.get()
        if not isinstance(error, library.lost):
            raise AssertionError(f"not the library's own error: {error!r}") from error
    gate.open()
    overlap(library)


def check(make: type[Library], where: Where, name: str) -> None:
    """Do one of the checks above, or one of the library's, and see that no socket is left open."""
    before = sockets()
    library = make(where)
    module = sys.modules[make.__module__]
    (getattr(module, name, None) or globals()[name])(library)
    library.close()
    after = sockets()
    assert after == before, f"sockets left open: {after}, before: {before}"

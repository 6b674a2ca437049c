"""Names of the standard library's asyncio that are not documented: all that greenloop uses of them.

asyncio documents that loops may derive from `asyncio.BaseEventLoop`, and which methods with an
underscore they have to supply. These here go beyond that. Checked with CPython 3.11, 3.12, 3.13,
3.14 and 3.15.

* `asyncio.format_helpers`: how callbacks are described in messages, and where they were made
* `asyncio.events._set_running_loop`: there for implementers of loops, say its sources
* `asyncio.transports._FlowControlMixin`: what transports are for asyncio that control the flow
* `asyncio.base_events.Server._attach` and `_detach`: a server counts its connections
* `asyncio.sslproto.SSLProtocol` and `_SSLProtocolTransport`: TLS over a transport; see also `_tls`
* `asyncio.trsock.TransportSocket`: what `get_extra_info("socket")` gives
* `asyncio.constants._SendfileMode`: what transports say of `sendfile`
* `asyncio.unix_events._UnixSubprocessTransport`: a child process and its pipes, by
  `_make_subprocess_transport`
* `BaseSelectorEventLoop.__init__` makes a pipe to wake its selector, by `_make_self_pipe`
"""

from __future__ import annotations

import inspect
import sys
import warnings
from asyncio import (
    BaseEventLoop,
    SelectorEventLoop,
    Task,
    base_events,
    constants,
    coroutines,
    events,
    format_helpers,
    sslproto,
    transports,
    unix_events,
)
from asyncio.constants import DEBUG_STACK_DEPTH
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

__all__ = [
    "DEBUG_STACK_DEPTH",
    "SENDFILE_TRY_NATIVE",
    "FlowControl",
    "SSLProtocol",
    "SSLProtocolTransport",
    "StandardLoop",
    "SubprocessTransport",
    "Task",
    "TransportSocket",
    "attach",
    "base_event_loop",
    "detach",
    "extract_stack",
    "format_callback_source",
    "has_own_child_watcher",
    "iscoroutinefunction",
    "logger",
    "logger_home",
    "set_running_loop",
]

#: The standard loop that ours is derived from. Type checkers know little of its methods for derived
#: loops, so it is anything to them.
StandardLoop: Any = SelectorEventLoop
base_event_loop: Any = BaseEventLoop
FlowControl: Any = transports._FlowControlMixin
SSLProtocol: Any = sslproto.SSLProtocol
SSLProtocolTransport: Any = sslproto._SSLProtocolTransport
SubprocessTransport: Any = unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]
#: Where the standard loop's logger is found, which programs may have replaced.
logger_home: Any = base_events

format_callback_source: Callable[..., str] = format_helpers._format_callback_source


def set_running_loop(loop: BaseEventLoop | None) -> None:
    """Set the running greenlet's running loop, by the function that asyncio itself would call."""
    events._set_running_loop(loop)


extract_stack: Callable[..., Any] = format_helpers.extract_stack
if sys.version_info >= (3, 14):
    # The function of asyncio is deprecated, its successor knows what that knows.
    iscoroutinefunction = inspect.iscoroutinefunction
else:
    iscoroutinefunction = coroutines.iscoroutinefunction

SENDFILE_TRY_NATIVE: Any = constants._SendfileMode.TRY_NATIVE

if sys.version_info >= (3, 14):

    def has_own_child_watcher() -> bool:
        """Whether the program has set a child watcher: it cannot any more."""
        return False

else:

    def has_own_child_watcher() -> bool:
        """Whether the program has set a child watcher."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            watcher = events.get_child_watcher()
        return type(watcher) not in (
            unix_events.ThreadedChildWatcher,
            unix_events.PidfdChildWatcher,
        )


if sys.version_info >= (3, 13):

    def attach(server: Any, transport: Any) -> None:
        """Tell a server of a connection of it."""
        server._attach(transport)

    def detach(server: Any, transport: Any) -> None:
        """Tell a server that a connection of it has ended."""
        server._detach(transport)

else:

    def attach(server: Any, transport: Any) -> None:
        """Tell a server of a connection of it."""
        server._attach()

    def detach(server: Any, transport: Any) -> None:
        """Tell a server that a connection of it has ended."""
        server._detach()

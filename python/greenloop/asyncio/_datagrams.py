"""Datagram endpoints: asyncio's, whose protocols are called in one context.

Checked with CPython 3.11, 3.12, 3.13, 3.14 and 3.15. These methods of the standard class are
extended here: `_call_connection_lost`, `_maybe_pause_protocol`, `_read_ready`, `_sendto_ready`.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from greenloop import _core
from greenloop.asyncio import _private

__all__ = ["DatagramTransport"]


class _Unnamed(str):
    """The name of a peer that has none, as that of a socket pair. The standard class asks by truth
    whether there is a peer.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class DatagramTransport(_private.DatagramTransport):  # type: ignore[misc]
    """Calls its protocol in the context that it was made in, whoever has closed it or sends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._made_in = copy_context()
        super().__init__(*args, **kwargs)
        if self._extra["peername"] == "":
            self._extra["peername"] = _Unnamed()

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram; once the transport is closed, nothing."""
        if self._sock is not None:
            super().sendto(data, addr)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        # Its own loop has entered a copy of the closing context.
        lost = super()._call_connection_lost
        _core._call_in_context(self._made_in, lambda: lost(exc))

    def _maybe_pause_protocol(self) -> None:
        _core._call_in_context(self._made_in, super()._maybe_pause_protocol)

    def _sendto_ready(self) -> None:
        _core._call_in_context(self._made_in, super()._sendto_ready)

    def _read_ready(self) -> None:
        _core._call_in_context(self._made_in, super()._read_ready)

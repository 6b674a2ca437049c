"""asyncio's TLS over our transports, with what is done for every message in the core.

Checked with CPython 3.11, 3.12, 3.13, 3.14 and 3.15. Of the standard class the core uses these
attributes: `_app_protocol`, `_app_protocol_is_buffer`, `_app_reading_paused`,
`_app_writing_paused`, `_incoming`, `_outgoing`, `_outgoing_high_water`, `_ssl_writing_paused`,
`_sslobj`, `_state`, `_transport`, `_write_backlog`, `_write_buffer_size`; and these methods:
`_call_eof_received`, `_control_app_writing`, `_control_ssl_reading`, `_do_write`, `_fatal_error`,
`_process_outgoing`, `_start_shutdown`, `_write_appdata`. Its transports have `_ssl_protocol`.
"""

from __future__ import annotations

import asyncio
import ssl
from contextvars import Context
from typing import Any

from greenloop import _core
from greenloop.asyncio import _private

__all__ = ["SSLProtocol", "adopt_tls"]


class SSLTransport(_private.SSLProtocolTransport):  # type: ignore[misc]
    """What an application writes to; `write` is the core's."""


class SSLProtocol(_private.SSLProtocol):  # type: ignore[misc]
    """TLS over a transport of the core's, which gives it the bytes that it has received."""

    #: How large its own buffer is, which it has no use for here, and how much it reads at a time
    #: (bytes): what a record has at most. The standard class has 256 KiB for each connection.
    max_size = 16 * 1024

    #: What the application's protocol is called in, whoever has closed, written or resumed.
    _context: Context | None = None

    def _get_app_transport(self) -> Any:
        transport = super()._get_app_transport()
        _adopt_transport(transport)
        return transport

    _is_completing = False
    _app_protocol_is_buffer: bool
    _app_reading_paused: bool

    def _set_app_protocol(self, app_protocol: Any) -> None:
        super()._set_app_protocol(app_protocol)
        if (
            not self._app_protocol_is_buffer
            and hasattr(app_protocol, "get_buffer")
            and not isinstance(app_protocol, asyncio.Protocol)
        ):
            # As our transports have it: it need not be derived from asyncio's class.
            self._app_protocol_get_buffer = app_protocol.get_buffer
            self._app_protocol_buffer_updated = app_protocol.buffer_updated
            self._app_protocol_is_buffer = True

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        self._is_completing = True
        try:
            super()._on_handshake_complete(handshake_exc)
        finally:
            self._is_completing = False

    def _do_read(self) -> None:
        if self._is_completing:
            # Who waits for the connection learns of it before the first bytes come.
            self._process_outgoing()
            self._loop.call_soon(self.buffer_updated, 0, context=self._context)
        else:
            super()._do_read()

    def _do_shutdown(self) -> None:
        # The TLS layer does not close before it was read what has come meanwhile. It is an error to
        # it; but the other side could not know yet.
        try:
            while not self._eof_received and self._sslobj.read(self.max_size):
                pass
        except ssl.SSLError:
            # There is no more, or closing meets the same error.
            pass
        super()._do_shutdown()

    def _resume_reading(self) -> None:
        if self._app_reading_paused:
            self._app_reading_paused = False
            # Of no bytes: it looks what there is to do.
            self._loop.call_soon(self.buffer_updated, 0, context=self._context)

    def _start_shutdown(self) -> None:
        _core._call_in_context(self._context, super()._start_shutdown)

    def _control_app_writing(self) -> None:
        _core._call_in_context(self._context, super()._control_app_writing)


def _adopt_transport(transport: Any) -> None:
    if type(transport) is _private.SSLProtocolTransport:
        transport.__class__ = SSLTransport


_core._attach_tls(SSLTransport, SSLProtocol)


def adopt_tls(protocol: Any, context: Context) -> None:
    """Give a protocol of the standard class (that is what `start_tls` makes) our classes.

    context: what the application's protocol is called in.
    """
    if type(protocol) is _private.SSLProtocol:
        protocol.__class__ = SSLProtocol
        protocol._context = context
        protocol._set_app_protocol(protocol._app_protocol)
        _adopt_transport(protocol._app_transport)

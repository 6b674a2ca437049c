"""asyncio's streams, with what is done for every message in the core.

Connections that are made with the standard classes are given these. They have the attributes of
the standard classes, checked with CPython 3.11, 3.12, 3.13, 3.14 and 3.15: `_buffer`, `_eof`,
`_exception`, `_paused` and `_waiter` of readers, which are kept by the core (in `_state`), and
`_limit` and `_transport`; `_reader` and `_transport` of writers; `_client_connected_cb`,
`_connection_lost`, `_paused`, `_stream_reader` and `_stream_reader_wr` of protocols.
"""

from __future__ import annotations

import asyncio
from typing import Any

from greenloop import _core

__all__ = ["StreamReader", "StreamReaderProtocol", "StreamWriter", "adopt"]


class StreamReader(asyncio.StreamReader):
    """A reader whose methods that read are the core's."""


class StreamWriter(asyncio.StreamWriter):
    """A writer whose `write` and `drain` are the core's."""


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """The protocol of streams; its `data_received` is the core's."""

    _client_connected_cb: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the writer that is made for a server's connection our class."""
        connected = self._client_connected_cb
        if connected is None:
            super().connection_made(transport)
            return

        def adopting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            if type(writer) is asyncio.StreamWriter:
                writer.__class__ = StreamWriter
            return connected(reader, writer)

        self._client_connected_cb = adopting
        try:
            super().connection_made(transport)
        finally:
            self._client_connected_cb = connected


_core._attach_streams(StreamReader, StreamWriter, StreamReaderProtocol)


def adopt(protocol: asyncio.BaseProtocol, loop: _core.AsyncioLoop) -> None:
    """Give a protocol of a standard class, and its reader, our classes."""
    if type(protocol) is not asyncio.StreamReaderProtocol:
        return
    reader = getattr(protocol, "_stream_reader", None)
    if type(reader) is asyncio.StreamReader:
        _core._adopt_reader(reader, StreamReader, loop)
        protocol.__class__ = StreamReaderProtocol

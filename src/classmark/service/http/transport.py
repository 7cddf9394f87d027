"""How bytes leave and enter a connection: an answer in one piece, reading with pauses."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

_LINE, _HEAD_END = b"HTTP/1.1 ", b"\r\n\r\n"
_INTERIM = b"HTTP/1.1 1"
_JOINED_BYTES = 1 << 16
"""To copy more than this takes longer than a second call of the system."""


class Flow(FlowControl):
    """Reading also pauses while bytes wait that the parser has not seen."""

    is_held = False

    def resume_reading(self) -> None:
        """Read again, unless bytes wait."""
        if not self.is_held:
            super().resume_reading()


class WholeAnswers:
    """A transport that keeps the header of an answer until its body comes.

    uvicorn writes the two one after the other, and each write is a call of the system and a packet:
    of all that a worker does for a small answer they were the largest part.

    Args:
        transport: of the connection; all but what is written is its own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data, and before them the header that waits; a header alone waits."""
        if not self._head and _is_head(data):
            self._head = data
        elif len(data) <= _JOINED_BYTES:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self.flush()
            self._transport.write(data)

    def flush(self) -> None:
        """Send the header that waits."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what waits, and close."""
        self.flush()
        self._transport.close()


def _is_head(data: bytes) -> bool:
    """Tell the header of an answer from its body, and from `100 Continue`, which has none."""
    return data.startswith(_LINE) and data.endswith(_HEAD_END) and not data.startswith(_INTERIM)

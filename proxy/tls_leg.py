"""One side's TLS: OpenSSL over memory buffers, between a transport and the plain text.

A leg knows nothing of proxies. It is fed what the wire brought, gives the plain text, and writes to its transport.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from OpenSSL import SSL

from proxy.tcp import half_close

RECORD = 16_384
"""The most plain text that one TLS record holds (RFC 8446, section 5.1)."""
PIECE = 65_536
"""Bytes that go through OpenSSL's memory at a time: a buffer there stays as large as it once had to be."""
_HEADER = 5
_OVERHEAD = 64
_HANDSHAKE_FLIGHT = 16_384
_TICKETS = 2_048


class LegError(Exception):
    """TLS on this leg failed; ``reasons`` are OpenSSL's words, the alert (where there is one) is already sent."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__(", ".join(reasons) or "the connection ended")
        self.reasons = reasons


def reasons_of(error: SSL.Error) -> tuple[str, ...]:
    """OpenSSL's reason strings, which pyOpenSSL carries as ``[(library, function, reason), ...]``."""
    found = error.args[0] if error.args else ()
    if isinstance(found, list | tuple):
        return tuple(str(entry[-1]) for entry in found if isinstance(entry, tuple) and entry)
    return (str(found),)


class TlsLeg:
    """A TLS connection whose bytes come and go through memory."""

    __slots__ = (
        "accepting",
        "begun",
        "closed",
        "ended",
        "established",
        "held",
        "rest",
        "shut",
        "started",
        "tls",
        "transport",
    )

    def __init__(self, tls: SSL.Connection, transport: asyncio.Transport, accepting: bool = False) -> None:
        self.accepting = accepting
        """The server's role, towards a client."""
        self.tls = tls
        self.transport = transport
        self.started = time.monotonic()
        self.established = False
        self.ended = False
        """The peer has sent close_notify (RFC 8446, section 6.1): it will send no more."""
        self.rest = 0
        self.begun = b""
        self.held = 0
        """Bytes, about, that OpenSSL has ready and that go out with the next ones: fewer and larger writes."""
        self.closed = False
        """Our close_notify is sent."""
        self.shut = False
        """Our FIN is sent, or waits behind the last bytes: nothing can be written any more."""

    def handshake(self, data: bytes) -> bool:
        """Take handshake bytes; True once the handshake is through. Raises LegError, its alert already on the way.

        False too where it waits for whether our client certificate may be shown: then it goes on by another call.
        """
        tls = self.tls
        if data:
            tls.bio_write(data)
            self._is_one_record(data)  # to know, later on, where records begin
        try:
            tls.do_handshake()
            self.established = True
            if self.accepting and tls.get_protocol_version() == SSL.TLS1_3_VERSION:
                # What is left are session tickets, which nobody waits for: they go with the first answer.
                self.held = _TICKETS
                return True
        except (SSL.WantReadError, SSL.WantX509LookupError):
            pass
        except SSL.Error as error:
            self.flush(_HANDSHAKE_FLIGHT)
            raise LegError(reasons_of(error)) from None
        self.flush(_HANDSHAKE_FLIGHT)
        return self.established

    def receive(self, data: bytes) -> bytes:
        """Take wire bytes, give the plain text of every whole record. Raises LegError, its alert already on the way."""
        tls = self.tls
        single = False
        if data:
            tls.bio_write(data)
            single = self._is_one_record(data)
        pieces: list[bytes] = []
        try:
            while True:
                pieces.append(tls.recv(RECORD))
                if single:
                    return pieces[0]
        except SSL.WantReadError:
            if data and not pieces:
                # Records without plain text (a KeyUpdate, say) may want an answer.
                self.flush(_HANDSHAKE_FLIGHT)
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            self.flush(_HANDSHAKE_FLIGHT)
            raise LegError(reasons_of(error)) from None
        # One call of the next stage for all that there is: each costs more than the joining.
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def _is_one_record(self, data: bytes) -> bool:
        """Whether ``data`` is one whole record, nothing before or behind it: then one look for plain text is enough.

        To look in vain costs more than this does. A record says its length in the last two of its first five bytes
        (RFC 8446, section 5.1); ``rest`` is what is still to come of one, ``begun`` the beginning of a header.
        """
        size = len(data)
        at = self.rest
        if not at and not self.begun and size > _HEADER and size == _HEADER + (data[3] << 8 | data[4]):
            return True
        if self.begun:
            data = self.begun + data
            size = len(data)
            self.begun = b""
        while at + _HEADER <= size:
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
        self.rest = max(0, at - size)
        if at < size:
            self.begun = data[at:]
        return False

    def send(self, data: bytes, more: bool = False) -> None:
        """Encrypt and write; with ``more``, what follows at once writes it too. Raises LegError."""
        size = len(data)
        if size > PIECE:
            return self._send_in_pieces(data)
        try:
            self.tls.sendall(data)
        except SSL.Error as error:
            raise LegError(reasons_of(error)) from None
        size += (size // RECORD + 2) * _OVERHEAD
        if more:
            self.held += size
        else:
            self.flush(size)

    def _send_in_pieces(self, data: bytes) -> None:
        view = memoryview(data)
        wire: list[bytes] = []
        try:
            for at in range(0, len(data), PIECE):
                self.tls.sendall(view[at : at + PIECE])
                wire += self._ready(PIECE + (PIECE // RECORD + 2) * _OVERHEAD)
        except SSL.Error as error:
            raise LegError(reasons_of(error)) from None
        if not self.shut:
            self.transport.write(b"".join(wire))  # one call of the kernel costs less than several and this copy

    def end(self) -> None:
        """Send close_notify; what was sent before it is not affected, nothing can be sent after it."""
        if self.closed:
            return
        self.closed = True
        try:
            self.tls.shutdown()
        except SSL.Error:
            return  # not established, or failed before: there is nothing left to say
        self.flush(_OVERHEAD * 4)

    def half_close(self) -> None:
        """Send FIN behind what is still to be written."""
        if not self.shut:
            self.shut = True
            half_close(self.transport)

    def flush(self, size: int) -> None:
        """Write what OpenSSL has for the wire; ``size`` is the expected most, in bytes."""
        if not self.shut:
            for data in self._ready(size):
                self.transport.write(data)

    def _ready(self, size: int) -> Iterator[bytes]:
        """What OpenSSL has for the wire."""
        size += self.held
        self.held = 0
        read = self.tls.bio_read
        try:
            while True:
                data = read(size)
                yield data
                if len(data) < size:
                    return
        except SSL.WantReadError:
            return

"""One side's TLS: OpenSSL over memory buffers, between a transport and the plain text.

A leg knows nothing of proxies. It is fed what the wire brought, gives the plain text, and writes to its transport.

The handshake is pyOpenSSL's. What passes afterwards goes to OpenSSL by the functions that pyOpenSSL itself calls, into
memory that is there already: its ``recv``, ``bio_read`` and the rest, which allocate for each call and look for errors
where there are none, cost twice as much as the encryption. Errors are still told by pyOpenSSL.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from OpenSSL import SSL

from proxy.tcp import half_close

RECORD = 16_384
"""The most plain text that one TLS record holds (RFC 8446, section 5.1)."""
PIECE = 65_536
"""Bytes that go through OpenSSL's memory at a time: a buffer there stays as large as it once had to be."""

_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_BIO_READ, _BIO_WRITE, _BIO_DATA = _lib.BIO_read, _lib.BIO_write, _lib.BIO_get_mem_data
_SSL_READ, _SSL_WRITE, _SSL_ERROR = _lib.SSL_read, _lib.SSL_write, _lib.SSL_get_error
_WANT_READ: int = _lib.SSL_ERROR_WANT_READ
_bytes_of = _ffi.unpack


class _Memory(threading.local):
    """Where OpenSSL puts what it gives. A thread's own: during a call of OpenSSL another thread may make one."""

    def __init__(self) -> None:
        self.memory = _ffi.new("char[]", PIECE)
        self.address = _ffi.new("char **")


_here = _Memory()


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
    """A TLS connection whose bytes come and go through memory. To be used in the thread that made it, and no other."""

    __slots__ = (
        "_address",
        "_from_ssl",
        "_into_ssl",
        "_memory",
        "_ssl",
        "accepting",
        "closed",
        "ended",
        "established",
        "shut",
        "started",
        "tls",
        "transport",
    )

    def __init__(self, tls: SSL.Connection, transport: asyncio.Transport, accepting: bool = False) -> None:
        self.accepting = accepting
        """The server's role, towards a client."""
        self.tls = tls
        # They live as long as the connection does.
        self._ssl, self._into_ssl, self._from_ssl = tls._ssl, tls._into_ssl, tls._from_ssl
        self._memory, self._address = _here.memory, _here.address
        self.transport = transport
        self.started = time.monotonic()
        self.established = False
        self.ended = False
        """The peer has sent close_notify (RFC 8446, section 6.1): it will send no more."""
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
        try:
            tls.do_handshake()
            self.established = True
            if self.accepting and tls.get_protocol_version() == SSL.TLS1_3_VERSION:
                # What is left are session tickets, which nobody waits for: they go with the first answer.
                return True
        except (SSL.WantReadError, SSL.WantX509LookupError):
            pass
        except SSL.Error as error:
            self.flush()
            raise LegError(reasons_of(error)) from None
        self.flush()
        return self.established

    def receive(self, data: bytes) -> bytes:
        """Take wire bytes, give the plain text of every whole record. Raises LegError, its alert already on the way."""
        ssl, into, memory = self._ssl, self._into_ssl, self._memory
        if data and _BIO_WRITE(into, data, len(data)) != len(data):
            _lib.ERR_clear_error()  # not for the next connection to find
            raise LegError(("no memory",))
        size = _SSL_READ(ssl, memory, RECORD)
        if size > 0:
            plain: bytes = _bytes_of(memory, size)
            # OpenSSL takes from its buffer what is of one record. To look for another in vain costs more than to ask.
            if not _BIO_DATA(into, self._address):
                return plain
            # One call of the next stage for all that there is: each costs more than the joining.
            pieces = [plain]
            while (size := _SSL_READ(ssl, memory, RECORD)) > 0:
                pieces.append(_bytes_of(memory, size))
            plain = b"".join(pieces)
        else:
            plain = b""
        if _SSL_ERROR(ssl, size) != _WANT_READ:
            self._failed(size)
        elif data and not plain:
            # Records without plain text (a KeyUpdate, say) may want an answer.
            self.flush()
        return plain

    def _failed(self, result: int) -> None:
        """The peer has said close_notify, or it is an error. Raises LegError."""
        try:
            self.tls._raise_ssl_error(self._ssl, result)
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            self.flush()
            raise LegError(reasons_of(error)) from None

    def send(self, data: bytes, more: bool = False) -> None:
        """Encrypt and write; with ``more``, what follows at once writes it too. Raises LegError."""
        size = len(data)
        if size > RECORD:
            return self._send_much(data, size, more)
        if size and (result := _SSL_WRITE(self._ssl, data, size)) != size:
            if result <= 0:
                self._not_taken(result)
            # The client has asked for smaller records (max_fragment_length, RFC 6066 section 4).
            return self._send_much(data[result:], size - result, more)
        if not more:
            self.flush()
        return None

    def _send_much(self, data: bytes, size: int, more: bool) -> None:
        wire: list[bytes] = []
        with _ffi.from_buffer(data) as whole:
            at = gathered = 0
            while at < size:
                # pyOpenSSL has set SSL_MODE_ENABLE_PARTIAL_WRITE: a record is taken at a time, or less.
                result = _SSL_WRITE(self._ssl, whole + at, min(RECORD, size - at))
                if result <= 0:
                    self._not_taken(result)
                at += result
                gathered += result
                if gathered >= PIECE:
                    gathered = 0
                    wire += self._ready()
        if more and not wire:
            return
        wire += self._ready()
        if not self.shut:
            self.transport.write(b"".join(wire))  # one call of the kernel costs less than several and this copy

    def _not_taken(self, result: int) -> None:
        """OpenSSL encrypts nothing more. Raises LegError."""
        try:
            self.tls._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            raise LegError(reasons_of(error)) from None
        raise LegError(("nothing was taken",))

    def end(self) -> None:
        """Send close_notify; what was sent before it is not affected, nothing can be sent after it."""
        if self.closed:
            return
        self.closed = True
        try:
            self.tls.shutdown()
        except SSL.Error:
            return  # not established, or failed before: there is nothing left to say
        self.flush()

    def half_close(self) -> None:
        """Send FIN behind what is still to be written."""
        if not self.shut:
            self.shut = True
            half_close(self.transport)

    def flush(self) -> None:
        """Write what OpenSSL has for the wire."""
        if self.shut:
            return
        size = _BIO_READ(self._from_ssl, self._memory, PIECE)
        if size > 0:
            data = _bytes_of(self._memory, size)
            self.transport.write(data if size < PIECE else b"".join([data, *self._ready()]))

    def _ready(self) -> list[bytes]:
        """What OpenSSL has for the wire."""
        pieces: list[bytes] = []
        while (size := _BIO_READ(self._from_ssl, self._memory, PIECE)) > 0:
            pieces.append(_bytes_of(self._memory, size))
        return pieces

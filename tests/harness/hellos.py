"""A TCP server that keeps the ClientHello of each connection, and what tells one TLS client from another in it."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.harness.namespaces import Namespace
from tests.harness.processes import wait_for

_SERVER_NAME, _GROUPS, _SIGNATURES = 0, 10, 13


class HelloRecorder:
    """Takes the first TLS record of each connection, and closes it."""

    def __init__(self, namespace: Namespace, address: str, port: int) -> None:
        self.hellos: list[bytes] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = namespace.within(lambda: socket.create_server((address, port), family=family))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listening.close()

    def wait(self, count: int) -> list[bytes]:
        """The ClientHellos, once there are so many."""
        wait_for(f"{count} ClientHellos", lambda: len(self.hellos) >= count, timeout=15)
        return self.hellos

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                record = b""
                while len(record) < 5 or len(record) < 5 + int.from_bytes(record[3:5]):
                    if not (piece := connection.recv(65536)):
                        break
                    record += piece
                if record:
                    self.hellos.append(record)


@dataclass(frozen=True)
class Fingerprint:
    """What a ClientHello (RFC 8446, section 4.1.2) says of its client, and not of the moment: as JA3 has it."""

    version: bytes
    ciphers: bytes
    extensions: tuple[int, ...]
    groups: bytes
    signatures: bytes
    server_name: str

    @classmethod
    def of(cls, record: bytes) -> Fingerprint:
        """That of a TLS record with a whole ClientHello."""
        rest = _Reader(record[9:])  # behind the record's header and the message's
        version = rest.take(2)
        rest.take(32)
        rest.vector(1)
        ciphers = rest.vector(2)
        rest.vector(1)
        extensions: dict[int, bytes] = {}
        listed = _Reader(rest.vector(2))
        while listed.left:
            kind = int.from_bytes(listed.take(2))
            extensions[kind] = listed.vector(2)
        name = extensions.get(_SERVER_NAME, b"")[5:].decode()
        groups, signatures = extensions.get(_GROUPS, b""), extensions.get(_SIGNATURES, b"")
        return cls(version, ciphers, tuple(extensions), groups, signatures, name)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, size: int) -> bytes:
        taken, self.left = self.left[:size], self.left[size:]
        assert len(taken) == size
        return taken

    def vector(self, prefix: int) -> bytes:
        return self.take(int.from_bytes(self.take(prefix)))

"""What the issuer and the workers say to each other: a closed set of small messages in bounded frames.

A frame is a length of four bytes, big-endian, and that many bytes of JSON. Whatever is not exactly one of the
messages below is a :class:`ProtocolError`, and the connection that it came on is closed: both ends are ours, so there
is nothing to be lenient about.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from certs.signer import Health

MAX_FRAME = 64 * 1024
"""Bytes of one frame, its length not counted."""

KeyKind = Literal["ecdsa", "rsa"]

_LENGTH = struct.Struct(">I")
_JSON = json.JSONEncoder(separators=(",", ":"))
_MAX_ID = 1 << 53
_MAX_TEXT = 512
_CONNECTION = re.compile("[0-9a-f]{0,32}").fullmatch
_SHA256 = re.compile("(?:[0-9a-f]{64})?").fullmatch
# The instants that a datetime can hold, in seconds since 1970. X.509 dates end with the year 9999 (RFC 5280 4.1.2.5).
_FIRST_INSTANT = -62_135_596_800.0
_LAST_INSTANT = 253_402_300_799.0


class ProtocolError(ValueError):
    """Bytes that the other end cannot have meant. The message quotes none of them."""


class Code(StrEnum):
    """Why a request failed."""

    UNKNOWN_TENANT = "unknown_tenant"
    CA_EXPIRED = "ca_expired"
    INVALID_HOST = "invalid_host"
    RATE_LIMITED = "rate_limited"
    STORE_UNAVAILABLE = "store_unavailable"
    KEY_UNAVAILABLE = "key_unavailable"
    SIGNING_FAILED = "signing_failed"
    KEY_MANAGER_DOWN = "key_manager_down"
    KEY_MANAGER_BUSY = "key_manager_busy"
    UNKNOWN_LEAF_KEY = "unknown_leaf_key"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """A leaf for ``host``; ``server_not_after`` is the end of the server's own certificate, None without one.

    ``connection`` is the id of the client's connection that it is for: nothing but a name for the log, and "" where
    there is none. ``warned_of``: one that the client is to be warned by, of the untrusted CA; SHA-256 (hexadecimal) of
    the server's certificate, since a client that lets itself be warned does so of that one and no other. "": no such.
    """

    id: int
    tenant: str
    host: str
    key: KeyKind
    server_not_after: float | None
    connection: str = ""
    warned_of: str = ""


@dataclass(frozen=True, slots=True)
class LeafKeyRequest:
    """The private key that goes with leaves."""

    id: int
    tenant: str
    leaf_key: int
    connection: str = ""
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Whether leaves can be made for a tenant: its signing CA's key can be unsealed, and the CA is valid now."""

    id: int
    tenant: str


@dataclass(frozen=True, slots=True)
class KeyManagerRequest:
    """How the hosts are that keep the key of a tenant's signing CA."""

    id: int
    tenant: str


@dataclass(frozen=True, slots=True)
class WireGuardKeyRequest:
    """The private key of a tenant's WireGuard listeners."""

    id: int
    tenant: str


@dataclass(frozen=True, slots=True)
class LeafAnswer:
    """A leaf, and the CA's chain above it without a self-signed root. Times are seconds since 1970."""

    id: int
    certificate: bytes
    chain: tuple[bytes, ...]
    leaf_key: int
    signing_ca: int
    generation: int
    not_after: float
    reuse_until: float


@dataclass(frozen=True, slots=True)
class LeafKeyAnswer:
    """A leaf key: PKCS#8, DER. Never a CA's."""

    id: int
    kind: KeyKind
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """They can, with the CA of that generation."""

    id: int
    generation: int


@dataclass(frozen=True, slots=True)
class KeyManagerAnswer:
    """They are so; no host where the key is in no key manager, or nobody has asked for a leaf yet."""

    id: int
    health: Health


@dataclass(frozen=True, slots=True)
class WireGuardKeyAnswer:
    """A private key for WireGuard, 32 bytes; empty where the tenant has none yet."""

    id: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was refused."""

    id: int
    error: Code
    message: str


Request = LeafRequest | LeafKeyRequest | CheckRequest | KeyManagerRequest | WireGuardKeyRequest
Answer = LeafAnswer | LeafKeyAnswer | CheckAnswer | KeyManagerAnswer | WireGuardKeyAnswer | Failure


class FrameReader:
    """Cuts a stream into frames, and holds no more than what came and has not been taken."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was read from the stream."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole frame, None where it is not there yet.

        Raises ProtocolError for a length of zero or above :data:`MAX_FRAME`, before the frame's bytes come.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if not 0 < length <= MAX_FRAME:
            raise ProtocolError(f"a frame of {length} bytes; a frame has 1 to {MAX_FRAME}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        frame = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        return frame


def encode_request(request: Request) -> bytes:
    """A request as a frame. Raises ProtocolError where it is too large."""
    match request:
        case LeafRequest():
            return _frame(
                {
                    "id": request.id,
                    "op": "leaf",
                    "tenant": request.tenant,
                    "host": request.host,
                    "key": request.key,
                    "server_not_after": request.server_not_after,
                    "connection": request.connection,
                    # An issuer of before an upgrade knows nothing of it, and is asked for the others.
                    **({"warned_of": request.warned_of} if request.warned_of else {}),
                }
            )
        case LeafKeyRequest():
            return _frame(
                {
                    "id": request.id,
                    "op": "leaf_key",
                    "tenant": request.tenant,
                    "leaf_key": request.leaf_key,
                    "connection": request.connection,
                    **({"untrusted": True} if request.untrusted else {}),
                }
            )
        case CheckRequest():
            return _frame({"id": request.id, "op": "check", "tenant": request.tenant})
        case KeyManagerRequest():
            return _frame({"id": request.id, "op": "key_manager", "tenant": request.tenant})
        case WireGuardKeyRequest():
            return _frame({"id": request.id, "op": "wireguard_key", "tenant": request.tenant})


def decode_request(frame: bytes) -> Request:
    """The request in a frame. Raises ProtocolError."""
    message = _object(frame)
    op = message.pop("op", None)
    # Workers of before an upgrade, which drain beside a new issuer, say none.
    connection = _connection(message.pop("connection", "")) if op in ("leaf", "leaf_key") else ""
    match op:
        case "leaf":
            warned_of = _digest(message.pop("warned_of", ""))
            _keys(message, "id", "tenant", "host", "key", "server_not_after")
            return LeafRequest(
                _id(message, "id"),
                _text(message, "tenant"),
                _text(message, "host"),
                _kind(message, "key"),
                None if message["server_not_after"] is None else _instant(message, "server_not_after"),
                connection,
                warned_of,
            )
        case "leaf_key":
            untrusted = _flag(message.pop("untrusted", False))
            _keys(message, "id", "tenant", "leaf_key")
            return LeafKeyRequest(
                _id(message, "id"), _text(message, "tenant"), _id(message, "leaf_key"), connection, untrusted
            )
        case "check":
            _keys(message, "id", "tenant")
            return CheckRequest(_id(message, "id"), _text(message, "tenant"))
        case "key_manager":
            _keys(message, "id", "tenant")
            return KeyManagerRequest(_id(message, "id"), _text(message, "tenant"))
        case "wireguard_key":
            _keys(message, "id", "tenant")
            return WireGuardKeyRequest(_id(message, "id"), _text(message, "tenant"))
        case _:
            raise ProtocolError("a request without a known op")


def encode_answer(answer: Answer) -> bytes:
    """An answer as a frame. Raises ProtocolError where it is too large."""
    match answer:
        case LeafAnswer():
            # As json.dumps would write it, in half the time: there is nothing in it but numbers and base64.
            return _framed(
                f'{{"id":{answer.id},"ok":true,"certificate":"{_base64(answer.certificate)}",'
                f'"chain":{_chain_text(answer.chain)},"leaf_key":{answer.leaf_key},"signing_ca":{answer.signing_ca},'
                f'"generation":{answer.generation},"not_after":{answer.not_after!r},"reuse_until":{answer.reuse_until!r}}}'
            )
        case LeafKeyAnswer():
            return _frame({"id": answer.id, "ok": True, "key": _base64(answer.key), "kind": answer.kind})
        case CheckAnswer():
            return _frame({"id": answer.id, "ok": True, "checked": answer.generation})
        case KeyManagerAnswer():
            health = asdict(answer.health)
            return _frame({"id": answer.id, "ok": True, "hosts": health["hosts"], "waiting": health["waiting"]})
        case WireGuardKeyAnswer():
            return _frame({"id": answer.id, "ok": True, "wireguard_key": _base64(answer.key)})
        case Failure():
            return _frame(
                {"id": answer.id, "ok": False, "error": answer.error.value, "message": answer.message[:_MAX_TEXT]}
            )


def decode_answer(frame: bytes) -> Answer:
    """The answer in a frame. Raises ProtocolError."""
    message = _object(frame)
    ok = message.pop("ok", None)
    if ok is False:
        _keys(message, "id", "error", "message")
        try:
            code = Code(_text(message, "error"))
        except ValueError:
            raise ProtocolError("a failure without a known code") from None
        return Failure(_id(message, "id"), code, _text(message, "message"))
    if ok is not True:
        raise ProtocolError("an answer that says neither yes nor no")
    if "key" in message:
        _keys(message, "id", "key", "kind")
        return LeafKeyAnswer(_id(message, "id"), _kind(message, "kind"), _bytes(message["key"]))
    if "checked" in message:
        _keys(message, "id", "checked")
        return CheckAnswer(_id(message, "id"), _id(message, "checked"))
    if "hosts" in message:
        _keys(message, "id", "hosts", "waiting")
        return KeyManagerAnswer(_id(message, "id"), _health(message))
    if "wireguard_key" in message:
        _keys(message, "id", "wireguard_key")
        return WireGuardKeyAnswer(_id(message, "id"), _bytes(message["wireguard_key"]))
    _keys(message, "id", "certificate", "chain", "leaf_key", "signing_ca", "generation", "not_after", "reuse_until")
    if not isinstance(message["chain"], list):
        raise ProtocolError("a chain that is no list")
    return LeafAnswer(
        _id(message, "id"),
        _bytes(message["certificate"]),
        tuple(map(_bytes, message["chain"])),
        _id(message, "leaf_key"),
        _id(message, "signing_ca"),
        _id(message, "generation"),
        _instant(message, "not_after"),
        _instant(message, "reuse_until"),
    )


def _health(message: dict[str, Any]) -> Health:
    from certs.signer import Health, HostHealth  # workers, which import this module, never get such an answer

    hosts = message["hosts"]
    if not isinstance(hosts, list):
        raise ProtocolError("hosts that are no list")
    found: list[HostHealth] = []
    for host in hosts:
        if not isinstance(host, dict):
            raise ProtocolError("a host that is no object")
        _keys(host, *(field.name for field in fields(HostHealth)))
        found.append(
            HostHealth(
                _text(host, "address"),
                _seconds(host, "down_for"),
                _text(host, "why"),
                _seconds(host, "next_try_in"),
                _id(host, "connections"),
                _id(host, "asked"),
                _seconds(host, "signed_ago"),
                _seconds(host, "seconds"),
            )
        )
    return Health(tuple(found), _id(message, "waiting"))


def _seconds(message: dict[str, Any], name: str) -> float | None:
    value = message[name]
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ProtocolError(f"{name} is no number of seconds")
    return float(value)


def _frame(message: dict[str, Any]) -> bytes:
    return _framed(_JSON.encode(message))


def _framed(text: str) -> bytes:
    body = text.encode("ascii")
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a message of {len(body)} bytes; a frame has at most {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


def _object(frame: bytes) -> dict[str, Any]:
    try:
        message = json.loads(frame.decode())
    except (ValueError, RecursionError):
        raise ProtocolError("a frame that is no JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("a frame that is no JSON object")
    return message


def _keys(message: dict[str, Any], *names: str) -> None:
    if len(message) != len(names) or not all(name in message for name in names):
        raise ProtocolError(f"a message whose fields are not {', '.join(names)}")


def _id(message: dict[str, Any], name: str) -> int:
    value = message[name]
    if type(value) is not int or not 0 <= value < _MAX_ID:
        raise ProtocolError(f"{name} is no number from 0 to 2^53")
    return value


def _text(message: dict[str, Any], name: str) -> str:
    value = message[name]
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ProtocolError(f"{name} is no text of at most {_MAX_TEXT} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can write half a pair (RFC 8259 8.2), which no name has and no store takes
            raise ProtocolError(f"{name} is no text of Unicode") from None
    return value


def _connection(value: Any) -> str:
    if not isinstance(value, str) or not _CONNECTION(value):
        raise ProtocolError("connection is no id of at most 32 hexadecimal digits")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256(value):
        raise ProtocolError("warned_of is no SHA-256")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError("untrusted is neither true nor false")
    return value


def _kind(message: dict[str, Any], name: str) -> KeyKind:
    match message[name]:
        case "ecdsa":
            return "ecdsa"
        case "rsa":
            return "rsa"
        case _:
            raise ProtocolError(f"{name} is neither ecdsa nor rsa")


def _instant(message: dict[str, Any], name: str) -> float:
    value = message[name]
    if type(value) not in (int, float) or not _FIRST_INSTANT <= value <= _LAST_INSTANT or not math.isfinite(value):
        raise ProtocolError(f"{name} is no instant between the years 1 and 9999")
    return float(value)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@lru_cache(maxsize=64)
def _chain_text(chain: tuple[bytes, ...]) -> str:
    """A chain as JSON: the same for all leaves of a signing CA."""
    return _JSON.encode([_base64(certificate) for certificate in chain])


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ProtocolError("a certificate or key that is no text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError("a certificate or key that is no base64") from None

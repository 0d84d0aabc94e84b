"""KMIP requests to octets and octets to answers, by PyKMIP's encoding (TTLV; KMIP 1.4, 9.1).

Nothing here waits or remembers. A request carries the id of its one batch item, and an answer counts only where it
carries the same: a connection on which an answer came late would otherwise give each caller the answer of the one
before. PyKMIP raises whatever it meets in octets that are no KMIP; all of it is one error here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kmip.core import enums, objects
from kmip.core.messages import contents, messages, payloads
from kmip.core.utils import BytearrayStream

from kms.kmip.errors import KmipError, Reason, cleaned

HEADER_BYTES = 8
"""Tag, type and length of a structure: what says how long a message is."""
LARGEST_MESSAGE = 16_384
"""Octets of an answer. A list of a server's operations or of a key's attributes has some thousand; PyKMIP copies what
is left of them for each element that it reads, while nobody else is served."""
_RESPONSE = bytes.fromhex("42007b01")
"""Tag and type of a Response Message."""

type Version = tuple[int, int]
VERSIONS: tuple[Version, ...] = ((2, 0), (1, 4), (1, 3), (1, 2))
"""What is spoken here, the best first. SIGN came with 1.2."""
FIRST_ASKED: Version = (1, 4)
"""With this the versions are asked for: what speaks 2.0 only says so in its answer."""
KMIP_VERSIONS = {
    (2, 0): enums.KMIPVersion.KMIP_2_0,
    (1, 4): enums.KMIPVersion.KMIP_1_4,
    (1, 3): enums.KMIPVersion.KMIP_1_3,
    (1, 2): enums.KMIPVersion.KMIP_1_2,
}


@dataclass(frozen=True, slots=True)
class Login:
    """A user's name and password (KMIP 1.4, 2.1.2), where a key manager wants them beside the certificate."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Question[A]:
    """One operation, and how what is wanted is read from the answer's payload, which is None where it has none.

    ``sift`` is for what PyKMIP cannot decode: it takes that out of the answer's octets, and ``read`` gets what it took
    in place of the payload.
    """

    operation: enums.Operation
    payload: payloads.RequestPayload = field(repr=False)
    read: Callable[[Any], A] = field(repr=False)
    sift: Callable[[bytes], tuple[bytes, Any]] | None = field(default=None, repr=False)

    def answer(self, request: Request, version: Version, octets: bytes) -> A:
        """What is read of the answer. Raises KmipError as :func:`answer_to`."""
        if self.sift is None:
            return self.read(answer_to(request, version, octets))
        octets, taken = self.sift(octets)
        answer_to(request, version, octets)
        return self.read(taken)


@dataclass(frozen=True, slots=True)
class Request:
    """One operation, encoded. ``id`` is what the answer must carry."""

    operation: enums.Operation
    id: bytes
    octets: bytes = field(repr=False)


class Encoder:
    """Requests in one version of the protocol, each with an id of its own."""

    def __init__(self, version: Version, login: Login | None = None, after: int = 0) -> None:
        self.version = version
        self._kmip_version = KMIP_VERSIONS[version]
        self._login = login
        self.last = after
        """The number of the last request; the next has the next."""

    def request(self, question: Question[Any]) -> Request:
        """The question as the only item of a batch. Raises KmipError for text that PyKMIP cannot write."""
        self.last += 1
        id = self.last.to_bytes(8)
        item = messages.RequestBatchItem(
            operation=contents.Operation(question.operation),
            unique_batch_item_id=contents.UniqueBatchItemID(id),
            request_payload=question.payload,
        )
        header = messages.RequestHeader(
            protocol_version=contents.ProtocolVersion(*self.version),
            maximum_response_size=contents.MaximumResponseSize(LARGEST_MESSAGE),
            authentication=self._authentication(),
            batch_count=contents.BatchCount(1),
        )
        stream = BytearrayStream()
        try:
            messages.RequestMessage(header, [item]).write(stream, self._kmip_version)
        except struct.error:
            raise KmipError(
                Reason.MALFORMED, "a name or an identifier is not all ASCII, and cannot be asked for"
            ) from None
        return Request(question.operation, id, bytes(stream.buffer))

    def _authentication(self) -> contents.Authentication | None:
        if self._login is None:
            return None
        value = objects.UsernamePasswordCredential(self._login.username, self._login.password)
        credential = objects.Credential(enums.CredentialType.USERNAME_AND_PASSWORD, value)
        return contents.Authentication([credential])


def message_length(header: bytes) -> int:
    """How many octets follow the first eight of an answer. Raises KmipError where it is none, or too large."""
    if header[:4] != _RESPONSE:
        hint = ": it speaks HTTP" if header.startswith(b"HTTP/") else ""
        raise KmipError(Reason.MALFORMED, f"what answers there is no KMIP server{hint}; look at the port")
    (length,) = struct.unpack("!I", header[4:])
    if length > LARGEST_MESSAGE:
        raise KmipError(Reason.MALFORMED, f"an answer of {length} bytes is too large; at most {LARGEST_MESSAGE}")
    return int(length)


def answer_to(request: Request, version: Version, octets: bytes) -> Any:
    """The payload of the answer to that request, None where it has none.

    Raises KmipError: it cannot be read, is to another request, or says that the operation failed.
    """
    item = _only_item(version, octets)
    status = _value(item.result_status)
    # A request that could not be read at all is answered without its id, and says what was wrong.
    failed = status is not enums.ResultStatus.SUCCESS
    id = _value(item.unique_batch_item_id)
    if id != request.id and not (failed and id is None and item.operation is None):
        raise KmipError(Reason.MISMATCH, "the answer is to another request than the one that was sent")
    if failed:
        raise _refusal(item, request.operation)
    if _value(item.operation) is not request.operation:
        raise KmipError(Reason.MISMATCH, "the answer is about another operation than the one that was asked for")
    return item.response_payload


def _only_item(version: Version, octets: bytes) -> messages.ResponseBatchItem:
    response = messages.ResponseMessage()
    stream = BytearrayStream(octets)
    try:
        response.read(stream, KMIP_VERSIONS[version])
        left = len(stream.buffer)
    except Exception as error:  # noqa: BLE001 - nothing carries on: PyKMIP raises anything for octets that are no KMIP
        raise KmipError(Reason.MALFORMED, f"the answer cannot be read as KMIP ({type(error).__name__})") from None
    if left or len(response.batch_items) != 1:
        raise KmipError(Reason.MALFORMED, "the answer has not just one item")
    return response.batch_items[0]


def _refusal(item: messages.ResponseBatchItem, operation: enums.Operation) -> KmipError:
    reason = _value(item.result_reason)
    said = reason.name if reason is not None else ""
    words = cleaned(str(_value(item.result_message) or "")) or "it does not say why"
    name = operation.name.title().replace("_", "")
    return KmipError(Reason.REFUSED, f"{name} was refused{f' ({said})' if said else ''}: {words}", said)


def _value(primitive: Any) -> Any:
    return None if primitive is None else primitive.value

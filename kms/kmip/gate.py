"""What the forwarder lets through to a key manager: five operations, on keys of some names where that is wanted.

A request is decoded, looked at, and encoded anew: what goes on is what was looked at, whatever else the octets could be
read as. Pure functions over octets; anything may stand in these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from kmip.core import attributes, enums, objects
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, messages, payloads
from kmip.core.utils import BytearrayStream

from kms.kmip.errors import KmipError, Reason
from kms.kmip.messages import KMIP_VERSIONS, LARGEST_MESSAGE, VERSIONS, Version

PASSING = frozenset(
    {
        enums.Operation.DISCOVER_VERSIONS,
        enums.Operation.QUERY,
        enums.Operation.LOCATE,
        enums.Operation.GET_ATTRIBUTES,
        enums.Operation.SIGN,
    }
)
LOCATED_BY = frozenset(
    {
        enums.AttributeType.NAME,
        enums.AttributeType.OBJECT_TYPE,
        enums.AttributeType.STATE,
        enums.AttributeType.CRYPTOGRAPHIC_ALGORITHM,
    }
)
REQUEST = bytes.fromhex("42007801")
"""Tag and type of a Request Message."""
LARGEST_REQUEST = 16_384
"""Octets: a certificate to be signed has some thousand. What PyKMIP reads it copies again for each element."""
MOST_ITEMS = 8
ANSWERED_IN: Version = (1, 2)
"""The version of an answer to what names none that is known."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that goes on. ``locates``: what its answer names are keys that may be used from then on."""

    octets: bytes = field(repr=False)
    version: Version
    operations: tuple[str, ...]
    locates: bool


class Denied(Exception):  # noqa: N818 - the request's fault, and none of ours
    """A request that does not go on; ``answer`` is what it is answered. The message says why."""

    def __init__(self, why: str, answer: bytes, operations: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.answer = answer
        self.operations = operations


def admit(octets: bytes, names: Collection[str] | None, known: Callable[[str], bool]) -> Admitted:
    """The request as it goes on. Raises Denied.

    ``names`` are those of the keys that may be used, None: all; ``known`` says of a Unique Identifier whether it was
    found by one of them.
    """
    message, version = _decoded(octets)
    items: list[Any] = message.batch_items
    operations = tuple(item.operation.value.name for item in items)
    for item in items:
        if item.operation.value not in PASSING:
            what = f"{_title(item.operation.value)} does not pass this forwarder"
            reason = enums.ResultReason.OPERATION_NOT_SUPPORTED
            raise Denied(what, failure(version, items, reason, what), operations)
        if names is not None and (why := _of_other_keys(item, names, known)) is not None:
            # What was located by a name that may be used is asked for again where it is no longer known here.
            reason = enums.ResultReason.ITEM_NOT_FOUND
            raise Denied(why, failure(version, items, reason, why), operations)
    try:
        again = _encoded_anew(message, version)
    except Exception as error:  # noqa: BLE001 - nothing goes on: PyKMIP reads some that it cannot write
        why = str(error) if isinstance(error, KmipError) else type(error).__name__
        what = f"the request cannot be encoded again ({why})"
        raise Denied(what, failure(version, items, enums.ResultReason.INVALID_MESSAGE, what), operations) from None
    return Admitted(again, version, operations, enums.Operation.LOCATE.name in operations)


def identifiers_in(admitted: Admitted, octets: bytes) -> Iterator[str]:
    """The Unique Identifiers that the answer to a request that locates names; none where it cannot be read."""
    response = messages.ResponseMessage()
    try:
        response.read(BytearrayStream(octets), KMIP_VERSIONS[admitted.version])
    except Exception:  # noqa: BLE001 - whoever asked is to make of it what it can; nothing more may be used for it
        return
    for item in response.batch_items:
        if item.operation is not None and item.operation.value is enums.Operation.LOCATE:
            yield from getattr(item.response_payload, "unique_identifiers", None) or ()


def failure(version: Version, items: list[Any], reason: enums.ResultReason, what: str) -> bytes:
    """The answer that each of the items has failed; without items, that the request could not be read."""
    failed = [
        messages.ResponseBatchItem(
            operation=None if item is None else contents.Operation(item.operation.value),
            unique_batch_item_id=None if item is None else _id(item.unique_batch_item_id),
            result_status=contents.ResultStatus(enums.ResultStatus.OPERATION_FAILED),
            result_reason=contents.ResultReason(reason),
            result_message=contents.ResultMessage(what),
        )
        for item in items or [None]
    ]
    header = messages.ResponseHeader(
        protocol_version=contents.ProtocolVersion(*version),
        time_stamp=contents.TimeStamp(0),
        batch_count=contents.BatchCount(len(failed)),
    )
    stream = BytearrayStream()
    messages.ResponseMessage(header, failed).write(stream, KMIP_VERSIONS[version])
    return bytes(stream.buffer)


def request_length(header: bytes) -> int:
    """How many octets follow the first eight of a request. Raises KmipError where it is none, or too large."""
    if header[:4] != REQUEST:
        raise KmipError(Reason.MALFORMED, "what came is no KMIP request")
    length = int.from_bytes(header[4:])
    if length > LARGEST_REQUEST:
        raise KmipError(Reason.MALFORMED, f"a request of {length} bytes is too large; at most {LARGEST_REQUEST}")
    return length


def _decoded(octets: bytes) -> tuple[messages.RequestMessage, Version]:
    message = messages.RequestMessage()
    stream = BytearrayStream(octets)
    try:
        message.read(stream)
        found = message.request_header.protocol_version
        version = (found.major, found.minor)
        known = version in VERSIONS and not stream.buffer and 0 < len(message.batch_items) <= MOST_ITEMS
    except Exception as error:  # noqa: BLE001 - nothing goes on: PyKMIP raises anything for octets that are no KMIP
        what = f"the request cannot be read ({type(error).__name__})"
        raise Denied(what, failure(ANSWERED_IN, [], enums.ResultReason.INVALID_MESSAGE, what)) from None
    if not known:
        what = f"the request is of no version from 1.2 to 2.0, has not 1 to {MOST_ITEMS} items, or more behind them"
        raise Denied(what, failure(ANSWERED_IN, [], enums.ResultReason.INVALID_MESSAGE, what))
    return message, version


# --- put together from what was read: PyKMIP writes some of what it has read otherwise than it was ---


def _encoded_anew(message: messages.RequestMessage, version: Version) -> bytes:
    header = messages.RequestHeader(
        protocol_version=contents.ProtocolVersion(*version),
        maximum_response_size=contents.MaximumResponseSize(LARGEST_MESSAGE),
        authentication=_authentication(message.request_header.authentication),
        batch_count=contents.BatchCount(len(message.batch_items)),
    )
    items = [
        messages.RequestBatchItem(
            operation=contents.Operation(item.operation.value),
            unique_batch_item_id=_id(item.unique_batch_item_id),
            request_payload=_payload(item.operation.value, item.request_payload),
        )
        for item in message.batch_items
    ]
    stream = BytearrayStream()
    messages.RequestMessage(header, items).write(stream, KMIP_VERSIONS[version])
    return bytes(stream.buffer)


def _id(found: Any) -> contents.UniqueBatchItemID | None:
    return None if found is None else contents.UniqueBatchItemID(bytes(found.value))


def _authentication(found: Any) -> contents.Authentication | None:
    if found is None:
        return None
    (credential,) = found.credentials
    value = credential.credential_value
    if not isinstance(value, objects.UsernamePasswordCredential):
        raise KmipError(Reason.REFUSED, "no credential but a name and a password passes")
    login = objects.UsernamePasswordCredential(value.username, value.password)
    return contents.Authentication([objects.Credential(enums.CredentialType.USERNAME_AND_PASSWORD, login)])


def _payload(operation: enums.Operation, found: Any) -> payloads.RequestPayload:
    match operation:
        case enums.Operation.DISCOVER_VERSIONS:
            named = [contents.ProtocolVersion(each.major, each.minor) for each in found.protocol_versions or ()]
            return payloads.DiscoverVersionsRequestPayload(named)
        case enums.Operation.QUERY:
            return payloads.QueryRequestPayload(list(found.query_functions or ()))
        case enums.Operation.LOCATE:
            return payloads.LocateRequestPayload(
                maximum_items=found.maximum_items, attributes=[_attribute(each) for each in found.attributes or ()]
            )
        case enums.Operation.GET_ATTRIBUTES:
            return payloads.GetAttributesRequestPayload(found.unique_identifier, list(found.attribute_names or ()))
        case _:
            return payloads.SignRequestPayload(
                found.unique_identifier, _parameters(found.cryptographic_parameters), bytes(found.data)
            )


def _attribute(found: Any) -> Any:
    """What a key is located by: name, kind, state and algorithm, and no more."""
    kind = enums.AttributeType(str(found.attribute_name.value))
    value = found.attribute_value
    if kind is enums.AttributeType.NAME:
        made = attributes.Name.create(str(value.name_value.value), value.name_type.value)
    elif kind in LOCATED_BY:
        made = value.value
    else:
        raise KmipError(Reason.REFUSED, f"no key is located by its {kind.value} here")
    return AttributeFactory().create_attribute(kind, made)


def _parameters(found: Any) -> attributes.CryptographicParameters | None:
    if found is None:
        return None
    return attributes.CryptographicParameters(
        padding_method=found.padding_method,
        hashing_algorithm=found.hashing_algorithm,
        digital_signature_algorithm=found.digital_signature_algorithm,
        cryptographic_algorithm=found.cryptographic_algorithm,
    )


def _of_other_keys(item: Any, names: Collection[str], known: Callable[[str], bool]) -> str | None:
    """Why the item is not only about keys of these names; None where it is."""
    operation, payload = item.operation.value, item.request_payload
    if operation is enums.Operation.LOCATE:
        asked = [
            str(attribute.attribute_value.name_value.value)
            for attribute in payload.attributes or ()
            if attribute.attribute_name.value == "Name"
        ]
        if len(asked) != 1 or asked[0] not in names:
            return "a key is to be located by the name of one that may be used here"
    elif operation in (enums.Operation.GET_ATTRIBUTES, enums.Operation.SIGN):
        identifier = payload.unique_identifier
        if identifier is None or not known(identifier):
            return "the key was not located here by a name that may be used"
    return None


def _title(operation: enums.Operation) -> str:
    return str(operation.name).title().replace("_", "")

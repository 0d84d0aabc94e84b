"""The operations that are asked of a key manager, each as a question and what is read from its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kmip.core import attributes, enums
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, payloads

from kms.kmip.errors import KmipError, Reason, cleaned
from kms.kmip.messages import VERSIONS, Question, Version

_WANTED = ("State", "Cryptographic Algorithm", "Cryptographic Length", "Cryptographic Usage Mask")


@dataclass(frozen=True, slots=True)
class Server:
    """What a key manager tells of itself. Operations have PyKMIP's names (``SIGN``, ``CREATE_KEY_PAIR``)."""

    operations: frozenset[str]
    vendor: str


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """What it tells of a key, in KMIP's names (``ACTIVE``, ``RSA``, ``SIGN``).

    None, or empty, for what it leaves out. ``length`` in bits.
    """

    state: str | None
    algorithm: str | None
    length: int | None
    usage: frozenset[str]


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """How SIGN is to sign (KMIP 1.4, 3.6): RSA with PKCS #1 v1.5 or PSS, or ECDSA.

    PyKMIP cannot name the length of PSS's salt: the key manager's own choice must be that of the hash, as certificates
    are made (RFC 4055 3.1), else what it signs does not verify.
    """

    algorithm: str
    """RSA or ECDSA."""
    hash: str
    """SHA_256, SHA_384 or SHA_512."""
    pss: bool = False

    def parameters(self) -> attributes.CryptographicParameters:
        """As Cryptographic Parameters.

        The padding is always named, since some servers have no default; the digital signature algorithm never, which
        would say the same once more.
        """
        padding = None
        if self.algorithm == "RSA":
            padding = enums.PaddingMethod.PSS if self.pss else enums.PaddingMethod.PKCS1v15
        return attributes.CryptographicParameters(
            padding_method=padding,
            hashing_algorithm=enums.HashingAlgorithm[self.hash],
            cryptographic_algorithm=enums.CryptographicAlgorithm[self.algorithm],
        )


def discover_versions() -> Question[list[Version]]:
    """Which of ours the server speaks, in its order of preference (KMIP 1.4, 4.26)."""
    asked = [contents.ProtocolVersion(*version) for version in VERSIONS]
    payload = payloads.DiscoverVersionsRequestPayload(asked)
    return Question(enums.Operation.DISCOVER_VERSIONS, payload, _versions)


def query() -> Question[Server]:
    """What the server can do, and whose it is (KMIP 1.4, 4.25)."""
    asked = [enums.QueryFunction.QUERY_OPERATIONS, enums.QueryFunction.QUERY_SERVER_INFORMATION]
    return Question(enums.Operation.QUERY, payloads.QueryRequestPayload(asked), _server)


def locate_private_keys(name: str) -> Question[tuple[str, ...]]:
    """The Unique Identifiers of the private keys of that name (KMIP 1.4, 4.9)."""
    factory = AttributeFactory()
    text = attributes.Name.create(name, enums.NameType.UNINTERPRETED_TEXT_STRING)
    wanted = [
        factory.create_attribute(enums.AttributeType.NAME, text),
        factory.create_attribute(enums.AttributeType.OBJECT_TYPE, enums.ObjectType.PRIVATE_KEY),
    ]
    payload = payloads.LocateRequestPayload(maximum_items=2, attributes=wanted)  # two are one too many
    return Question(enums.Operation.LOCATE, payload, _identifiers)


def get_attributes(identifier: str) -> Question[KeyAttributes]:
    """State, algorithm, length and usage of a key, and no more: servers have others in forms of their own."""
    payload = payloads.GetAttributesRequestPayload(identifier, list(_WANTED))
    return Question(enums.Operation.GET_ATTRIBUTES, payload, _attributes)


def sign(identifier: str, scheme: SignatureScheme, data: bytes) -> Question[bytes]:
    """Hash the data and sign it with that key (KMIP 1.4, 4.34)."""
    payload = payloads.SignRequestPayload(identifier, scheme.parameters(), data)
    return Question(enums.Operation.SIGN, payload, _signature)


def _versions(payload: Any) -> list[Version]:
    found = getattr(payload, "protocol_versions", None) or ()
    return [(version.major, version.minor) for version in found]


def _server(payload: Any) -> Server:
    operations = frozenset(operation.name for operation in (getattr(payload, "operations", None) or ()))
    return Server(operations, cleaned(str(getattr(payload, "vendor_identification", None) or "")))


def _identifiers(payload: Any) -> tuple[str, ...]:
    return tuple(getattr(payload, "unique_identifiers", None) or ())


def _attributes(payload: Any) -> KeyAttributes:
    found = {
        attribute.attribute_name.value: attribute.attribute_value.value
        for attribute in (getattr(payload, "attributes", None) or ())
    }
    state, algorithm, length, mask = (found.get(name) for name in _WANTED)
    used = mask if isinstance(mask, int) else 0
    return KeyAttributes(
        state=getattr(state, "name", None),
        algorithm=getattr(algorithm, "name", None),
        length=length if isinstance(length, int) else None,
        usage=frozenset(one.name for one in enums.CryptographicUsageMask if used & one.value),
    )


def _signature(payload: Any) -> bytes:
    signature = getattr(payload, "signature_data", None)
    if not isinstance(signature, bytes) or not signature:
        raise KmipError(Reason.MALFORMED, "the answer to Sign holds no signature")
    return signature

"""The operations that are asked of a key manager, each as a question and what is read from its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmip.core import attributes, enums, objects
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, payloads
from kmip.core.secrets import PublicKey

from certs.public_keys import PublicKeyProblem, public_key_of
from certs.signer import VerifyingKey
from kms.kmip.errors import KmipError, Reason, cleaned
from kms.kmip.links import PUBLIC_KEY_LINK, Link, without_links
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
    return _locate(name, enums.ObjectType.PRIVATE_KEY)


def locate_public_keys(name: str) -> Question[tuple[str, ...]]:
    """The same of public keys."""
    return _locate(name, enums.ObjectType.PUBLIC_KEY)


def locate_anything(name: str) -> Question[tuple[str, ...]]:
    """The same of objects of any kind."""
    return _locate(name)


def _locate(name: str, kind: enums.ObjectType | None = None) -> Question[tuple[str, ...]]:
    factory = AttributeFactory()
    wanted = [_named(name)]
    if kind is not None:
        wanted.append(factory.create_attribute(enums.AttributeType.OBJECT_TYPE, kind))
    payload = payloads.LocateRequestPayload(maximum_items=2, attributes=wanted)  # two are one too many
    return Question(enums.Operation.LOCATE, payload, _identifiers)


def _named(name: str) -> Any:
    text = attributes.Name.create(name, enums.NameType.UNINTERPRETED_TEXT_STRING)
    return AttributeFactory().create_attribute(enums.AttributeType.NAME, text)


def get_attributes(identifier: str) -> Question[KeyAttributes]:
    """State, algorithm, length and usage of a key, and no more: servers have others in forms of their own."""
    payload = payloads.GetAttributesRequestPayload(identifier, list(_WANTED))
    return Question(enums.Operation.GET_ATTRIBUTES, payload, _attributes)


def object_type(identifier: str) -> Question[str | None]:
    """Of which kind an object is, in KMIP's names (``PUBLIC_KEY``); None where the server does not say."""
    payload = payloads.GetAttributesRequestPayload(identifier, ["Object Type"])
    return Question(enums.Operation.GET_ATTRIBUTES, payload, _object_type)


def public_key_links(identifier: str) -> Question[tuple[str, ...]]:
    """The Unique Identifiers of the public keys that a private key says are its own (KMIP 1.4, 3.35)."""
    # PyKMIP's server, which has no links, says nothing at all where it has none of what was asked for.
    payload = payloads.GetAttributesRequestPayload(identifier, ["Link", "Object Type"])
    return Question(enums.Operation.GET_ATTRIBUTES, payload, _public_keys, without_links)


def get_public_key(identifier: str) -> Question[VerifyingKey]:
    """A public key (KMIP 1.4, 4.11), whose :func:`object_type` must have been seen to be that.

    An answer with anything else in it ends the connection, and nothing of it is used.
    """
    return Question(enums.Operation.GET, payloads.GetRequestPayload(unique_identifier=identifier), _public_key)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The Unique Identifiers of a new one."""

    private: str
    public: str


def create_key_pair(
    name: str, public_name: str, bits: int, protection: Mapping[enums.AttributeType, bool]
) -> Question[KeyPair]:
    """A new RSA key pair (KMIP 1.4, 4.2): the private half may Sign, the public one Verify, and neither anything else.

    The halves have names of their own, since names are to be unique (3.2). ``protection``: what else the private half
    is to be.
    """
    factory = AttributeFactory()
    common = [
        factory.create_attribute(enums.AttributeType.CRYPTOGRAPHIC_ALGORITHM, enums.CryptographicAlgorithm.RSA),
        factory.create_attribute(enums.AttributeType.CRYPTOGRAPHIC_LENGTH, bits),
    ]
    halves = [
        [_named(each), factory.create_attribute(enums.AttributeType.CRYPTOGRAPHIC_USAGE_MASK, [use])]
        for each, use in (
            (name, enums.CryptographicUsageMask.SIGN),
            (public_name, enums.CryptographicUsageMask.VERIFY),
        )
    ]
    halves[0] += [factory.create_attribute(kind, value) for kind, value in protection.items()]
    payload = payloads.CreateKeyPairRequestPayload(
        objects.TemplateAttribute(attributes=common, tag=enums.Tags.COMMON_TEMPLATE_ATTRIBUTE),
        objects.TemplateAttribute(attributes=halves[0], tag=enums.Tags.PRIVATE_KEY_TEMPLATE_ATTRIBUTE),
        objects.TemplateAttribute(attributes=halves[1], tag=enums.Tags.PUBLIC_KEY_TEMPLATE_ATTRIBUTE),
    )
    return Question(enums.Operation.CREATE_KEY_PAIR, payload, _key_pair)


def activate(identifier: str) -> Question[None]:
    """Have a key be active, so that it can sign (KMIP 1.4, 4.19)."""
    payload = payloads.ActivateRequestPayload(attributes.UniqueIdentifier(identifier))
    return Question(enums.Operation.ACTIVATE, payload, lambda _: None)


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


def _object_type(payload: Any) -> str | None:
    for attribute in getattr(payload, "attributes", None) or ():
        if attribute.attribute_name.value == "Object Type":
            return getattr(attribute.attribute_value.value, "name", None)
    return None


def _public_keys(links: tuple[Link, ...]) -> tuple[str, ...]:
    return tuple(link.identifier for link in links if link.kind == PUBLIC_KEY_LINK)


def _public_key(payload: Any) -> VerifyingKey:
    held = getattr(payload, "secret", None)
    if getattr(payload, "object_type", None) is not enums.ObjectType.PUBLIC_KEY or not isinstance(held, PublicKey):
        raise KmipError(Reason.MALFORMED, "the answer to Get holds no public key, but something else: it is not used")
    block = held.key_block
    value = getattr(getattr(block.key_value, "key_material", None), "value", None)
    if block.key_wrapping_data is not None or not isinstance(value, bytes):
        raise KmipError(Reason.MALFORMED, "the key manager gives the public key in a form that is not read")
    try:
        return public_key_of(value)
    except PublicKeyProblem as error:
        raise KmipError(Reason.MALFORMED, f"the public key that the key manager gives: {error}") from None


def _key_pair(payload: Any) -> KeyPair:
    private = getattr(payload, "private_key_unique_identifier", None)
    public = getattr(payload, "public_key_unique_identifier", None)
    if not private or not public:
        raise KmipError(Reason.MALFORMED, "the answer to CreateKeyPair does not name two keys")
    return KeyPair(private, public)


def _signature(payload: Any) -> bytes:
    signature = getattr(payload, "signature_data", None)
    if not isinstance(signature, bytes) or not signature:
        raise KmipError(Reason.MALFORMED, "the answer to Sign holds no signature")
    return signature

"""What no real KMIP server can be made to do: answer late, twice, another's question, garbage, with an ECDSA key.

    fake = FakeKmip(identity, clients, key)
    fake.on["SIGN"] = late(...)
    async with fake: fake.port

It speaks real TLS and real TTLV, encoded by PyKMIP; only what it answers is made up.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from kmip.core import enums, objects, primitives, secrets
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import contents, messages, payloads
from kmip.core.misc import KeyFormatType
from kmip.core.utils import BytearrayStream

from tests.harness.pki import Authority, Issued

type SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
type Answer = bytes | None
"""Octets to be sent; None: nothing, and the connection stays."""


class CloseNow(Exception):  # noqa: N818 - it is no error
    """Raised by an answer to have the connection closed, after ``octets``."""

    def __init__(self, octets: bytes = b"") -> None:
        super().__init__()
        self.octets = octets


class Asked:
    """A request, decoded, and the answers that can be made to it."""

    def __init__(self, fake: FakeKmip, octets: bytes) -> None:
        self.fake = fake
        message = messages.RequestMessage()
        message.read(BytearrayStream(octets))
        self.header = message.request_header
        item = message.batch_items[0]
        self.operation: enums.Operation = item.operation.value
        self.id: bytes = item.unique_batch_item_id.value
        self.payload = item.request_payload
        self.version = contents.protocol_version_to_kmip_version(self.header.protocol_version)

    def reply(
        self,
        payload: Any = None,
        status: enums.ResultStatus = enums.ResultStatus.SUCCESS,
        reason: enums.ResultReason | None = None,
        text: str | None = None,
        id: bytes | None = None,
        operation: enums.Operation | None = None,
        items: int = 1,
    ) -> bytes:
        """The answer, encoded."""
        item = messages.ResponseBatchItem(
            operation=contents.Operation(operation or self.operation),
            unique_batch_item_id=contents.UniqueBatchItemID(self.id if id is None else id),
            result_status=contents.ResultStatus(status),
            result_reason=None if reason is None else contents.ResultReason(reason),
            result_message=None if text is None else contents.ResultMessage(text),
            response_payload=payload,
        )
        header = messages.ResponseHeader(
            protocol_version=self.header.protocol_version,
            time_stamp=contents.TimeStamp(1_700_000_000),
            batch_count=contents.BatchCount(items),
        )
        stream = BytearrayStream()
        messages.ResponseMessage(header, [item] * items).write(stream, self.version)
        return bytes(stream.buffer)

    def refuse(self, reason: enums.ResultReason, text: str) -> bytes:
        return self.reply(status=enums.ResultStatus.OPERATION_FAILED, reason=reason, text=text)

    def as_it_should(self) -> bytes:
        """The right answer."""
        fake = self.fake
        match self.operation:
            case enums.Operation.DISCOVER_VERSIONS:
                versions = [contents.ProtocolVersion(*version) for version in fake.versions]
                return self.reply(payloads.DiscoverVersionsResponsePayload(versions))
            case enums.Operation.QUERY:
                operations = [enums.Operation[name] for name in fake.operations]
                return self.reply(payloads.QueryResponsePayload(operations, vendor_identification="a fake"))
            case enums.Operation.LOCATE:
                return self.reply(payloads.LocateResponsePayload(unique_identifiers=list(fake.identifiers)))
            case enums.Operation.GET_ATTRIBUTES:
                return self.reply(
                    payloads.GetAttributesResponsePayload(self.payload.unique_identifier, self._attributes())
                )
            case enums.Operation.GET:
                return self.reply(self._object(fake.kinds.get(self.payload.unique_identifier, "PRIVATE_KEY")))
            case enums.Operation.CREATE_KEY_PAIR:
                return self.reply(payloads.CreateKeyPairResponsePayload("1", "public"))
            case enums.Operation.ACTIVATE:
                return self.reply(payloads.ActivateResponsePayload(self.payload.unique_identifier))
            case enums.Operation.SIGN:
                signature = fake.signature(self.payload)
                return self.reply(payloads.SignResponsePayload(self.payload.unique_identifier, signature))
            case _:
                return self.refuse(enums.ResultReason.OPERATION_NOT_SUPPORTED, "not supported")

    def _attributes(self) -> list[Any]:
        factory = AttributeFactory()
        fake = self.fake
        algorithm = "RSA" if isinstance(fake.key, rsa.RSAPrivateKey) else "ECDSA"
        kind = fake.kinds.get(self.payload.unique_identifier, "PRIVATE_KEY")
        made: dict[enums.AttributeType, Any] = {
            enums.AttributeType.OBJECT_TYPE: enums.ObjectType[kind],
            enums.AttributeType.STATE: enums.State[fake.state],
            enums.AttributeType.CRYPTOGRAPHIC_ALGORITHM: enums.CryptographicAlgorithm[fake.algorithm or algorithm],
            enums.AttributeType.CRYPTOGRAPHIC_LENGTH: fake.length or fake.key.key_size,
            enums.AttributeType.CRYPTOGRAPHIC_USAGE_MASK: [enums.CryptographicUsageMask[name] for name in fake.usage],
        }
        asked = self.payload.attribute_names
        attributes = [factory.create_attribute(kind, value) for kind, value in made.items() if kind.value in asked]
        if "Link" in asked:
            attributes += [link(kind, identifier, self.version) for kind, identifier in fake.links]
        return attributes

    def _object(self, kind: str) -> Any:
        """The half of the key that is of that kind."""
        key = self.fake.key
        if kind == "PRIVATE_KEY":
            form = KeyFormatType(enums.KeyFormatType.PKCS_8)
            octets = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            made = secrets.PrivateKey(objects.KeyBlock(form, key_value=objects.KeyValue(objects.KeyMaterial(octets))))
        else:
            form = KeyFormatType(enums.KeyFormatType.X_509)
            octets = self.fake.public or key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            made = secrets.PublicKey(objects.KeyBlock(form, key_value=objects.KeyValue(objects.KeyMaterial(octets))))
        return payloads.GetResponsePayload(enums.ObjectType[kind], self.payload.unique_identifier, made)


def link(kind: enums.LinkType, identifier: str, version: enums.KMIPVersion) -> Any:
    """A link as an attribute, which PyKMIP has no class for."""
    value = _Link(kind, identifier)
    if version >= enums.KMIPVersion.KMIP_2_0:
        value.tag = enums.Tags.LINK
    return objects.Attribute(objects.Attribute.AttributeName("Link"), attribute_value=value)


class _Link(primitives.Struct):  # type: ignore[misc] # PyKMIP has no types
    def __init__(self, kind: enums.LinkType, identifier: str) -> None:
        super().__init__(enums.Tags.ATTRIBUTE_VALUE)
        self._fields = [
            primitives.Enumeration(enums.LinkType, kind, enums.Tags.LINK_TYPE),
            primitives.TextString(identifier, enums.Tags.LINKED_OBJECT_IDENTIFIER),
        ]

    def write(self, stream: Any, kmip_version: Any = None) -> None:
        content = BytearrayStream()
        for field in self._fields:
            field.write(content)
        self.length = content.length()
        super().write(stream)
        stream.write(content.buffer)


class FakeKmip:
    """On loopback, in the test's own event loop. ``on`` says by operation what is answered otherwise than it should."""

    def __init__(self, identity: Issued, clients: Authority, key: SigningKey) -> None:
        self.key = key
        self.versions: list[tuple[int, int]] = [(1, 4), (1, 3), (1, 2)]
        self.operations = ["DISCOVER_VERSIONS", "QUERY", "LOCATE", "GET_ATTRIBUTES", "SIGN"]
        self.identifiers = ["1"]
        self.state, self.usage = "ACTIVE", ["SIGN"]
        self.kinds = {"public": "PUBLIC_KEY"}
        """Of which kind the object of that Unique Identifier is; all others are private keys."""
        self.links: list[tuple[enums.LinkType, str]] = []
        self.public: bytes | None = None
        """What it gives as the public key; None: what is right."""
        self.algorithm: str | None = None
        self.length: int | None = None
        self.p1363 = False
        """Whether ECDSA signatures are two numbers one behind the other."""
        self.on: dict[str, Callable[[Asked], Answer]] = {}
        self.asked: list[Asked] = []
        self.came = asyncio.Event()
        """Set with each request."""
        self.connections = 0
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(cadata=clients.raw)
        with tempfile.TemporaryDirectory() as folder:
            self._context.load_cert_chain(*map(str, identity.write(Path(folder), "server")))
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()

    async def start(self) -> None:
        """Listen, on the port that it had before where it had one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Listen no more, and cut every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def signature(self, payload: Any) -> bytes:
        parameters = payload.cryptographic_parameters
        algorithm = getattr(hashes, parameters.hashing_algorithm.name.replace("_", ""))()
        if isinstance(self.key, rsa.RSAPrivateKey):
            how: padding.AsymmetricPadding = padding.PKCS1v15()
            if parameters.padding_method is enums.PaddingMethod.PSS:
                how = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
            return self.key.sign(payload.data, how, algorithm)
        signed = self.key.sign(payload.data, ec.ECDSA(algorithm))
        if not self.p1363:
            return signed
        size = (self.key.curve.key_size + 7) // 8
        return b"".join(number.to_bytes(size) for number in decode_dss_signature(signed))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                header = await reader.readexactly(8)
                asked = Asked(self, header + await reader.readexactly(int.from_bytes(header[4:])))
                self.asked.append(asked)
                self.came.set()
                answer = self.on.get(asked.operation.name, Asked.as_it_should)
                try:
                    octets = answer(asked)
                except CloseNow as close:
                    writer.write(close.octets)
                    await writer.drain()
                    writer.close()
                    return
                if octets is not None:
                    writer.write(octets)
                    await writer.drain()

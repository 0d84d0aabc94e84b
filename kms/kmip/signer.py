"""Signatures of a key that stays in a key manager. None is believed that does not verify with the CA's public key."""

from __future__ import annotations

import asyncio

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from certs.signer import Health, RemoteSigner, SigningError, VerifyingKey, hash_for, padding_for
from kms.kmip import operations
from kms.kmip.connection import Connection, Endpoint
from kms.kmip.errors import KmipError, Reason
from kms.kmip.operations import SignatureScheme
from kms.kmip.pool import Pool


def scheme_for(key: VerifyingKey, pss: bool = False) -> SignatureScheme:
    """How a key of that kind signs certificates. Raises SigningError for one that should sign none."""
    name = "SHA_" + hash_for(key).name.removeprefix("sha")
    return SignatureScheme("RSA" if isinstance(key, rsa.RSAPublicKey) else "ECDSA", name, pss)


class KmipSigner(RemoteSigner):
    """The key of that name, whose public half is that of the issuing certificate."""

    def __init__(self, pool: Pool, key_name: str, public_key: VerifyingKey, pss: bool = False) -> None:
        """Raises SigningError for a key that should sign nothing."""
        self.scheme = scheme_for(public_key, pss)
        self.pss = pss
        self._pool = pool
        self._name = key_name
        self._public_key = public_key
        self._identifiers: dict[Endpoint, str] = {}
        """What each host calls the key: that two of them give it the same Unique Identifier, KMIP does not say."""

    def __repr__(self) -> str:
        return f"KmipSigner({self.scheme.algorithm} key {self._name!r})"

    def public_key(self) -> VerifyingKey:
        return self._public_key

    @property
    def down(self) -> str | None:
        return self._pool.hosts.why_none

    @property
    def crowded(self) -> str | None:
        return self._pool.crowded

    def health(self) -> Health:
        return self._pool.health()

    def has_room(self) -> bool:
        return self._pool.has_room()

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        self._pool.stop()

    async def signature(self, data: bytes) -> bytes:
        """The signature of the data. Raises SigningError, of a KmipError."""
        try:
            # One deadline, whatever has to be asked for it.
            async with asyncio.timeout(self._pool.timeout):
                waited = await self._pool.turn()
                made = await self._pool.use(lambda connection: self._signed(connection, data), waited)
        except KmipError as error:
            raise SigningError(str(error), crowded=error.crowded) from error
        except TimeoutError:
            raise SigningError(f"no signature within {self._pool.timeout:g} s") from None
        return encoded(self._public_key, made)

    async def _signed(self, connection: Connection, data: bytes) -> bytes:
        endpoint = connection.at.endpoint
        known = self._identifiers.get(endpoint)
        if known is None:
            return await self._sign(connection, await self._located(connection), data)
        try:
            return await self._sign(connection, known, data)
        except KmipError as error:
            if not error.answered and error.reason is not Reason.SIGNATURE:
                raise
            # The key may have been replaced by another of the same name; whether that is the CA's its signature tells.
            self._identifiers.pop(endpoint, None)
            if (found := await self._located(connection)) == known:
                raise
        return await self._sign(connection, found, data)

    async def _located(self, connection: Connection) -> str:
        found = await connection.ask(operations.locate_private_keys(self._name))
        if len(found) != 1:
            what = "no private key" if not found else f"{len(found)} private keys"
            raise KmipError(
                Reason.REFUSED, f"the key manager has {what} of the name {self._name!r}; there must be just one"
            )
        self._identifiers[connection.at.endpoint] = found[0]
        return found[0]

    async def _sign(self, connection: Connection, identifier: str, data: bytes) -> bytes:
        began = self._pool.now()
        made = await connection.ask(operations.sign(identifier, self.scheme, data))
        verify(self._public_key, self.scheme, made, data, self._name)
        self._pool.signed(connection.at.endpoint, began)
        return made


def verify(key: VerifyingKey, scheme: SignatureScheme, signature: bytes, data: bytes, name: str) -> None:
    """Raises KmipError where the signature of the key of that name is not the public key's."""
    chosen = hash_for(key)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            how = padding_for(key, scheme.pss)
            assert how is not None  # noqa: S101 - RSA has one
            key.verify(signature, data, how, chosen)
        else:
            key.verify(encoded(key, signature), data, ec.ECDSA(chosen))
    except (InvalidSignature, ValueError):
        what = "does not verify with the signing certificate's key: it is not used"
        raise KmipError(Reason.SIGNATURE, f"what the key manager signed with {name!r} {what}") from None


def encoded(key: VerifyingKey, signature: bytes) -> bytes:
    """As certificates have it: some servers give ECDSA's two numbers one behind the other (IEEE P1363)."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return signature
    half = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * half or _is_der_of_two(signature):
        return signature
    return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))


def _is_der_of_two(signature: bytes) -> bool:
    try:
        decode_dss_signature(signature)
    except ValueError:
        return False
    return True

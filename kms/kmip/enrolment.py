"""A key in a key manager that has no certificate yet: its public half, or a new key pair where that is wanted.

A private key is asked for by nothing here: what is got is seen to be a public key, before it is asked for and after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from kmip.core.enums import AttributeType

from certs.signer import VerifyingKey
from kms.kmip import operations
from kms.kmip.connection import Connection, Endpoint, Reach, connect
from kms.kmip.errors import KmipError, Reason
from kms.kmip.messages import Version
from kms.kmip.operations import KeyPair

CREATING_SECONDS = 60.0
"""How long a key manager may take for a key pair: RSA of 4096 bits, in hardware, takes some."""
PUBLIC_SUFFIX = "-public"
"""Behind the name of a new private key, that of its public key: two objects of one name there cannot be everywhere."""
PROTECTIONS: tuple[Mapping[AttributeType, bool], ...] = (
    {AttributeType.SENSITIVE: True, AttributeType.EXTRACTABLE: False},
    {AttributeType.SENSITIVE: True},
    {},
)
"""That the private half never leaves (KMIP 1.4, 3.48, 3.50), as far as the server knows how to say it, most first."""
PROTECTED_SINCE: Version = (1, 4)
_UNKNOWN = frozenset(
    {
        "INVALID_MESSAGE",
        "INVALID_FIELD",
        "INVALID_ATTRIBUTE",
        "INVALID_ATTRIBUTE_VALUE",
        "UNSUPPORTED_ATTRIBUTE",
        "FEATURE_NOT_SUPPORTED",
        "UNKNOWN_TAG",
    }
)
"""What a server says of an attribute that it does not know. It has made nothing then."""


class EnrolmentError(Exception):
    """There is no key of which a certificate could be asked for. One line: at which host, why, and what to do."""


async def public_key(endpoint: Endpoint, reach: Reach, name: str, seconds: float) -> VerifyingKey:
    """The public half of the private key of that name. ``seconds`` is for all of it. Raises EnrolmentError.

    It is the one that the private key links to; where a server has no links, the public key of the same name, or of
    that with :data:`PUBLIC_SUFFIX`. Whether it is the half of that key, a signature must tell.
    """
    async with _at(endpoint, reach, seconds) as connection:
        found = await connection.ask(operations.locate_private_keys(name))
        if len(found) != 1:
            what = "no private key" if not found else f"{len(found)} private keys"
            hint = "; look at the name, or have one made with --create-key" if not found else "; rename the others"
            raise EnrolmentError(f"{endpoint}: the key manager has {what} of the name {name!r}{hint}")
        identifier = await _public_identifier(connection, found[0], name)
        if identifier is None:
            raise EnrolmentError(
                f"{endpoint}: the key manager tells of no public key of {name!r}; give it with --public-key FILE"
            )
        try:
            return await _got(connection, identifier)
        except KmipError as error:
            if not error.answered and error.reason is not Reason.MALFORMED:
                raise
            raise EnrolmentError(
                f"{endpoint}: the public key of {name!r} is not to be had: {error}; give it with --public-key FILE"
            ) from None


async def create_key(
    endpoints: Sequence[Endpoint], reach: Reach, name: str, bits: int, seconds: float
) -> tuple[VerifyingKey, bool]:
    """Make an active RSA key pair at the first of the hosts, where none of them has anything of that name.

    Returns its public half, and whether the server took it that the private half never leaves. Raises EnrolmentError,
    which says so where a key pair was made, or may have been.
    """
    for endpoint in endpoints:
        async with _at(endpoint, reach, seconds) as connection:
            for each in (name, name + PUBLIC_SUFFIX):
                if await _is_there(connection, each):
                    raise EnrolmentError(
                        f"{endpoint}: the key manager has something of the name {each!r} already, so nothing is made; "
                        "take another name, or leave out --create-key to use the key"
                    )
    primary = endpoints[0]
    made: KeyPair | None = None
    try:
        async with _at(primary, reach, CREATING_SECONDS) as connection:
            made, protected = await _created(connection, name, bits)
            await connection.ask(operations.activate(made.private))
            return await _got(connection, made.public), protected
    except _NothingMadeError as error:
        instead = "make it there, active, with Sign in its usage mask, and leave out --create-key"
        raise EnrolmentError(f"{primary}: no key pair was made: {error}; {instead}") from None
    except EnrolmentError as error:
        if made is None:
            raise EnrolmentError(f"{error}; whether {name!r} was made is not known: look there") from None
        stays = f"the key pair {name!r} was made there and stays; once that is mended, ask again without --create-key"
        raise EnrolmentError(f"{error}; {stays}") from None


class _NothingMadeError(Exception):
    """The server has refused to make a key pair."""


@asynccontextmanager
async def _at(endpoint: Endpoint, reach: Reach, seconds: float) -> AsyncIterator[Connection]:
    """A connection for what is done within the time; what fails there is an EnrolmentError that names the host."""
    try:
        async with asyncio.timeout(seconds):
            connection = await connect(endpoint, reach)
            try:
                yield connection
            finally:
                connection.abort()
    except KmipError as error:
        raise EnrolmentError(f"{endpoint}: {error}") from None
    except TimeoutError:
        raise EnrolmentError(f"{endpoint}: no answer within {seconds:g} s") from None


async def _is_there(connection: Connection, name: str) -> bool:
    try:
        return bool(await connection.ask(operations.locate_anything(name)))
    except KmipError as error:
        if error.said != "ITEM_NOT_FOUND":
            raise
        return False  # some servers, and our forwarder, say so in place of an empty list


async def _created(connection: Connection, name: str, bits: int) -> tuple[KeyPair, bool]:
    least = PROTECTIONS[-1]
    for protection in PROTECTIONS if connection.version >= PROTECTED_SINCE else (least,):
        try:
            question = operations.create_key_pair(name, name + PUBLIC_SUFFIX, bits, protection)
            return await connection.ask(question), protection is not least
        except KmipError as error:
            if not error.answered:
                raise
            if error.said not in _UNKNOWN or protection is least:
                raise _NothingMadeError(str(error)) from None
    raise AssertionError  # the last of them returns or raises


async def _public_identifier(connection: Connection, private: str, name: str) -> str | None:
    for question in (
        operations.public_key_links(private),
        operations.locate_public_keys(name),
        operations.locate_public_keys(name + PUBLIC_SUFFIX),
    ):
        try:
            found = await connection.ask(question)
        except KmipError as error:
            if not error.answered:
                raise
            continue  # a server that knows of no links, or a forwarder that lets no other name be asked for
        if len(found) == 1 and found[0] != private:
            return found[0]
    return None


async def _got(connection: Connection, identifier: str) -> VerifyingKey:
    kind = await connection.ask(operations.object_type(identifier))
    if kind != "PUBLIC_KEY":
        told = "does not say of which kind it is" if kind is None else f"says that it is a {kind.lower()}"
        raise KmipError(Reason.MALFORMED, f"the key manager {told}, so it is not asked for".replace("_", " "))
    return await connection.ask(operations.get_public_key(identifier))

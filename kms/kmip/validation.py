"""Whether a key manager can sign for a CA: step by step, each with its own words, until one fails.

The steps are those of a real request, in its order, so that what is found is what a request would meet.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec

from certs.signer import SigningError, VerifyingKey
from kms.kmip import operations
from kms.kmip.connection import Connection, Endpoint, Reach, TlsStream, addresses_of, agree, secure, tcp
from kms.kmip.errors import KmipError
from kms.kmip.signer import scheme_for, verify


class Step(StrEnum):
    """What is looked at, in this order."""

    ADDRESS = "address"
    CONNECTION = "connection"
    TLS = "tls"
    VERSIONS = "versions"
    OPERATIONS = "operations"
    KEY = "key"
    STATE = "state"
    ALGORITHM = "algorithm"
    USAGE = "usage"
    SIGNATURE = "signature"


MEANING = {
    Step.ADDRESS: "the name has an address that may be connected to",
    Step.CONNECTION: "somebody listens there",
    Step.TLS: "their certificate is accepted, and TLS stands",
    Step.VERSIONS: "our client certificate is accepted, and a version of KMIP is common",
    Step.OPERATIONS: "the key manager can sign",
    Step.KEY: "there is just one private key of that name",
    Step.STATE: "the key is active",
    Step.ALGORITHM: "the key is of the certificate's algorithm and length",
    Step.USAGE: "the key may sign",
    Step.SIGNATURE: "what it signs verifies with the certificate",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a step found: ``passed``, and in words what or why not."""

    step: Step
    passed: bool
    text: str


class StepError(Exception):
    """A step failed; the message says why."""


async def steps(
    endpoint: Endpoint, reach: Reach, key_name: str, key: VerifyingKey | None, pss: bool, seconds: float
) -> AsyncIterator[Found]:
    """Each step as it is done, up to the first that fails. ``seconds`` is for each request; ``key`` the certificate's.

    Without a key nothing is signed (there is no certificate yet).
    """
    looking = _Looking(endpoint, reach, key_name, key, pss)
    try:
        for step in Step:
            if step is Step.SIGNATURE and key is None:
                return
            try:
                async with asyncio.timeout(seconds):
                    text = await getattr(looking, step.value)()
            except TimeoutError:
                yield Found(step, False, f"no answer from {endpoint} within {seconds:g} s")
                return
            except (KmipError, SigningError, StepError) as error:
                yield Found(step, False, str(error))
                return
            yield Found(step, True, text)
    finally:
        looking.end()


class _Looking:
    """What one step hands on to the next."""

    def __init__(self, endpoint: Endpoint, reach: Reach, key_name: str, key: VerifyingKey | None, pss: bool) -> None:
        self._endpoint, self._reach = endpoint, reach
        self._name, self._key, self._pss = key_name, key, pss
        self._addresses: list[str] = []
        self._identifier = ""
        self._raw: socket.socket | None = None
        self._at: TlsStream | None = None

    def end(self) -> None:
        if self._raw is not None:
            self._raw.close()
        if self._at is not None:
            self._at.abort()

    async def address(self) -> str:
        self._addresses = await addresses_of(self._endpoint, self._reach)
        return ", ".join(self._addresses)

    async def connection(self) -> str:
        self._raw = await tcp(self._endpoint, self._reach, self._addresses)
        return f"{self._endpoint} at {self._raw.getpeername()[0]}, from {self._raw.getsockname()[0]}"

    async def tls(self) -> str:
        raw, self._raw = self._raw, None
        assert raw is not None  # noqa: S101 - of the step before
        self._at = await secure(self._endpoint, self._reach, raw)
        return f"{self._at.protocol}, {self._at.cipher}"

    async def versions(self) -> str:
        assert self._at is not None  # noqa: S101 - of the step before
        self._connection: Connection = await agree(self._at, self._reach.login)
        return "KMIP {}.{}".format(*self._connection.version)

    async def operations(self) -> str:
        told = await self._connection.ask(operations.query())
        if told.operations and "SIGN" not in told.operations:
            raise StepError("the key manager does not list Sign among its operations; KMIP 1.2 has it")
        return told.vendor or "it does not say whose it is"

    async def key(self) -> str:
        found = await self._connection.ask(operations.locate_private_keys(self._name))
        if len(found) != 1:
            what = "no private key" if not found else f"{len(found)} private keys"
            hint = "; look at the name, and whether our user may see it" if not found else "; rename the others"
            raise StepError(f"the key manager has {what} of the name {self._name!r}{hint}")
        self._identifier = found[0]
        return f"{self._name} is {found[0]}"

    async def state(self) -> str:
        self._attributes = await self._connection.ask(operations.get_attributes(self._identifier))
        state = self._attributes.state
        if state is not None and state != "ACTIVE":
            raise StepError(
                f"the key is {state.lower().replace('_', ' ')}, and only an active one signs; activate it there"
            )
        return "it does not say" if state is None else "active"

    async def algorithm(self) -> str:
        algorithm, length = self._attributes.algorithm, self._attributes.length
        told = " ".join(str(part) for part in (algorithm, length) if part is not None) or "it does not say"
        if self._key is None:
            return told
        is_ec = isinstance(self._key, ec.EllipticCurvePublicKey)
        wanted, size = ("EC" if is_ec else "RSA"), self._key.key_size
        fits = algorithm is None or algorithm in ({"EC", "ECDSA"} if is_ec else {"RSA"})
        if not fits or (length is not None and length != size):
            raise StepError(
                f"the key is {told}, and the certificate's {wanted} {size}: it is the key of another certificate"
            )
        return told

    async def usage(self) -> str:
        usage = self._attributes.usage
        if usage and "SIGN" not in usage:
            raise StepError(f"the key may {', '.join(sorted(usage)).lower()}, but not sign; set Sign in its usage mask")
        return "sign" if usage else "it does not say"

    async def signature(self) -> str:
        assert self._key is not None  # noqa: S101 - this step is left out without one
        data = secrets.token_bytes(64)
        scheme = scheme_for(self._key, self._pss)
        signature = await self._connection.ask(operations.sign(self._identifier, scheme, data))
        verify(self._key, scheme, signature, data, self._name)
        return f"{scheme.algorithm} with {scheme.hash}{', PSS' if scheme.pss else ''}"

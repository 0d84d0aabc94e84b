"""What the console shows its clients: a leaf of its tenant's active signing CA for each of its names, or the
operator's certificate.

Leaves are the issuer's, as those of ``explicit-tls`` listeners are: asked for anew when they are due, and when another
CA becomes the active one. Files are read again when they change. Neither needs a restart; and where there is nothing to
show, nobody is answered.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.names import InvalidHost, parse_host
from certs.signer import SigningKey
from cli.console_names import misnamed, names_of, problem_of_names
from config.settings import Console
from issuer.client import IssuedLeaf, IssuerUnavailable, PrivateKey
from proxy.identity_files import changed_at, read_identity
from proxy.issuer_watch import UNREACHABLE
from proxy.leaves import CLIENT_CIPHERS, LONG_ENOUGH

WHERE = "console.tls"


class Issuer(Protocol):
    """The part of issuer.client.IssuerClient that is used here."""

    async def check(self, tenant: str) -> int: ...

    async def leaf(self, tenant: str, host: str, key: str, server_not_after: float | None) -> IssuedLeaf: ...

    async def leaf_key(self, tenant: str, leaf_key: int) -> PrivateKey: ...


class Identity(Protocol):
    """What is shown."""

    @property
    def problem(self) -> str | None:
        """Why it is not what it should be, or not there at all; None where all is well."""

    async def look(self) -> bool:
        """See whether it should be another by now; whether it is."""

    def certificate(self, reached: str) -> ssl.SSLContext | None:
        """The TLS for a client that has connected to this address of ours; None where there is nothing to show."""


@dataclass(frozen=True, slots=True)
class _Shown:
    leaf: IssuedLeaf
    context: ssl.SSLContext


class OwnLeaves:
    """Leaves of the active signing CA of ``console.tenant``. ``wall`` tells seconds since 1970."""

    def __init__(self, console: Console, issuer: Issuer, host_name: str, wall: Callable[[], float] = time.time) -> None:
        """``host_name``: this machine's."""
        self._tenant = console.tenant
        self._names = names_of(console, host_name)
        self._issuer = issuer
        self._wall = wall
        self._generation = -1
        self._shown: Mapping[str, _Shown] = {}
        self.problem: str | None = None

    async def look(self) -> bool:
        """See Identity."""
        generation = self._generation
        problem: str | None = None
        try:
            generation = await self._issuer.check(self._tenant)
        except IssuerUnavailable as error:
            problem = str(error)
            if error.code in UNREACHABLE:
                self.problem = problem
                return False
            # There may be leaves still that need no new signature.
        now = self._wall()
        due = any(now >= each.leaf.reuse_until for each in self._shown.values())
        if generation == self._generation and len(self._shown) == len(self._names) and not due:
            self.problem = problem
            return False
        asked = await asyncio.gather(*(self._ask(name, now) for name in self._names), return_exceptions=True)
        found: dict[str, _Shown] = {}
        for name, answer in zip(self._names, asked, strict=True):
            if isinstance(answer, _Shown):
                found[name] = answer
            elif isinstance(answer, (IssuerUnavailable, ValueError)):
                problem = problem or f"{name}: {answer}"
                if (kept := self._shown.get(name)) is not None:
                    found[name] = kept  # to its end
            else:
                raise answer
        if problem is None:
            self._generation = generation
        self.problem = problem
        changed = [each.leaf.certificate for each in found.values()] != [
            each.leaf.certificate for each in self._shown.values()
        ]
        self._shown = found
        return changed

    def certificate(self, reached: str) -> ssl.SSLContext | None:
        """See Identity. Clients that know the console by an address ask for no name (RFC 6066, section 3)."""
        name = reached if reached in self._shown else next((n for n in self._names if n in self._shown), None)
        return None if name is None or self._wall() >= self._shown[name].leaf.not_after else self._shown[name].context

    async def _ask(self, name: str, now: float) -> _Shown:
        """Raises IssuerUnavailable; ValueError where the key is not the leaf's."""
        leaf = await self._issuer.leaf(self._tenant, name, "ecdsa", now + LONG_ENOUGH)
        kept = self._shown.get(name)
        if kept is not None and kept.leaf.certificate == leaf.certificate and kept.leaf.chain == leaf.chain:
            return _Shown(leaf, kept.context)
        key = await self._issuer.leaf_key(self._tenant, leaf.leaf_key)
        certificates = [x509.load_der_x509_certificate(each) for each in (leaf.certificate, *leaf.chain)]
        context = context_with(certificates, key)
        context.sni_callback = self._named
        return _Shown(leaf, context)

    def _named(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> int | None:
        """A client asks for a name: that one's leaf, or an alert; nobody is shown another's."""
        if name is None:
            return None
        try:
            found = self._shown.get(parse_host(name).text)
        except InvalidHost:
            found = None
        if found is None or self._wall() >= found.leaf.not_after:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = found.context
        return None


class GivenFiles:
    """A certificate and key of the operator's. ``wall`` tells seconds since 1970."""

    def __init__(self, console: Console, wall: Callable[[], float] = time.time) -> None:
        """Raises ValueError, one line, where they cannot be used."""
        tls = console.tls
        assert tls.certificate is not None  # noqa: S101 - the settings have both or neither
        assert tls.key is not None  # noqa: S101 - the same
        self._console = console
        self._wall = wall
        self._files = (tls.certificate, tls.key)
        self._unread: str | None = None
        self._seen = changed_at(self._files)
        self._context, self._certificate = self._read()

    @property
    def problem(self) -> str | None:
        """See Identity. One that has expired is shown on: who has to replace it needs the console."""
        return self._unread or self.invalid or self._misnamed

    @property
    def invalid(self) -> str | None:
        """Why no client takes the certificate at this moment."""
        now, where = datetime.fromtimestamp(self._wall(), UTC), f"{WHERE}.certificate: {self._files[0]}"
        first, last = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        if now > last:
            return f"{where}: it has expired on {last:%Y-%m-%d %H:%M} UTC; expected one that is valid now"
        if now < first:
            return f"{where}: it is not valid before {first:%Y-%m-%d %H:%M} UTC; expected one that is valid now"
        return None

    @property
    def _misnamed(self) -> str | None:
        names = misnamed(self._console, self._certificate)
        return f"{WHERE}.certificate: {self._files[0]}: it is not for {', '.join(names)}" if names else None

    async def look(self) -> bool:
        """See Identity. Files that cannot be used leave what is there."""
        seen = changed_at(self._files)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._context, self._certificate = self._read()
        except ValueError as error:
            self._unread = str(error)
            return False
        self._unread = None
        return True

    def certificate(self, reached: str) -> ssl.SSLContext | None:
        """See Identity."""
        return self._context

    def _read(self) -> tuple[ssl.SSLContext, x509.Certificate]:
        certificates, key = read_identity(*self._files, WHERE)
        return context_with(certificates, key), certificates[0]


def identity_of(console: Console, issuer: Issuer, host_name: str) -> Identity:
    """What the settings say is shown. Raises ValueError, one line, for files that cannot be used."""
    return OwnLeaves(console, issuer, host_name) if console.own_leaf else GivenFiles(console)


def check(console: Console) -> str | None:
    """What is wrong with names and files, for a start that says so; None where nothing is."""
    if not console.enabled:
        return None
    if (problem := problem_of_names(console)) is not None or console.own_leaf:
        return problem
    try:
        return GivenFiles(console).invalid
    except ValueError as error:
        return str(error)


def context_with(certificates: Sequence[x509.Certificate], key: SigningKey | PrivateKey) -> ssl.SSLContext:
    """The server's side of TLS 1.2 and 1.3 with HTTP/1.1, for browsers and programs. Raises ValueError.

    No session can be resumed: a client that did so would not see that the certificate is another.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CLIENT_CIPHERS.decode())
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # The module takes files alone. This one is in memory, nobody else's, and gone at once.
    fd = os.memfd_create("sallyport-console", os.MFD_CLOEXEC)
    try:
        content = memoryview(private + chain)
        while content:
            content = content[os.write(fd, content) :]
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    except ssl.SSLError as error:
        raise ValueError(f"{WHERE}: the certificate cannot be used with its key: {error.reason}") from None
    finally:
        os.close(fd)
    return context

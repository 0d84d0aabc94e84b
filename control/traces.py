"""The trace of a verdict with both chains: what the server showed and what was found in it, and what we showed for it.

What was found is in the worker's event (:mod:`control.traffic`), with names and fingerprints of the chain. The
certificates themselves are looked for under these fingerprints: what was remembered of the server
(``verification.remember_servers``, written a few seconds later), the tenant's trusted CAs, the common store. Of our own
chain, leaf and signing CA are in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from certs import reading
from certs.names import InvalidHost, parse_host
from certs.origin import Origin
from certs.trust import parse_common_store
from config.common_store import StoreFileError, read_common_store
from control.errors import Refused
from control.installation import Installation
from control.traffic import Event
from store import leaves, recent_servers, signing_cas, trusted_cas
from store.records import Leaf, RecentServer, SigningCa, TrustedCa

LOOKED_AT = 20
"""Leaves of a host among which the one that was shown is looked for."""
LONGEST_PATH = 12
UNTRUSTED_CA = "untrusted"


@dataclass(frozen=True, slots=True)
class Found:
    """Something that is wrong. ``explanation`` and ``clause`` are empty where only the defect is known any more."""

    defect: str
    explanation: str = ""
    clause: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a chain, and what is wrong with it.

    ``origin``: where it is from (:class:`certs.origin.Origin`), empty where that is not known. ``certificate`` is None
    where there is none under its fingerprint any more, or not yet; then so is ``begins``.
    """

    subject: str
    issuer: str
    serial: str
    begins: datetime | None
    ends: datetime | None
    sha256: str
    names: tuple[str, ...] = ()
    origin: str = ""
    findings: tuple[Found, ...] = ()
    certificate: x509.Certificate | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Trace:
    """A server as it was judged for a connection. Chains begin with the server's own certificate, and with our leaf.

    ``findings`` are those that are about no single certificate. ``by``: for each defect the setting that decided.
    ``anchor``: what the server's chain ends in, empty where in nothing that is trusted. ``ours`` is empty where the
    client was shown nothing. ``remarks``: what is not known, a line each. ``events``: the connection's.
    """

    tenant: str
    host: str
    port: int | None
    id: str | None
    at: datetime
    action: str
    defects: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    anchor: str = ""
    completed: str = ""
    tls: str = ""
    findings: tuple[Found, ...] = ()
    server: tuple[Link, ...] = ()
    ours: tuple[Link, ...] = ()
    signing_ca: str = ""
    untrusted: bool = False
    remarks: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


def of_connection(inst: Installation, tenant: str, id: str, events: Sequence[Event], now: datetime) -> Trace:
    """The last verdict on a connection of the tenant. ``events``: those that workers told of it, others among them.

    Raises Refused where none of them is of that connection, or nothing was judged on it.
    """
    its = tuple(event for event in events if event.id == id and event.tenant == tenant)
    if not its:
        raise Refused(
            f"no event of a connection {id} of tenant {tenant}: workers know their last events only; the log has more"
        )
    verdict = _last_verdict(its)
    if verdict is None or verdict.host is None:
        raise Refused(f"no server was judged on connection {id}; its events: {', '.join(event.kind for event in its)}")
    return _trace(inst, tenant, verdict.host, verdict, its, now)


def of_host(inst: Installation, tenant: str, host: str, events: Sequence[Event], now: datetime) -> Trace:
    """The last verdict on a host for the tenant; where workers tell of none, what was remembered of it in the last day.

    Raises Refused for what is no host, and where nothing is known of it.
    """
    try:
        name = parse_host(host).text
    except InvalidHost as error:
        raise Refused(f"{host}: {error}") from None
    verdict = _last_verdict(event for event in events if event.tenant == tenant and event.host == name)
    its = tuple(event for event in events if verdict is not None and event.id == verdict.id)
    return _trace(inst, tenant, name, verdict, its, now)


def _last_verdict(events: Iterable[Event]) -> Event | None:
    """The last one, or one with findings after which the connection went no further."""
    verdicts = [event for event in events if event.kind == "verdict"]
    return max(verdicts, key=lambda event: (event.at, event.seq), default=None)


def _trace(
    inst: Installation, tenant: str, host: str, verdict: Event | None, its: tuple[Event, ...], now: datetime
) -> Trace:
    leaf_event = next((event for event in reversed(its) if event.kind == "leaf" and event.host == host), None)
    with inst.reading(tenant) as (connection, found):
        seen = recent_servers.listing(connection, found.id, now - recent_servers.AGE, host)
        own = trusted_cas.listing(connection, found.id)
        shown = _shown(leaves.of_host(connection, found.id, host, LOOKED_AT), leaf_event)
        ca = None if shown is None else signing_cas.by_id(connection, found.id, shown.signing_ca_id)
    server = _seen_last(seen, verdict.port if verdict is not None else None)
    if verdict is None and server is None:
        raise Refused(f"nothing is known of {host}: tenant {tenant} was not there lately, or it is not decrypted")
    remarks: list[str] = []
    known = _Known(inst, server, own, remarks)
    told: Mapping[str, Any] = {} if verdict is None or verdict.trace is None else verdict.trace
    defects = verdict.defects if verdict is not None else server.defects if server is not None else ()
    if told.get("chain"):
        links = tuple(_told_links(told, known))
        if any(link.certificate is None for link in links):
            remarks.append("certificates of the server are missing: they are remembered a few seconds after a visit")
    else:
        links = known.path()
    findings = tuple(_findings(told, None)) or tuple(Found(defect) for defect in defects if not told)
    for name, what in (("findings_left_out", "findings"), ("chain_left_out", "certificates of the chain")):
        if isinstance(count := told.get(name), int):
            remarks.append(f"{what} that there was no room for: {count}")
    if verdict is None:
        remarks.append("workers tell of no connection to it any more: this is how it was when it was last looked at")
    action = (verdict.action if verdict is not None else server.action if server is not None else None) or ""
    untrusted = ca is not None and ca.status == UNTRUSTED_CA
    return Trace(
        tenant, host,
        port=verdict.port if verdict is not None else server.port if server is not None else None,
        id=verdict.id if verdict is not None else None,
        at=verdict.at if verdict is not None else server.last_at if server is not None else now,
        action=action,
        defects=tuple(defects),
        by=_texts(verdict.fields.get("by")) if verdict is not None else (),
        anchor=_text(told, "anchor") or (known.anchor if not told else ""),
        completed=_text(told, "completed"),
        tls=", ".join(text for name in ("tls", "cipher", "group") if (text := _text(told, name))),
        findings=findings,
        server=links,
        ours=() if action == "bypass" else tuple(_our_links(shown, ca)),
        signing_ca="" if ca is None or untrusted else ca.name,
        untrusted=untrusted,
        remarks=tuple(remarks),
        events=its,
    )  # fmt: skip


# --- the server's chain ---


class _Known:
    """Certificates that may be those of the server's chain, by fingerprint, each with where it is from."""

    def __init__(
        self, inst: Installation, server: RecentServer | None, own: Sequence[TrustedCa], remarks: list[str]
    ) -> None:
        self._server = server
        self._common: dict[bytes, x509.Certificate] | None = None
        self._inst = inst
        self._remarks = remarks
        self.sent = tuple(_loaded(server.presented or ())) if server is not None else ()
        self.added = tuple(_loaded(server.added)) if server is not None else ()
        self._own = {one.fingerprint(SHA256()): (one, ca.name) for ca in own for one in _loaded(ca.chain)}
        self._here = {one.fingerprint(SHA256()): one for one in (*self.sent, *self.added)}
        self.anchor = self._named_anchor()

    def get(self, sha256: bytes) -> x509.Certificate | None:
        """The certificate with that SHA-256."""
        if (found := self._here.get(sha256)) is not None:
            return found
        if sha256 in self._own:
            return self._own[sha256][0]
        return self._common_store().get(sha256)

    def path(self) -> tuple[Link, ...]:
        """From what was sent, the server's own certificate upwards, to the anchor in which it ended."""
        if not self.sent:
            return ()
        rest = [*self.sent[1:], *self.added]
        digest = self._server.anchor_sha256 if self._server is not None else None
        top = None if digest is None else self.get(digest)
        chain = [self.sent[0]]
        while len(chain) < LONGEST_PATH and chain[-1] != top:
            above = [one for one in (*rest, *(() if top is None else (top,))) if one not in chain]
            following = next((one for one in above if _issued(one, chain[-1])), None)
            if following is None:
                break
            chain.append(following)
        return tuple(_link(one, self._origin(one)) for one in chain)

    def _origin(self, certificate: x509.Certificate) -> str:
        if certificate in self.sent:
            return Origin.SENT.value
        if certificate in self.added:
            return Origin.COMPLETED.value
        return (Origin.OWN if certificate.fingerprint(SHA256()) in self._own else Origin.COMMON).value

    def _named_anchor(self) -> str:
        """What the remembered chain ended in, as the log says it."""
        digest = self._server.anchor_sha256 if self._server is not None else None
        if digest is None:
            return ""
        own = self._own.get(digest)
        return Origin.COMMON.value if own is None else f"{Origin.OWN.value} {own[1]}"

    def _common_store(self) -> dict[bytes, x509.Certificate]:
        if self._common is None:
            self._common = {}
            try:
                for one in parse_common_store(read_common_store(self._inst.settings.trust.common_store)):
                    self._common[one.fingerprint(SHA256())] = one
            except (StoreFileError, ValueError) as error:
                self._remarks.append(f"the common store cannot be read: {error}")
        return self._common


def _seen_last(seen: Sequence[RecentServer], port: int | None) -> RecentServer | None:
    """That of the port, or the one that was seen last."""
    fitting = [one for one in seen if port is None or one.port == port]
    return max(fitting, key=lambda one: one.last_at, default=None)


def _told_links(told: Mapping[str, Any], known: _Known) -> Iterator[Link]:
    """The chain as the worker told it, with the certificates that are known."""
    for place, one in enumerate(told["chain"] if isinstance(told["chain"], list) else ()):
        if not isinstance(one, dict):
            continue
        sha256, findings = _text(one, "sha256"), tuple(_findings(told, place))
        try:
            certificate = known.get(bytes.fromhex(sha256))
        except ValueError:
            certificate = None
        if certificate is not None:
            yield _link(certificate, _text(one, "from"), findings)
        else:
            yield Link(
                _text(one, "subject"), _text(one, "issuer"), _text(one, "serial"), None,
                _moment(_text(one, "not_after")), sha256, origin=_text(one, "from"), findings=findings,
            )  # fmt: skip


def _findings(told: Mapping[str, Any], place: int | None) -> Iterator[Found]:
    """What is wrong with the certificate at that place of the chain; None: with none of them."""
    chain, findings = told.get("chain"), told.get("findings")
    shown = range(len(chain)) if isinstance(chain, list) else ()
    for one in findings if isinstance(findings, list) else ():
        if isinstance(one, dict):
            about = one.get("certificate")
            # What is about a certificate for which there was no room is not to be lost.
            if (about if about in shown else None) == place:
                yield Found(_text(one, "defect"), _text(one, "explanation"), _text(one, "clause"))


# --- our chain ---


def _shown(recorded: Sequence[Leaf], event: Event | None) -> Leaf | None:
    """The leaf of the event, or the one that was recorded last."""
    serial = None if event is None else event.fields.get("serial")
    exact = (leaf for leaf in recorded if isinstance(serial, str) and int(leaf.serial, 16) == _hexadecimal(serial))
    return next(exact, recorded[0] if recorded else None)


def _our_links(leaf: Leaf | None, ca: SigningCa | None) -> Iterator[Link]:
    if leaf is None:
        return
    yield _link(x509.load_der_x509_certificate(leaf.certificate))
    for certificate in _loaded(ca.chain if ca is not None else ()):
        yield _link(certificate)


# --- certificates, and texts of strangers ---


def _link(certificate: x509.Certificate, origin: str = "", findings: tuple[Found, ...] = ()) -> Link:
    return Link(
        reading.subject(certificate), reading.issuer(certificate), reading.serial(certificate),
        reading.begins(certificate), reading.ends(certificate), reading.fingerprint(certificate),
        tuple(reading.names(certificate)), origin, findings, certificate,
    )  # fmt: skip


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether it may have, by the names; of a verdict's own chain the worker told what was found."""
    return reading.read(lambda: issuer.subject == certificate.issuer and issuer != certificate, False)


def _loaded(chain: Iterable[bytes]) -> Iterator[x509.Certificate]:
    """Those of the certificates (DER) that can be read."""
    for der in chain:
        certificate = reading.read(lambda der=der: x509.load_der_x509_certificate(der), None)  # type: ignore[misc]
        if certificate is not None:
            yield certificate


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None

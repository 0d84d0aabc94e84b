"""Revocation: what counts of what CRLs (RFC 5280 6.3) and OCSP answers (RFC 6960 3.2) say, and where nobody tells.

A case is judged as with ``revocation: soft``: what nobody tells is let pass. One with ``hard=True`` is blocked then; so
its issuer is the anchor itself, about which nobody is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from certs.verdict import Defect
from tests.harness.pki import DAY, HOUR, NOW, Authority, Raw
from tests.harness.publisher import Reply
from tests.harness.revocation import DELTA, MUST_STAPLE, Entry, crl, names, ocsp_answer, scope
from tests.scenarios.base import ACCEPTS, Server, publisher, scenario

PKI = "pki.example"
"""The host at which all of them publish."""
NOBODY_ASKS = "curl asks nobody without being told to; Chromium asks no CRL and no responder."
NEITHER_MINDS = "Without an answer both go on."
OLD = NOW - DAY
HOLD = 6
"""The reason certificateHold (RFC 5280 5.3.1)."""


def where(host: str, kind: str, level: str = "leaf") -> tuple[str, str]:
    """A path that is the case's own, and its URL."""
    path = f"/{host}/{level}.{kind}"
    return path, publisher().url(path, PKI)


def anchor(host: str) -> Authority:
    """A CA of the case's own: what it publishes is about nobody else."""
    return Authority.root(f"Root of {host}"[:64])


def listing(
    host: str,
    listed: bool,
    hard: bool = False,
    extra: Sequence[Raw] = (),
    extra_of_crl: Sequence[Raw] = (),
    **crl_overrides: Any,
) -> Server:
    """A server whose CA publishes a CRL, with or without it on the list."""
    path, url = where(host, "crl")
    ca = anchor(host)
    leaf = ca.leaf(host, extra=[*names(crl=url), *extra])
    publisher().answers[path] = crl(ca, [leaf] if listed else [], extra=extra_of_crl, **crl_overrides)
    return Server(leaf, hard=hard)


def responding(host: str, answer: Reply | None = None, hard: bool = False, **answer_overrides: Any) -> Server:
    """A server whose CA has a responder, which gives this answer, or the good one with these differences."""
    path, url = where(host, "ocsp")
    leaf = anchor(host).leaf(host, extra=names(ocsp=url))
    publisher().answers[path] = ocsp_answer(leaf, **answer_overrides) if answer is None else answer
    return Server(leaf, hard=hard)


def stapling(host: str, **answer_overrides: Any) -> Server:
    """A server that sends an answer along, and nobody else knows anything."""
    leaf = anchor(host).leaf(host)
    return Server(leaf, stapled=ocsp_answer(leaf, **answer_overrides), hard=True)


# --- CRLs ---


@scenario(Defect.REVOKED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOBODY_ASKS)
def a_server_certificate_on_a_crl(host: str) -> Server:
    """Blocked as revoked: RFC 5280 6.3.3 (i)."""
    return listing(host, True)


@scenario(Defect.REVOKED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOBODY_ASKS)
def an_issuer_on_a_crl(host: str) -> Server:
    """Blocked as revoked: RFC 5280 6.3.3 (i), 6.1.3 (a)(3)."""
    path, url = where(host, "crl", "issuer")
    ca = anchor(host)
    revoked = ca.intermediate(f"Issuer of {host}"[:64], extra=names(crl=url))
    publisher().answers[path] = crl(ca, [revoked])
    return Server(revoked.leaf(host))


@scenario()
def a_server_certificate_on_no_crl(host: str) -> Server:
    """Good: RFC 5280 6.3.3."""
    return listing(host, False, hard=True)


@scenario(Defect.REVOKED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOBODY_ASKS)
def a_server_certificate_on_hold(host: str) -> Server:
    """Blocked as revoked: RFC 5280 5.3.1."""
    path, url = where(host, "crl")
    ca = anchor(host)
    leaf = ca.leaf(host, extra=names(crl=url))
    publisher().answers[path] = crl(ca, [Entry(leaf.certificate.serial_number, reason=HOLD)])
    return Server(leaf)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_crl_that_is_out_of_date(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 6.3.3 (a)(1), 5.1.2.5."""
    return listing(host, False, hard=True, this_update=NOW - 3 * DAY, next_update=OLD)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_crl_of_another_key(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 6.3.3 (g).

    The certificate is on it; but anybody on the way could have written that.
    """
    return listing(host, True, hard=True, sign_with=ec.generate_private_key(ec.SECP256R1()))


@scenario()
def a_crl_of_another_key_where_nobody_has_to_tell(host: str) -> Server:
    """Good: RFC 5280 6.3.3 (g); our own rule of the soft mode."""
    return listing(host, True, sign_with=ec.generate_private_key(ec.SECP256R1()))


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def an_indirect_crl(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 5.2.5, 6.3.3 (b)(2); our own rule that no indirect CRL is taken."""
    return listing(host, False, hard=True, extra_of_crl=[scope(where(host, "crl")[1], indirect=True)])


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_crl_with_an_unknown_critical_extension(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 5.2."""
    return listing(host, False, hard=True, extra_of_crl=[Raw("1.2.3.4.5", b"\x05\x00", critical=True)])


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_crl_for_another_distribution_point(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 5.2.5, 6.3.3 (b)(2)(i)."""
    return listing(host, False, hard=True, extra_of_crl=[scope(f"http://{PKI}/another.crl")])


@scenario()
def a_crl_for_its_distribution_point_and_servers_only(host: str) -> Server:
    """Good: RFC 5280 5.2.5, 6.3.3 (b)(2)."""
    return listing(host, False, hard=True, extra_of_crl=[scope(where(host, "crl")[1], users=True)])


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_crl_for_cas_only(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 5.2.5, 6.3.3 (b)(2)(iii)."""
    return listing(host, False, hard=True, extra_of_crl=[scope(cas=True)])


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_crl_for_some_reasons_only(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 5.2.5, 6.3.3 (l)."""
    return listing(host, False, hard=True, extra_of_crl=[scope(some_reasons=True)])


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_delta_crl_in_place_of_a_whole_one(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 5.2.4."""
    return listing(host, False, hard=True, extra_of_crl=[Raw(DELTA, b"\x02\x01\x01", critical=True)])


# --- OCSP ---


@scenario(Defect.REVOKED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOBODY_ASKS)
def a_server_certificate_of_which_a_responder_says_so(host: str) -> Server:
    """Blocked as revoked: RFC 6960 2.2."""
    return responding(host, revoked=OLD)


@scenario(Defect.REVOKED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NOBODY_ASKS)
def an_issuer_of_which_a_responder_says_so(host: str) -> Server:
    """Blocked as revoked: RFC 6960 2.2; RFC 5280 6.1.3 (a)(3)."""
    path, url = where(host, "ocsp", "issuer")
    revoked = anchor(host).intermediate(f"Issuer of {host}"[:64], extra=names(ocsp=url))
    publisher().answers[path] = ocsp_answer(revoked, revoked=OLD)
    return Server(revoked.leaf(host))


@scenario()
def a_responder_that_says_good(host: str) -> Server:
    """Good: RFC 6960 2.2, 3.2."""
    return responding(host, hard=True)


@scenario()
def a_responder_whose_key_the_ca_has_authorized(host: str) -> Server:
    """Good: RFC 6960 4.2.2.2."""
    return delegating(host, ["ocsp"])


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_responder_whose_certificate_is_not_for_ocsp(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 4.2.2.2.

    The CA has signed it, as it has every server's: without OCSPSigning any of them could speak for it.
    """
    return delegating(host, ["server"])


def delegating(host: str, eku: Sequence[str]) -> Server:
    """A server whose responder has a certificate of the CA's, for that."""
    path, url = where(host, "ocsp")
    ca = anchor(host)
    leaf = ca.leaf(host, extra=names(ocsp=url))
    responder = ca.leaf("responder.example", eku=eku)
    publisher().answers[path] = ocsp_answer(leaf, signer=responder, sends=[responder])
    return Server(leaf, hard=True)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_responder_that_does_not_know_it(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 2.2."""
    return responding(host, hard=True, unknown=True)


@scenario()
def a_responder_that_does_not_know_it_where_nobody_has_to_tell(host: str) -> Server:
    """Good: RFC 6960 2.2; our own rule of the soft mode."""
    return responding(host, unknown=True)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_responder_that_is_down(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 3.2."""
    return responding(host, 503, hard=True)


@scenario()
def a_responder_that_is_down_where_nobody_has_to_tell(host: str) -> Server:
    """Good: RFC 6960 3.2; our own rule of the soft mode."""
    return responding(host, 503)


@scenario()
def a_responder_that_is_down_beside_a_crl(host: str) -> Server:
    """Good: RFC 5280 6.3.3.

    One source is enough.
    """
    crl_path, crl_url = where(host, "crl")
    ocsp_path, ocsp_url = where(host, "ocsp")
    ca = anchor(host)
    publisher().answers |= {crl_path: crl(ca), ocsp_path: 503}
    return Server(ca.leaf(host, extra=names(crl=crl_url, ocsp=ocsp_url)), hard=True)


# --- sent along ---


@scenario()
def a_good_answer_sent_along(host: str) -> Server:
    """Good: RFC 6066 8; RFC 6960 3.2."""
    return stapling(host)


@scenario(Defect.REVOKED, curl_says=ACCEPTS, why="curl asks for no answer to be sent along without being told to.")
def an_answer_sent_along_that_says_revoked(host: str) -> Server:
    """Blocked as revoked: RFC 6066 8; RFC 6960 2.2."""
    return stapling(host, revoked=OLD)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def an_answer_sent_along_that_is_out_of_date(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 3.2 (5), 4.2.2.1."""
    return stapling(host, this_update=NOW - 3 * DAY, next_update=OLD)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def an_answer_sent_along_of_another_key(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 3.2 (2), (4)."""
    return stapling(host, signer=anchor(host))  # of the same name, and no more than that


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def an_answer_sent_along_about_another_serial_number(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 3.2 (1)."""
    ca = anchor(host)
    return Server(ca.leaf(host), stapled=ocsp_answer(ca.leaf("another.example")), hard=True)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def an_answer_sent_along_about_another_issuer(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 6960 3.2 (1), 4.1.1."""
    leaf = anchor(host).leaf(host)
    other = Authority.root(f"Another for {host}"[:64])
    twin = other.leaf(host, serial=leaf.certificate.serial_number)
    return Server(leaf, stapled=ocsp_answer(twin), hard=True)


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Neither knows the promise.")
def a_server_that_promised_to_send_an_answer_along(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 7633 4.2.3."""
    return Server(anchor(host).leaf(host, extra=[MUST_STAPLE]), hard=True)


@scenario()
def a_server_that_promised_and_keeps_it(host: str) -> Server:
    """Good: RFC 7633 4.2.3."""
    leaf = anchor(host).leaf(host, extra=[MUST_STAPLE])
    return Server(leaf, stapled=ocsp_answer(leaf), hard=True)


@scenario()
def a_server_that_promised_beside_a_crl(host: str) -> Server:
    """Good: our own rule, milder than RFC 7633 4.2.3.

    What counts is whether it was revoked, and the CRL says that it was not.
    """
    return listing(host, False, hard=True, extra=[MUST_STAPLE])


# --- nobody ---


@scenario(Defect.REVOCATION_UNKNOWN, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=NEITHER_MINDS)
def a_certificate_that_names_nobody_to_ask(host: str) -> Server:
    """Blocked as revocation_unknown: RFC 5280 6.3; our own rule of the hard mode."""
    return Server(anchor(host).leaf(host), hard=True)


@scenario()
def a_certificate_of_a_few_days_that_names_nobody_to_ask(host: str) -> Server:
    """Good: CA/B BR 1.6.1, short-lived subscriber certificate."""
    return Server(anchor(host).leaf(host, not_before=NOW - HOUR, not_after=NOW + 6 * DAY), hard=True)

"""The explicit checks of a path: each a small function that yields findings, none of which relies on another.

:func:`check` makes a check of a function: what it says where it is passed, which clause asks for it, and what it finds.
:data:`CHECKS` is all of them. What a check cannot read it passes over, where another check reports just that.
Positions count from the server's certificate (0) upwards; "issuers" are all above it, the anchor included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from certs import constraints, policies
from certs.authority import excess, key_problem, signature_problem
from certs.facts import ANY_PURPOSE, SERVER_AUTH, Facts
from certs.names import Host, host_in_names
from certs.paths import Path
from certs.verdict import Check, Defect, Finding

LONGEST_SERIAL = 160
"""Bits: 20 octets, also for those who count them without the sign."""

UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        # Nobody here asks for a policy: the initial policy set is any-policy (RFC 5280 6.1.1 (c)). certs.policies looks
        # at what CAs require.
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        # Says where a CRL is, and for what; whether one is asked for is decided elsewhere.
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)
"""Extensions that may be critical, as they are processed here or have nothing to say here."""

_SHOWN = 3  # findings of one kind in one certificate: more tell nobody more
_ASK = "ask the server's operator for a certificate that is in order"


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged: a path, under a name, at a time."""

    path: Path
    host: Host
    now: datetime
    presented: Sequence[Facts] = ()
    own_keys: frozenset[bytes] = frozenset()

    def below_the_anchor(self) -> Iterator[tuple[int, Facts]]:
        """Those whose signature and serial number count: not an anchor's, nor those of its own issuer."""
        last = len(self.path.line) - 1
        for place, facts in enumerate(self.path.line):
            if place < last or (self.path.anchor is None and not facts.own_issuer):
                yield place, facts

    def issuers(self) -> Iterator[tuple[int, Facts]]:
        return islice(enumerate(self.path.line), 1, None)

    def who(self, place: int) -> str:
        """The certificate in words."""
        if place == 0:
            return "the server's certificate"
        anchor = self.path.anchor is not None and place == len(self.path.line) - 1
        return f'the {"trusted" if anchor else "issuing"} certificate "{self.path.line[place].title}"'

    def finding(self, defect: Defect, place: int, what: str, clause: str, remedy: str = _ASK) -> Finding:
        return Finding(defect, f"{self.who(place)} {what}", clause, place, remedy)


Find = Callable[[Case], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class PathCheck:
    """A check with the function that makes it."""

    check: Check
    find: Find


_made: list[PathCheck] = []


def check(says: str, clause: str, *defects: Defect) -> Callable[[Find], PathCheck]:
    """One of :data:`CHECKS`, under the function's name."""

    def of(find: Find) -> PathCheck:
        made = PathCheck(Check(find.__name__, says, clause, defects), find)
        _made.append(made)
        return made

    return of


@check("every extension can be read, and none is there twice", "RFC 5280 4.2", Defect.MALFORMED)
def extensions_can_be_read(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        if facts.extensions_error:
            what = f"has an extension that cannot be read, or one twice: {facts.extensions_error}"
            yield case.finding(Defect.MALFORMED, place, what, "RFC 5280 4.2")


@check("only certificates of version 3 have extensions", "RFC 5280 4.1.2.1", Defect.MALFORMED)
def version_fits_extensions(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        if facts.certificate.version is not x509.Version.v3 and (facts.extensions_error or len(facts.extensions)):
            yield case.finding(Defect.MALFORMED, place, "has extensions without being version 3", "RFC 5280 4.1.2.1")


@check("every critical extension is understood here", "RFC 5280 4.2", Defect.MALFORMED)
def critical_extensions_are_understood(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        for extension in facts.extensions:
            if extension.critical and extension.oid not in UNDERSTOOD:
                what = f"has a critical extension that is not understood here ({extension.oid.dotted_string})"
                yield case.finding(Defect.MALFORMED, place, what, "RFC 5280 4.2")


@check("serial numbers are positive, and of 20 octets at most", "RFC 5280 4.1.2.2", Defect.MALFORMED)
def serial_number_is_in_order(case: Case) -> Iterator[Finding]:
    """Below the anchor only: roots with the serial number 0 are in every common store."""
    for place, facts in case.below_the_anchor():
        if facts.serial <= 0:
            yield case.finding(Defect.MALFORMED, place, "has a serial number below one", "RFC 5280 4.1.2.2")
        elif facts.serial.bit_length() > LONGEST_SERIAL:
            yield case.finding(Defect.MALFORMED, place, "has a serial number over 20 octets", "RFC 5280 4.1.2.2")


@check("the algorithm inside the signed part is the one outside of it", "RFC 5280 4.1.1.2", Defect.MALFORMED)
def signature_algorithms_agree(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        if not facts.algorithms_agree:
            what = "names one signature algorithm inside the signed part and another outside of it"
            yield case.finding(Defect.MALFORMED, place, what, "RFC 5280 4.1.1.2")


@check("every public key can be read", "RFC 5280 4.1.2.7", Defect.MALFORMED)
def keys_can_be_read(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        if facts.key is None and not facts.key_unknown:
            what = f"has a public key that cannot be read: {facts.key_error}"
            yield case.finding(Defect.MALFORMED, place, what, "RFC 5280 4.1.2.7")


@check("every signature verifies with the key of the issuer", "RFC 5280 6.1.3 (a)(1)", Defect.BAD_SIGNATURE)
def signatures_verify(case: Case) -> Iterator[Finding]:
    line = case.path.line
    for place in sorted(case.path.broken):
        # Of the last one it is its own key (certs.paths.Path.broken).
        if (problem := excess(line[min(place + 1, len(line) - 1)].key)) is not None:
            what = f"carries a signature that is not verified, because of its issuer's key: {problem}"
        else:
            what = "carries a signature that its issuer's key does not verify: it was changed or forged"
        yield case.finding(Defect.BAD_SIGNATURE, place, what, "RFC 5280 6.1.3 (a)(1)")


@check("no key is one with which a signing CA of this installation issues", "our own rule", Defect.OWN_CA)
def no_key_of_our_own(case: Case) -> Iterator[Finding]:
    yield from keys_of_our_own(case.presented, case.path.line, case.own_keys)


@check("every key is strong enough", "NIST SP 800-57 part 1, 5.6.1", Defect.WEAK_KEY)
def keys_are_strong(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        problem = facts.key_error if facts.key_unknown else key_problem(facts.key) if facts.key is not None else None
        if problem is not None:
            yield case.finding(Defect.WEAK_KEY, place, f"has a weak key: {problem}", "NIST SP 800-57 part 1, 5.6.1")


@check("no signature below the anchor is made with MD5 or SHA-1", "RFC 9155 2", Defect.WEAK_SIGNATURE)
def signatures_are_strong(case: Case) -> Iterator[Finding]:
    """Below the anchor only: the signature on an anchor proves nothing to anybody."""
    for place, facts in case.below_the_anchor():
        if (problem := signature_problem(facts.certificate)) is not None:
            yield case.finding(Defect.WEAK_SIGNATURE, place, f"is {problem}", "RFC 9155 2")


@check("every issuer is a CA (basicConstraints)", "RFC 5280 6.1.4 (k)", Defect.CONSTRAINT_VIOLATION)
def issuers_are_authorities(case: Case) -> Iterator[Finding]:
    for place, facts in case.issuers():
        if not facts.ca:
            what = "issued a certificate without being a CA (basicConstraints)"
            yield case.finding(Defect.CONSTRAINT_VIOLATION, place, what, "RFC 5280 6.1.4 (k)")


@check("every issuer may sign certificates (keyUsage)", "RFC 5280 6.1.4 (n)", Defect.CONSTRAINT_VIOLATION)
def issuers_may_sign_certificates(case: Case) -> Iterator[Finding]:
    for place, facts in case.issuers():
        if facts.key_usage is not None and not facts.key_usage.key_cert_sign:
            what = "issued a certificate, which its keyUsage does not allow (keyCertSign)"
            yield case.finding(Defect.CONSTRAINT_VIOLATION, place, what, "RFC 5280 6.1.4 (n)")


@check("no CA has more CAs below it than it allows (pathLen)", "RFC 5280 6.1.4 (l), (m)", Defect.CONSTRAINT_VIOLATION)
def path_lengths_are_kept(case: Case) -> Iterator[Finding]:
    between = 0
    for place, facts in case.issuers():
        limits = facts.extension(x509.BasicConstraints)
        if limits is not None and limits.path_length is not None and between > limits.path_length:
            what = f"allows {limits.path_length} CAs below it, and there are {between}"
            yield case.finding(Defect.CONSTRAINT_VIOLATION, place, what, "RFC 5280 6.1.4 (l), (m)")
        # A self-issued CA certificate (a key rolled over) does not count.
        between += not facts.self_issued


@check("every name is one that the CAs above it allow", "RFC 5280 6.1.3 (b), (c)", Defect.CONSTRAINT_VIOLATION)
def names_are_within_constraints(case: Case) -> Iterator[Finding]:
    for above, issuer in case.issuers():
        limits = issuer.extension(x509.NameConstraints)
        if limits is None:
            continue
        for place, facts in enumerate(case.path.line[:above]):
            if place and facts.self_issued:
                continue  # RFC 5280 6.1.3 (b), (c): unless it is the last, the server's
            for what in islice(constraints.forbidden(limits, constraints.names_of(facts)), _SHOWN):
                text = f"has a name that {case.who(above)} does not allow: {what}"
                yield case.finding(Defect.CONSTRAINT_VIOLATION, place, text, "RFC 5280 6.1.3 (b), (c)")


@check("name constraints are such as can be applied", "RFC 5280 4.2.1.10", Defect.CONSTRAINT_VIOLATION)
def constraints_are_sound(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        for what in islice(constraints.unsound(facts), _SHOWN):
            text = f"has name constraints that cannot be applied: {what}"
            yield case.finding(Defect.CONSTRAINT_VIOLATION, place, text, constraints.CLAUSE)


@check("the server's certificate sets no name constraints", "RFC 5280 4.2.1.10", Defect.CONSTRAINT_VIOLATION)
def server_sets_no_constraints(case: Case) -> Iterator[Finding]:
    if case.path.leaf.extension(x509.NameConstraints) is not None:
        what = "has name constraints, which only a CA can set"
        yield case.finding(Defect.CONSTRAINT_VIOLATION, 0, what, constraints.CLAUSE)


@check("every policy that a CA requires is there", "RFC 5280 4.2.1.11, 6.1.5 (g)", Defect.CONSTRAINT_VIOLATION)
def required_policies_are_there(case: Case) -> Iterator[Finding]:
    if (lack := policies.missing([facts for _, facts in case.below_the_anchor()])) is not None:
        what = f"lacks a certificate policy, which {case.who(lack.required_by)} requires: {lack.why}"
        yield case.finding(Defect.CONSTRAINT_VIOLATION, 0, what, "RFC 5280 4.2.1.11, 6.1.5 (g); RFC 9618 5")


@check("the server's certificate is for TLS servers (extendedKeyUsage)", "RFC 5280 4.2.1.12", Defect.WRONG_PURPOSE)
def purpose_is_server(case: Case) -> Iterator[Finding]:
    if not case.path.leaf.allows(SERVER_AUTH):
        what = "is not for TLS servers (extendedKeyUsage without serverAuth)"
        yield case.finding(Defect.WRONG_PURPOSE, 0, what, "RFC 5280 4.2.1.12")


@check("every issuer may issue to TLS servers (extendedKeyUsage)", "RFC 5280 4.2.1.12", Defect.WRONG_PURPOSE)
def issuers_purpose_covers_servers(case: Case) -> Iterator[Finding]:
    for place, facts in case.issuers():
        if not facts.allows(SERVER_AUTH, ANY_PURPOSE):
            what = "is not for issuing to TLS servers (extendedKeyUsage without serverAuth)"
            yield case.finding(Defect.WRONG_PURPOSE, place, what, "RFC 5280 4.2.1.12; CA/B BR 7.1.2.10.6")


@check("the server's key may sign a handshake (keyUsage)", "RFC 8446 4.4.2.2", Defect.WRONG_PURPOSE)
def key_may_sign_handshakes(case: Case) -> Iterator[Finding]:
    """Every key exchange that is offered signs; none encrypts to the server's key."""
    usage = case.path.leaf.key_usage
    if usage is not None and not usage.digital_signature:
        what = "may not sign a handshake (keyUsage without digitalSignature)"
        yield case.finding(Defect.WRONG_PURPOSE, 0, what, "RFC 8446 4.4.2.2; RFC 5246 7.4.2")


@check("the server's certificate is not a CA's", "RFC 5280 4.2.1.9", Defect.WRONG_PURPOSE)
def server_is_no_authority(case: Case) -> Iterator[Finding]:
    """A CA certificate at a server. One that is its own issuer and no anchor is left to :func:`somebody_vouches`:
    ``openssl req -x509`` makes those, nobody vouches for them, and CA or not they can vouch for nobody."""
    path = case.path
    alone = path.anchor is None and len(path.line) == 1 and path.leaf.own_issuer
    if path.leaf.ca and not alone:
        yield case.finding(
            Defect.WRONG_PURPOSE, 0, "is a CA's and not a server's", "RFC 5280 4.2.1.9; CA/B BR 7.1.2.7.8"
        )


_CLAUSE_OF_TRUST = "RFC 5280 6.1.1 (d)"
_ADD = "if you trust it, add its CA to the trusted CAs"


@check("somebody else than the server vouches for its certificate", _CLAUSE_OF_TRUST, Defect.SELF_SIGNED)
def somebody_vouches(case: Case) -> Iterator[Finding]:
    path = case.path
    if path.anchor is None and path.top.own_issuer and len(path.line) == 1:
        yield case.finding(Defect.SELF_SIGNED, 0, "was issued by nobody but itself", _CLAUSE_OF_TRUST, _ADD)


@check("no issuer is missing on the way to a trusted CA", _CLAUSE_OF_TRUST, Defect.INCOMPLETE_CHAIN)
def no_issuer_is_missing(case: Case) -> Iterator[Finding]:
    path = case.path
    if path.anchor is None and not path.top.own_issuer:
        what = "has an issuer that the server did not send and nobody here trusts"
        remedy = "have the server send its whole chain, or add its CA to the trusted CAs"
        yield case.finding(Defect.INCOMPLETE_CHAIN, len(path.line) - 1, what, _CLAUSE_OF_TRUST, remedy)


@check("the root that the chain leads to is trusted for this host", _CLAUSE_OF_TRUST, Defect.UNTRUSTED_ROOT)
def root_is_trusted(case: Case) -> Iterator[Finding]:
    path = case.path
    if path.anchor is None and path.top.own_issuer and len(path.line) > 1:
        what = "is a root that is not trusted here"
        yield case.finding(Defect.UNTRUSTED_ROOT, len(path.line) - 1, what, _CLAUSE_OF_TRUST, _ADD)


OF_TRUST = (somebody_vouches, no_issuer_is_missing, root_is_trusted)
"""Where no anchor is reached, one of these says why."""


@check("no certificate has expired, the anchor's included", "RFC 5280 6.1.3 (a)(2)", Defect.EXPIRED)
def nothing_has_expired(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        if case.now > facts.not_after:
            what = f"expired on {facts.not_after:%Y-%m-%d %H:%M:%S} UTC"
            yield case.finding(Defect.EXPIRED, place, what, "RFC 5280 4.1.2.5, 6.1.3 (a)(2)")


@check("every certificate is valid already", "RFC 5280 6.1.3 (a)(2)", Defect.NOT_YET_VALID)
def everything_is_valid_already(case: Case) -> Iterator[Finding]:
    for place, facts in enumerate(case.path.line):
        if case.now < facts.not_before:
            what = f"is valid only from {facts.not_before:%Y-%m-%d %H:%M:%S} UTC on"
            yield case.finding(Defect.NOT_YET_VALID, place, what, "RFC 5280 4.1.2.5, 6.1.3 (a)(2)")


@check("the server's certificate names the host (subjectAltName)", "RFC 9525 6", Defect.HOSTNAME_MISMATCH)
def host_is_named(case: Case) -> Iterator[Finding]:
    if not host_in_names(case.host, case.path.leaf.extension(x509.SubjectAlternativeName)):
        what = f"is not for {case.host}: it is in no subjectAltName"
        yield case.finding(Defect.HOSTNAME_MISMATCH, 0, what, "RFC 9525 6")


def keys_of_our_own(presented: Sequence[Facts], line: Sequence[Facts], own_keys: frozenset[bytes]) -> Iterable[Finding]:
    """Findings for what carries the key of a signing CA, in the path (``line``) or beside it."""
    for facts in dict.fromkeys((*line, *presented)):
        if facts.spki is not None and facts.spki in own_keys:
            place = line.index(facts) if facts in line else None
            what = f'the chain holds "{facts.title}", whose key a signing CA of this installation issues leaves with'
            clause = "no server may be vouched for by the interceptor's own key"
            remedy = "look for a proxy behind this proxy, and for a misuse of the signing CA"
            yield no_key_of_our_own.check.finding(Defect.OWN_CA, what, clause, place, remedy)


CHECKS: tuple[PathCheck, ...] = tuple(_made)


def findings(case: Case) -> list[Finding]:
    """What all the checks find."""
    return [replace(finding, check=each.check.name) for each in CHECKS for finding in each.find(case)]

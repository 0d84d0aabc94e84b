"""A signing CA's certificates: what an administrator uploads for it, put in order and judged for signing leaves.

The issuing certificate is the one whose key signs leaves; above it stand its issuers, up to the root where that is
there. Nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs import der
from certs.authority import key_sha256, spki_sha256
from certs.bundle import Bundle, BundleFinding, Entry, day, find_parents, judge, line, near_end, without_repeated
from certs.formats import MOST_CERTIFICATES, BundleError, read_certificates

LEAF_KEYS = "RSA of 2048 bits or more, P-256, P-384 or P-521 is needed"
LEAF_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
MOST_NAMES_SHOWN = 5
LONGEST_SHOWN = 80  # characters of one name

_NOTHING: Mapping[str, bytes] = MappingProxyType({})
_ANY_SERVER = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_RSA_ENCRYPTION = bytes.fromhex("2a864886f70d010101")  # 1.2.840.113549.1.1.1, RFC 8017 A.1
_EC_PUBLIC_KEY = bytes.fromhex("2a8648ce3d0201")  # 1.2.840.10045.2.1, RFC 5480 2.1.1
_EXACT_LENGTHS = {
    der.COMMON_NAME: ("common name", 1, 64),
    b"\x55\x04\x06": ("country", 2, 2),
}
"""The lengths that are watched where names are written into leaves (RFC 5280 A.1)."""
_ADVICE = {
    "malformed": "have it reissued",
    "not_a_ca": "have a CA certificate issued (basicConstraints CA:TRUE and keyUsage keyCertSign)",
    "expired": "have it renewed",
    "not_yet_valid": "wait until then, or check the clock here",
    "weak_key": "have a CA with a stronger key issued",
    "weak_signature": "have it reissued",
    "bad_signature": "export it anew, or add the right issuer",
}


def examine_signing(
    files: Sequence[bytes],
    now: datetime,
    key: CertificatePublicKeyTypes | None = None,
    existing: Mapping[str, bytes] = _NOTHING,
    *,
    for_request: bool = False,
) -> Bundle:
    """The issuing certificate and its issuers in one file or several, with all that speaks against signing with it.

    ``key`` is the public key that the issuing certificate must have (``for_request``: that of a request made here);
    without it the issuing certificate is the one at the bottom. ``existing`` has the :func:`spki_sha256` of the issuing
    certificates that the tenant has already, by name. Positions count through all files.

    The chain has the issuing certificate first and the topmost last; certificates that do not belong to it, each an
    error, follow. Errors: ``no_certificate``, ``private_key``, ``too_large``, ``malformed``, ``not_a_ca``,
    ``key_mismatch``, ``does_not_link``, ``bad_signature``, ``path_length``, ``wrong_purpose``, ``expired``,
    ``not_yet_valid``, ``weak_key``, ``weak_signature``, ``explicit_curve``, ``duplicate``. Warnings: ``no_root``,
    ``near_end``, ``ends_before``. Told: ``name_constraints``, ``no_key_identifier``, ``reordered``, ``repeated``.
    """
    certificates, numbers, refusals = _read(files)
    if refusals:
        return Bundle((), tuple(refusals))
    entries, findings = without_repeated(certificates, numbers if len(files) > 1 else ())
    parents, unsigned = find_parents(entries)
    issuing, mismatch = _issuing(entries, parents, key, for_request=for_request)
    findings += mismatch
    chain = line(issuing, parents)
    others = [entry for entry in entries if entry not in chain]
    for place, entry in enumerate(chain):
        findings += _judge(entry, now, issues=place == 0)
    unsigned = [found for found in unsigned if _matters(found, chain, parents)]
    findings += [_advised(found) for found in unsigned]
    if not unsigned:  # what does not verify keeps the others from linking: they are not to blame
        findings += _astray(chain, others, parents)
    findings += _limits(chain)
    findings += _duplicates(issuing, existing)
    findings += _told(chain, now, refused={found.certificate for found in findings if found.level == "error"})
    findings.sort(key=lambda finding: finding.certificate or 0)
    ordered = [*chain, *others]
    return Bundle(
        tuple(entry.certificate for entry in ordered), tuple(findings), tuple(entry.position for entry in ordered)
    )


def _read(files: Sequence[bytes]) -> tuple[list[x509.Certificate], list[int], list[BundleFinding]]:
    """The certificates of all files, the file of each from 1, and why files are refused."""
    if not files:
        return [], [], [BundleFinding("error", "no_certificate", "no file was given; upload the CA's certificate")]
    if len(files) > MOST_CERTIFICATES:
        message = f"there are {len(files)} files; at most {MOST_CERTIFICATES} are read"
        return [], [], [BundleFinding("error", "too_large", message)]
    certificates: list[x509.Certificate] = []
    numbers: list[int] = []
    refusals: list[BundleFinding] = []
    for number, data in enumerate(files, 1):
        try:
            found = read_certificates(data)
        except BundleError as error:
            message = str(error) if len(files) == 1 else f"file {number}: {error}"
            # Behind a file that cannot be read, nobody knows which place in all files this one has.
            place = None if error.certificate is None or refusals else len(certificates) + error.certificate
            refusals.append(BundleFinding("error", error.code, message, place))
            continue
        certificates += found
        numbers += [number] * len(found)
        if len(certificates) > MOST_CERTIFICATES:
            message = f"the files hold more than {MOST_CERTIFICATES} certificates together; upload one chain"
            return [], [], [BundleFinding("error", "too_large", message)]
    return certificates, numbers, refusals


def _issuing(
    entries: Sequence[Entry],
    parents: Mapping[Entry, Entry],
    key: CertificatePublicKeyTypes | None,
    *,
    for_request: bool,
) -> tuple[Entry, list[BundleFinding]]:
    """The certificate that is to issue leaves; where none has the key, the bottom one, and the error."""

    def rank(entry: Entry) -> tuple[bool, int, int]:
        return not entry.self_signed, len(line(entry, parents)), -entry.position

    above = set(parents.values())
    bottom = max([entry for entry in entries if entry not in above] or entries, key=rank)
    if key is None:
        return bottom, []
    wanted = key_sha256(key)
    having = [entry for entry in entries if _spki(entry) == wanted]
    if having:
        return max(having, key=rank), []
    if for_request:
        problem = (
            "is for another key than this request's; have the request that was downloaded here signed, "
            "and upload the certificate of that"
        )
    else:
        problem = "is for another key than the private key; upload the certificate and the key that belong together"
    return bottom, [bottom.error("key_mismatch", problem)]


def _spki(entry: Entry) -> bytes | None:
    try:
        return spki_sha256(entry.certificate)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _judge(entry: Entry, now: datetime, *, issues: bool) -> Iterator[BundleFinding]:
    """What is wrong with one certificate of the chain by itself."""
    problem = _key_problem(entry, issues=issues)
    for found in judge(entry, now):
        if found.code != "weak_key" or problem is None:
            yield _advised(found)
    if problem is not None:
        yield problem
    if issues and (unwritable := _unwritable(entry)):
        yield entry.error("malformed", unwritable)


def _key_problem(entry: Entry, *, issues: bool) -> BundleFinding | None:
    """What is wrong with a key beyond its strength: how it is encoded, and whether leaves can be signed with it."""
    try:
        algorithm = next(_fields(entry).public_key.children())
        kind, *parameters = algorithm.children()
    except (ValueError, StopIteration):
        return entry.error("malformed", "has a public key that cannot be read; have it reissued")
    if kind.content == _EC_PUBLIC_KEY and [one.tag for one in parameters] == [der.SEQUENCE]:
        return entry.error(
            "explicit_curve",
            "has an EC key that spells its curve out instead of naming it, which verifiers refuse (RFC 5480 2.1.1); "
            "have a CA with a named curve issued",
        )
    if not issues:
        return None
    try:
        key = entry.certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return entry.error("weak_key", f"has a key that cannot be read; {LEAF_KEYS}")
    if isinstance(key, rsa.RSAPublicKey):
        if kind.content == _RSA_ENCRYPTION:
            return None
        shown = "RSA restricted to PSS signatures"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in LEAF_CURVES:
            return None
        shown = f"curve {key.curve.name}"
    else:
        shown = f"a key of kind {type(key).__name__.removesuffix('PublicKey')}"
    return entry.error("weak_key", f"has a key that leaves cannot be signed with: {shown}; {LEAF_KEYS}")


def _unwritable(entry: Entry) -> str | None:
    """Why the subject cannot be the issuer that leaves name."""
    name = _fields(entry).subject
    if not name.content:
        return "has no subject, which a CA must have (RFC 5280 4.1.2.6); have it reissued with one"
    try:
        attributes = [list(attribute.children()) for relative in name.children() for attribute in relative.children()]
        lengths = [
            (*_EXACT_LENGTHS[kind.content], _characters(value))
            for kind, value in attributes
            if kind.content in _EXACT_LENGTHS
        ]
        for field, least, most, length in lengths:
            if not least <= length <= most:
                allowed = f"{most}" if least == most else f"{least} to {most}"
                return (
                    f"has a {field} of {length} characters in its subject, where {allowed} are allowed (RFC 5280 A.1); "
                    "have it reissued"
                )
        if entry.certificate.subject.public_bytes() == entry.subject:
            return None
    except UserWarning:  # where warnings are errors: of lengths that RFC 5280 does not bound so
        return None
    except ValueError:
        pass
    return "has a subject that cannot be written into leaves as it is encoded; have it reissued with UTF-8 names"


def _characters(text: der.Element) -> int:
    """How many a string has. Raises ValueError where UTF-8 is none."""
    match text.tag:
        case 0x0C:  # UTF8String
            return len(text.content.decode())
        case 0x1E:  # BMPString
            return len(text.content) // 2
        case 0x1C:  # UniversalString
            return len(text.content) // 4
        case _:
            return len(text.content)


def _fields(entry: Entry) -> der.TbsFields:
    return der.tbs_fields(entry.certificate.tbs_certificate_bytes)


def _matters(unsigned: BundleFinding, chain: Sequence[Entry], parents: Mapping[Entry, Entry]) -> bool:
    """Whether a signature that does not verify is in the chain, and not for want of a key that can be read."""
    for entry in chain:
        if entry.position == unsigned.certificate:
            return _spki(parents.get(entry, entry)) is not None
    return False


def _astray(chain: Sequence[Entry], others: Iterable[Entry], parents: Mapping[Entry, Entry]) -> Iterator[BundleFinding]:
    """An error for each certificate that is not on the issuing certificate's way up, and for a circle."""
    issuing, top = chain[0], chain[-1]
    if top in parents:
        yield issuing.error(
            "does_not_link",
            "is in or below a circle of CAs that sign each other; upload one chain that ends in a root",
        )
    for entry in others:
        if (spki := _spki(entry)) is not None and spki == _spki(issuing):
            problem = f"has the same key as {issuing.where}, which has more above it; take one of the two out"
        elif issuing in line(entry, parents):
            problem = f"does not link: it lies below {issuing.where}, whose key signs; take it out"
        elif top.self_signed or top in parents:
            problem = f"does not link to {issuing.where}: it belongs to another chain; take it out"
        else:
            missing = der.name_text(der.read(top.issuer))
            problem = (
                f"does not link to {issuing.where}: {missing}, the issuer of {top.where}, is missing; "
                "add that, or take this one out"
            )
        yield entry.error("does_not_link", problem)


def _limits(chain: Sequence[Entry]) -> Iterator[BundleFinding]:
    """What the certificates of the chain do not allow to those below them."""
    between = 0  # CAs below, self-issued ones aside (RFC 5280 4.2.1.9)
    for place, entry in enumerate(chain):
        constraints = _extension(entry, x509.BasicConstraints)
        if constraints is not None and constraints.path_length is not None and between > constraints.path_length:
            yield entry.error(
                "path_length",
                f"allows {constraints.path_length} CAs below it (pathLenConstraint, RFC 5280 4.2.1.9), and there are "
                f"{between}; have it reissued with a larger one, or the issuing certificate by a CA with room",
            )
        if constraints is not None and constraints.ca and not entry.self_issued:
            between += 1
        purposes = _extension(entry, x509.ExtendedKeyUsage)
        if purposes is not None and _ANY_SERVER.isdisjoint(purposes) and (place == 0 or not entry.self_signed):
            yield entry.error(
                "wrong_purpose",
                "has an extended key usage without server authentication (RFC 5280 4.2.1.12), so that devices refuse "
                "the leaves; have it reissued with serverAuth, or without the extension",
            )


def _duplicates(issuing: Entry, existing: Mapping[str, bytes]) -> Iterator[BundleFinding]:
    spki = _spki(issuing)
    for name, other in existing.items():
        if spki == other:
            yield issuing.error(
                "duplicate", f"has the key of the signing CA {name!r}, which is there already; use that one"
            )


def _told(chain: Sequence[Entry], now: datetime, refused: set[int | None]) -> Iterator[BundleFinding]:
    """Warnings, and what is good to know."""
    issuing, top = chain[0], chain[-1]
    if not top.self_signed and top.position not in refused:
        yield top.finding("warning", "no_root", "is the topmost, but no root; devices need its root from elsewhere")
    yield from near_end(chain, now)
    last = issuing.certificate.not_valid_after_utc
    for entry in chain[1:]:
        end = entry.certificate.not_valid_after_utc
        if now <= end < last:
            message = f"ends on {day(end)}, before {issuing.where}, which it vouches for, does on {day(last)}"
            yield entry.finding("warning", "ends_before", message)
    for entry in chain:
        if (names := _extension(entry, x509.NameConstraints)) is not None:
            message = (
                f"has name constraints: {_constraints(names)}; hosts outside of them get no leaf that devices accept"
            )
            yield entry.finding("info", "name_constraints", message)
    if issuing.extensions is not None and _extension(issuing, x509.SubjectKeyIdentifier) is None:
        message = "has no subject key identifier; one derived from its key is used (RFC 5280 4.2.1.2)"
        yield issuing.finding("info", "no_key_identifier", message)
    if any(below.position > above.position for below, above in pairwise(chain)):
        message = "the certificates were put in order: the issuing one first, the topmost last"
        yield BundleFinding("info", "reordered", message)


def _constraints(names: x509.NameConstraints) -> str:
    parts = [
        f"{verb} {_shown(subtrees)}"
        for verb, subtrees in (("permits", names.permitted_subtrees), ("excludes", names.excluded_subtrees))
        if subtrees
    ]
    return ", ".join(parts) or "none"


def _shown(subtrees: Sequence[x509.GeneralName]) -> str:
    shown = ", ".join(_name(subtree) for subtree in subtrees[:MOST_NAMES_SHOWN])
    more = len(subtrees) - MOST_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _name(subtree: x509.GeneralName) -> str:
    if isinstance(subtree, x509.DirectoryName):
        try:
            return f"the names below {der.name_text(der.read(subtree.value.public_bytes()))}"
        except ValueError:
            return "names that cannot be read"
    if isinstance(subtree, x509.OtherName):
        return f"names of kind {subtree.type_id.dotted_string}"
    text = "".join(c if c.isprintable() else "?" for c in str(subtree.value)[:LONGEST_SHOWN])
    return text or "all"


def _extension[Extension: x509.ExtensionType](entry: Entry, kind: type[Extension]) -> Extension | None:
    if entry.extensions is None:
        return None
    try:
        return entry.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _advised(found: BundleFinding) -> BundleFinding:
    """The same, with what to do about it."""
    return BundleFinding(found.level, found.code, f"{found.message}; {_ADVICE[found.code]}", found.certificate)

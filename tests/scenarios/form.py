"""How a certificate is written: encoding, version, serial number, extensions, names that are no text."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from certs.verdict import Defect
from tests.harness.der_writing import integer, object_identifier, tlv
from tests.harness.pki import Authority, Issued, Raw, common_name, kept_key, new_key
from tests.scenarios.base import ACCEPTS, REFUSES, Server, issuing, public, public_issuing, root, scenario

VERSIONS = "OpenSSL does not look at the version; Chromium cannot read it either."
SERIAL_NUMBERS = "Neither looks at serial numbers."

UNREADABLE = (Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, Defect.HOSTNAME_MISMATCH)
"""Of a server certificate that cannot be looked at: nothing vouches for it, under any name."""
WITHOUT_EXTENSIONS = (Defect.MALFORMED, Defect.HOSTNAME_MISMATCH)
"""The same where it is the extensions alone; OpenSSL takes most of these for nobody's."""
UNREADABLE_CA = (Defect.MALFORMED, Defect.CONSTRAINT_VIOLATION, Defect.INCOMPLETE_CHAIN)
"""Of an issuer whose extensions cannot be read, so that nothing says that it is a CA."""


def extension(oid: str, *fields: bytes) -> bytes:
    """A whole Extension element of which the fields behind the OID are given (RFC 5280 4.1)."""
    return tlv(0x30, object_identifier(oid) + b"".join(fields))


def name_of(tag: int, text: bytes) -> bytes:
    """A Name with one common name whose value is that string."""
    return tlv(0x30, tlv(0x31, tlv(0x30, object_identifier("2.5.4.3") + tlv(tag, text))))


# --- extensions


@scenario(*UNREADABLE, as_it_is=WITHOUT_EXTENSIONS)
def an_extension_twice(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.2."""
    return Server(issuing().leaf(host, duplicate=[ExtensionOID.KEY_USAGE]))


@scenario(*UNREADABLE, as_it_is=WITHOUT_EXTENSIONS)
def two_subject_alternative_names(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.2.

    Two readers could take the host from two different ones.
    """
    other = x509.SubjectAlternativeName([x509.DNSName("other.example")]).public_bytes()
    return Server(issuing().leaf(host, extra=[Raw("2.5.29.17", other)]))


@scenario(*UNREADABLE_CA, as_it_is=UNREADABLE_CA[:2])
def an_extension_of_an_intermediate_twice(host: str) -> Server:
    """Blocked as malformed, constraint_violation, incomplete_chain: RFC 5280 4.2.

    Its extensions cannot be read, so nothing says that it is a CA.
    """
    return Server(root().intermediate("Twice", duplicate=[ExtensionOID.KEY_USAGE]).leaf(host))


@scenario(
    *UNREADABLE,
    as_it_is=WITHOUT_EXTENSIONS,
    chromium_says=ACCEPTS,
    why="Chromium does not read CRL distribution points where it asks no CRL.",
)
def an_extension_that_cannot_be_read(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.2.1.13."""
    return Server(issuing().leaf(host, extra=[Raw("2.5.29.31", b"\x30\x05")]))


@scenario(*UNREADABLE, as_it_is=WITHOUT_EXTENSIONS)
def a_san_that_cannot_be_read(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.2.1.6."""
    return Server(issuing().leaf(host, san=None, extra=[Raw("2.5.29.17", b"\x30\x05\x82\x09a")]))


@scenario(*UNREADABLE_CA, as_it_is=UNREADABLE_CA[:2])
def basic_constraints_of_an_intermediate_that_cannot_be_read(host: str) -> Server:
    """Blocked as malformed, constraint_violation, incomplete_chain: RFC 5280 4.2.1.9."""
    broken = Raw("2.5.29.19", b"\x30\x05\x01", critical=True)
    return Server(root().intermediate("Broken", ca=None, extra=[broken]).leaf(host))


@scenario(Defect.MALFORMED)
def an_unknown_critical_extension(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2."""
    return Server(issuing().leaf(host, extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]))


@scenario()
def an_unknown_extension_that_is_not_critical(host: str) -> Server:
    """Good: RFC 5280 4.2."""
    return Server(issuing().leaf(host, extra=[Raw("1.2.3.4", b"\x05\x00")]))


@scenario(Defect.MALFORMED)
def an_unknown_critical_extension_of_an_intermediate(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2."""
    return Server(root().intermediate("Unknown", extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]).leaf(host))


@scenario(Defect.MALFORMED)
def an_unknown_critical_extension_of_the_anchor(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2, RFC 5937 3.2."""
    return Server(Authority.root("Odd Root", extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]).leaf(host))


@scenario(Defect.MALFORMED)
def a_precertificate(host: str) -> Server:
    """Blocked as malformed: RFC 6962 3.1.

    Its poison is critical so that nobody takes it for a certificate.
    """
    return Server(issuing().leaf(host, extra=[Raw("1.3.6.1.4.1.11129.2.4.3", b"\x05\x00", critical=True)]))


@scenario(Defect.MALFORMED)
def a_critical_tls_feature(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2, RFC 7633 4.1.

    It asks for an OCSP answer in the handshake, and is not processed.
    """
    return Server(issuing().leaf(host, extra=[Raw("1.3.6.1.5.5.7.1.24", bytes.fromhex("3003020105"), critical=True)]))


@scenario(Defect.MALFORMED)
def critical_authority_information(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.2.1.

    It must not be critical, so nobody processes it as such.
    """
    where = x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://o/"))]
    )
    raw = Raw("1.3.6.1.5.5.7.1.1", where.public_bytes(), critical=True)
    return Server(issuing().leaf(host, extra=[raw]))


@scenario(
    chromium_says=REFUSES, why="Chromium processes no CRL distribution points, so a critical one is unknown to it."
)
def a_critical_crl_distribution_point(host: str) -> Server:
    """Good: RFC 5280 4.2.1.13.

    It says where a CRL is, and asks nothing of who does not fetch one.
    """
    names = [x509.UniformResourceIdentifier("http://crl.example/")]
    point = x509.CRLDistributionPoints([x509.DistributionPoint(names, None, None, None)])
    return Server(issuing().leaf(host, extra=[Raw("2.5.29.31", point.public_bytes(), critical=True)]))


@scenario(*UNREADABLE)
def a_true_that_is_not_der(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1, X.690 11.1.

    DER has one octet for TRUE, FF; this is BER.
    """
    odd = extension("1.2.3.4", b"\x01\x01\x01", tlv(0x04, b"\x05\x00"))
    return Server(issuing().leaf(host, extension_der=[odd]))


@scenario(*UNREADABLE, curl_says=ACCEPTS, why="OpenSSL reads BER where DER is asked for.")
def a_default_that_is_written_out(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1, X.690 11.5."""
    odd = extension("1.2.3.4", b"\x01\x01\x00", tlv(0x04, b"\x05\x00"))
    return Server(issuing().leaf(host, extension_der=[odd]))


@scenario(*WITHOUT_EXTENSIONS, curl_says=ACCEPTS, why="OpenSSL leaves aside what follows the value.")
def octets_behind_the_value_of_an_extension(host: str) -> Server:
    """Blocked as malformed, hostname_mismatch: RFC 5280 4.1, 4.2."""
    names = x509.SubjectAlternativeName([x509.DNSName(host)]).public_bytes()
    return Server(issuing().leaf(host, san=None, extra=[Raw("2.5.29.17", names + b"\x05\x00")]))


# --- version


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, why=VERSIONS)
def version_1_with_extensions(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.1."""
    return Server(issuing().leaf(host, version=1))


@scenario(*UNREADABLE, curl_says=ACCEPTS, why=VERSIONS)
def version_2_with_extensions(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1.2.1."""
    return Server(issuing().leaf(host, version=2), own=[[root()]])


@scenario(*UNREADABLE, curl_says=ACCEPTS, why=VERSIONS)
def version_4(host: str) -> Server:
    """Blocked as malformed, incomplete_chain, hostname_mismatch: RFC 5280 4.1.2.1."""
    return Server(issuing().leaf(host, version=4), own=[[root()]])


@scenario(Defect.MALFORMED, Defect.INCOMPLETE_CHAIN, curl_says=ACCEPTS, why=VERSIONS)
def an_intermediate_of_version_4(host: str) -> Server:
    """Blocked as malformed, incomplete_chain: RFC 5280 4.1.2.1."""
    return Server(root().intermediate("Odd", version=4).leaf(host), own=[[root()]])


# --- serial number


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=SERIAL_NUMBERS)
def a_negative_serial_number(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.2."""
    return Server(issuing().leaf(host, serial=-5))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=SERIAL_NUMBERS)
def a_negative_serial_number_of_an_intermediate(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.2."""
    return Server(root().intermediate("Negative", serial=-(1 << 100)).leaf(host))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=SERIAL_NUMBERS)
def a_serial_number_of_zero(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.2."""
    return Server(issuing().leaf(host, serial=0))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=SERIAL_NUMBERS)
def a_serial_number_of_21_octets(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.2."""
    return Server(issuing().leaf(host, serial=1 << 160))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=SERIAL_NUMBERS)
def a_serial_number_of_a_thousand_octets(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.2."""
    return Server(issuing().leaf(host, serial=1 << 8000))


@scenario()
def a_serial_number_of_20_octets(host: str) -> Server:
    """Good: RFC 5280 4.1.2.2."""
    return Server(issuing().leaf(host, serial=(1 << 160) - 1))


@scenario()
def a_root_with_the_serial_number_zero(host: str) -> Server:
    """Good: RFC 5280 6.1.1 (d).

    Of an anchor its name and key count; roots of the common store have this number.
    """
    ca = Authority.root("Zero", serial=0)
    return Server(ca.leaf(host), chain=[ca])


# --- names


@scenario()
def names_that_differ_in_case_and_type_of_string(host: str) -> Server:
    """Good: RFC 5280 7.1."""
    other = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "ISSUING  ca", x509.name._ASN1Type.PrintableString)]
    )
    return Server(root().intermediate("Issuing CA").leaf(host, issuer_name=other))


NO_TEXT, TEXT = name_of(0x0C, b"\xff\xfe\x80"), name_of(0x0C, b"abc")


@scenario(Defect.MALFORMED, as_it_is=())
def a_subject_that_is_no_utf_8(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.4, RFC 3629 3.

    Nothing here is read from a subject, and octets compare as well as text; OpenSSL takes no such certificate.
    """
    ca, key = Authority.root("Of Fixed Length", key=kept_key("rsa2048")), new_key()
    leaf, held = (ca.leaf(host, key=key, subject_der=name) for name in (NO_TEXT, TEXT))
    return Server(leaf, held=[held], versions=["TLSv1.2"])


@scenario(Defect.MALFORMED, as_it_is=())
def a_ca_whose_name_is_no_utf_8(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.4, RFC 3629 3."""
    top, keys = Authority.root("Of Fixed Length Too", key=kept_key("rsa2048")), (kept_key("rsa2048", 1), new_key())
    lines: list[list[Issued]] = []
    for name in (NO_TEXT, TEXT):
        ca = top.intermediate(key=keys[0], subject_der=name)
        lines.append([ca.leaf(host, key=keys[1], issuer_der=name), ca])
    (leaf, *above), held = lines
    return Server(leaf, chain=above, held=held, versions=["TLSv1.2"])


@scenario()
def a_subject_of_a_bmp_string(host: str) -> Server:
    """Good: RFC 5280 4.1.2.4."""
    return Server(issuing().leaf(host, subject_der=name_of(0x1E, "Bücher".encode("utf-16-be"))))


@scenario(*WITHOUT_EXTENSIONS, curl_says=ACCEPTS, why="OpenSSL compares octets, and one of the names fits.")
def a_dns_name_that_is_no_ascii(host: str) -> Server:
    """Blocked as malformed, hostname_mismatch: RFC 5280 4.2.1.6, 7.2.

    A dNSName is an IA5String; octets from 80 on are none.
    """
    names = tlv(0x30, tlv(0x82, host.encode()) + tlv(0x82, b"b\xfccher.example"))
    return Server(issuing().leaf(host, san=None, extra=[Raw("2.5.29.17", names)]))


@scenario()
def an_empty_subject(host: str) -> Server:
    """Good: RFC 5280 4.1.2.6."""
    return Server(issuing().leaf(host, subject=x509.Name([]), san_critical=True))


@scenario()
def an_empty_subject_of_a_common_ca(host: str) -> Server:
    """Good: RFC 5280 4.1.2.6, CA/B BR 7.1.2.7.2."""
    return Server(public_issuing().leaf(host, subject=x509.Name([]), san_critical=True), common=[public()])


@scenario(
    chromium_says=REFUSES, why="Chromium asks for the critical flag of whichever CA; we of those in the common store."
)
def an_empty_subject_with_a_san_that_is_not_critical(host: str) -> Server:
    """Good: RFC 5280 4.2.1.6.

    A duty of CAs that nobody is less safe without.
    """
    return Server(issuing().leaf(host, subject=x509.Name([])))


@scenario(Defect.MALFORMED, curl_says=ACCEPTS, why="OpenSSL does not ask for the critical flag.")
def an_empty_subject_with_a_san_that_is_not_critical_of_a_common_ca(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.6."""
    return Server(public_issuing().leaf(host, subject=x509.Name([])), common=[public()])


@scenario()
def a_critical_san_beside_a_subject(host: str) -> Server:
    """Good: RFC 5280 4.2.1.6.

    It should not be, and nobody is less safe for it.
    """
    return Server(issuing().leaf(host, san_critical=True))


@scenario(
    Defect.MALFORMED,
    curl_says=ACCEPTS,
    chromium_says=ACCEPTS,
    why="Neither minds a flag that only should not be there.",
)
def a_critical_san_beside_a_subject_of_a_common_ca(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.2.1.6, CA/B BR 7.1.2.7.12."""
    return Server(public_issuing().leaf(host, san_critical=True), common=[public()])


# --- keys


def public_key_info(algorithm: str, key: str) -> bytes:
    """A SubjectPublicKeyInfo from the hex of its two parts (RFC 5280 4.1)."""
    return tlv(0x30, tlv(0x30, bytes.fromhex(algorithm)) + tlv(0x03, b"\0" + bytes.fromhex(key)))


NO_PRIVATE_KEY = "no server has a private key for it"


@scenario(Defect.MALFORMED)
def a_key_that_is_no_point_of_its_curve(host: str) -> Server:
    """Blocked as malformed: RFC 5280 4.1.2.7, RFC 5480 2.2."""
    beside = public_key_info("06072a8648ce3d020106082a8648ce3d030107", "04" + "01" * 64)
    return Server(issuing().leaf(host, spki=beside), unserved=NO_PRIVATE_KEY)


@scenario(Defect.MALFORMED)
def an_rsa_key_whose_exponent_is_one(host: str) -> Server:
    """Blocked as malformed: RFC 8017 3.1.

    Its signature is the message: everybody can sign.
    """
    numbers = tlv(0x30, integer((1 << 2047) + 1) + integer(1)).hex()
    broken = public_key_info("06092a864886f70d0101010500", numbers)
    return Server(issuing().leaf(host, spki=broken), unserved=NO_PRIVATE_KEY)


@scenario(Defect.WEAK_KEY)
def a_key_of_an_unknown_kind(host: str) -> Server:
    """Blocked as weak_key: RFC 5280 4.1.2.7."""
    return Server(issuing().leaf(host, spki=public_key_info("06042a030405", "01" * 32)), unserved=NO_PRIVATE_KEY)


@scenario(Defect.MALFORMED, Defect.BAD_SIGNATURE, as_it_is=[Defect.MALFORMED])
def two_signature_algorithms_that_differ(host: str) -> Server:
    """Blocked as malformed, bad_signature: RFC 5280 4.1.1.2."""
    return Server(issuing().leaf(host, inner_hash="sha384"))


@scenario(
    Defect.HOSTNAME_MISMATCH, curl_says=ACCEPTS, why="Without a subjectAltName for hosts curl takes the common name."
)
def version_1_without_extensions(host: str) -> Server:
    """Blocked as hostname_mismatch: RFC 5280 4.1.2.1, RFC 9525 2.

    What was usual thirty years ago; the host is in the common name alone.
    """
    return Server(issuing().leaf(host, version=1, bare=True, subject=common_name(host)))

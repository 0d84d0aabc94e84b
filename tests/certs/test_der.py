import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from certs import der
from tests.harness import pki

ROOT = pki.Authority.root("Root").certificate
CHILD = pki.Authority.root("Root").intermediate("Child").certificate


def test_the_fields_are_the_bytes_of_the_certificate() -> None:
    fields = der.tbs_fields(CHILD.tbs_certificate_bytes)
    assert fields.issuer.whole == CHILD.issuer.public_bytes()
    assert fields.subject.whole == CHILD.subject.public_bytes()
    assert int.from_bytes(fields.serial.content, "big") == CHILD.serial_number
    spki = CHILD.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fields.public_key.whole == spki
    assert der.certificate_fields(CHILD.public_bytes(Encoding.DER)).subject.content == fields.subject.content


def test_a_certificate_of_version_one_has_no_version_field() -> None:
    old = pki.Authority.root("Old", version=1, bare=True).certificate
    assert der.name_text(der.tbs_fields(old.tbs_certificate_bytes).subject) == "Old"


def test_without_its_algorithm_the_signed_part_of_two_signers_is_the_same() -> None:
    by_ecdsa = pki.Authority.root("Root", key=pki.kept_key("ec256"), serial=7)
    by_other = pki.Authority.root("Root", key=pki.kept_key("ec256"), serial=7, hash="sha512")
    one, other = by_ecdsa.certificate.tbs_certificate_bytes, by_other.certificate.tbs_certificate_bytes
    assert one != other
    assert der.without_signature_algorithm(one) == der.without_signature_algorithm(other)
    changed = pki.Authority.root("Root", key=pki.kept_key("ec256"), serial=8).certificate.tbs_certificate_bytes
    assert der.without_signature_algorithm(one) != der.without_signature_algorithm(changed)


@pytest.mark.parametrize(
    "data",
    ["", "30", "3005", "308005000000", "30820001", "3084ffffffff", "30850000000001", "1f8101", "3f8101"],
)
def test_what_is_no_element_is_refused(data: str) -> None:
    with pytest.raises(der.DerError):
        der.read(bytes.fromhex(data))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_what_is_written_is_read_again(size: int) -> None:
    element = der.read(der.written(der.BIT_STRING, bytes(size)))
    assert (element.tag, element.content, element.end) == (3, bytes(size), len(element.data))
    assert element.body == {0: 2, 1: 2, 127: 2, 128: 3, 255: 3, 256: 4, 65535: 4, 65536: 5}[size]  # the shortest form


def test_the_algorithm_behind_the_signed_part_is_found() -> None:
    whole = CHILD.public_bytes(Encoding.DER)
    fields, algorithm = der.fields_and_algorithm(whole)
    assert fields.subject.whole == CHILD.subject.public_bytes()
    assert algorithm.whole == fields.signature.whole
    assert whole.index(CHILD.tbs_certificate_bytes) + len(CHILD.tbs_certificate_bytes) == algorithm.start


@pytest.mark.parametrize("data", ["3000", "3003020101", "0403020101", "300c020101020101020101020101"])
def test_what_is_no_signed_part_is_refused(data: str) -> None:
    with pytest.raises(der.DerError):
        der.tbs_fields(bytes.fromhex(data))


def name(*attributes: tuple[str, int, bytes]) -> der.Element:
    encoded = b""
    for oid, tag, value in attributes:
        pair = bytes.fromhex(oid) + bytes([tag, len(value)]) + value
        pair = b"\x30" + bytes([len(pair)]) + pair
        encoded += b"\x31" + bytes([len(pair)]) + pair
    return der.read(b"\x30" + bytes([len(encoded)]) + encoded)


CN, OU, O = "0603550403", "060355040b", "060355040a"  # noqa: E741 - the attribute is called so


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ([(O, 0x0C, b"Org"), (OU, 0x0C, b"Unit"), (CN, 0x0C, b"Name")], "Name"),
        ([(CN, 0x0C, b"First"), (CN, 0x0C, b"Last")], "Last"),
        ([(O, 0x13, b"Org"), (OU, 0x13, b"Unit")], "Unit"),
        ([(O, 0x13, b"Org")], "Org"),
        ([(CN, 0x0C, b"  "), (O, 0x13, b"Org")], "Org"),
        ([(CN, 0x1E, "Bü".encode("utf-16-be"))], "Bü"),
        ([(CN, 0x1C, "Bü".encode("utf-32-be"))], "Bü"),
        ([(CN, 0x14, "Bü".encode("latin-1"))], "Bü"),
        ([(CN, 0x0C, b"\xff\n")], "\ufffd?"),
        ([(CN, 0x0C, b"x" * 80)], "x" * 61 + "..."),
        ([], "no name"),
    ],
)
def test_a_name_is_shown_on_one_line(attributes: list[tuple[str, int, bytes]], text: str) -> None:
    assert der.name_text(name(*attributes)) == text


def test_a_broken_name_is_shown_as_such() -> None:
    assert der.name_text(der.read(b"\x30\x02\x31\x05")) == "a name that cannot be read"


@given(st.binary(max_size=80))
def test_reading_garbage_ends_with_an_element_or_an_error(data: bytes) -> None:
    try:
        element = der.read(data)
        assert data.startswith(element.whole)
        der.name_text(element)
        der.certificate_fields(data)
    except der.DerError:
        pass


def test_the_root_is_parsed_as_cryptography_does() -> None:
    assert isinstance(ROOT, x509.Certificate)
    assert der.name_text(der.certificate_fields(ROOT.public_bytes(Encoding.DER)).issuer) == "Root"

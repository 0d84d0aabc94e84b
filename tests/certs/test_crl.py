"""CRLs: which count for a certificate, and what they say of it. One table: what is wrong, and what is said."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certs.crl import Crl, crls_of_file
from certs.revocation import Revocation, Standing, Subject, Unusable, subjects
from certs.verdict import Defect
from tests.harness.der_writing import integer, time_of, tlv
from tests.harness.pki import DAY, HOUR, NOW, Authority, Issued, Raw, kept_key, new_key
from tests.harness.programs import need
from tests.harness.revocation import DELTA, ISSUER, Entry, crl, crl_pem, names, scope, uri

ROOT = Authority.root("CRL Root")
ISSUING = ROOT.intermediate("CRL Issuing")
URL = "http://crl.example/issuing.crl"
LEAF = ISSUING.leaf(extra=names(crl=URL))
BELOW = ISSUING.intermediate("Below", extra=names(crl=URL))
MINUTE = HOUR / 60


def asked(issued: Issued) -> Subject:
    """The certificate as what is asked about, its issuer as the one who answers."""
    assert issued.parent is not None
    return subjects([issued.certificate, issued.parent.certificate])[0]


def standing(der: bytes, about: Issued = LEAF) -> Standing:
    return Crl(der).standing(asked(about), NOW)


def test_what_is_not_listed_is_good_until_the_next_update() -> None:
    found = standing(crl(ISSUING, [1, 2, 3], next_update=NOW + 5 * DAY))
    assert found == Standing(NOW - HOUR, NOW + 5 * DAY, "RFC 5280 6.3.3")
    assert standing(crl(ISSUING)).revocation is None


def test_what_is_listed_is_revoked_with_date_and_reason() -> None:
    serial = LEAF.certificate.serial_number
    found = standing(crl(ISSUING, [7, Entry(serial, NOW - DAY, reason=1), 9])).revocation
    assert found is not None
    assert (found.at, found.reason) == (NOW - DAY, x509.ReasonFlags.key_compromise)
    bare = standing(crl(ISSUING, [LEAF])).revocation
    assert bare is not None
    assert bare.reason is None


@pytest.mark.parametrize(
    ("reason", "counts"),
    [(0, True), (1, True), (2, True), (3, True), (4, True), (5, True), (6, True), (8, False), (9, True), (10, True)],
)
def test_every_reason_revokes_a_hold_too_but_the_one_that_takes_off_the_list(reason: int, counts: bool) -> None:
    found = standing(crl(ISSUING, [Entry(LEAF.certificate.serial_number, reason=reason)]))
    assert (found.revocation is not None) == counts


def test_a_reason_that_nobody_knows_revokes_all_the_same() -> None:
    assert standing(crl(ISSUING, [Entry(LEAF.certificate.serial_number, reason=77)])).revocation is not None


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, (1 << 159) - 1])
def test_a_serial_number_is_found_however_long_it_is_and_none_beside_it(serial: int) -> None:
    about = ISSUING.leaf(serial=serial)
    near = [other for other in (serial - 1, serial + 1, serial << 8, serial >> 8, serial << 1) if other > 0]
    assert standing(crl(ISSUING, near), about).revocation is None
    assert standing(crl(ISSUING, [*near, serial]), about).revocation is not None


def test_the_octets_of_a_serial_number_elsewhere_do_not_revoke() -> None:
    serial = LEAF.certificate.serial_number
    near = [
        integer(serial),
        tlv(0x30, integer(serial)),
        tlv(0x30, integer(serial) + b"\x05\x00"),
        b"\x30" + integer(serial),
    ]
    for value in near:
        assert standing(crl(ISSUING, [Entry(5, extra=[Raw("1.2.3.4", value)])])).revocation is None
        both = [Entry(5, extra=[Raw("1.2.3.4", value)]), Entry(serial, NOW - DAY, reason=4), 6]
        assert standing(crl(ISSUING, both)).revocation == Revocation(NOW - DAY, x509.ReasonFlags.superseded)


@pytest.mark.parametrize("size", [0, 90, 200, 70_000])
@pytest.mark.parametrize("version", [1, 2])
def test_an_entry_is_read_alone_however_long_it_is(size: int, version: int) -> None:
    entry = Entry(LEAF.certificate.serial_number, NOW - DAY, reason=1, extra=[Raw("1.2.3.4", tlv(0x04, bytes(size)))])
    found = standing(crl(ISSUING, [7, entry, 8], version=version)).revocation
    assert found == Revocation(NOW - DAY, x509.ReasonFlags.key_compromise)


LONG = b"".join(Entry(serial).der for serial in range(1_000_000, 1_012_000))
ODD = Entry(5, extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]).der


def test_a_long_list_is_read_in_parts_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def load(data: bytes) -> x509.CertificateRevocationList:
        sizes.append(len(data))
        return really(data)

    really = x509.load_der_x509_crl
    der = crl(ISSUING, raw_entries=LONG + Entry(LEAF.certificate.serial_number, NOW - DAY).der)
    monkeypatch.setattr(x509, "load_der_x509_crl", load)
    found = Crl(der)
    assert found.standing(asked(LEAF), NOW).revocation == Revocation(NOW - DAY, None)
    assert len(sizes) > 3
    assert max(sizes) < 70_000
    assert sum(sizes) > len(der) > 3 * 65536
    for serial in (1_000_000, 1_004_321, 1_011_999):
        assert found.standing(asked(ISSUING.leaf(serial=serial, extra=names(crl=URL))), NOW).revocation is not None


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (LONG + tlv(0x30, integer(3) + b"\x04\x00") + LONG, "it cannot be read"),
        (LONG + tlv(0x30, tlv(0x02, b"\0\x05") + time_of(NOW)), "it cannot be read"),
        (LONG + b"\x30", "it cannot be read"),
        (LONG + b"\x30\x20\x02\x01\x05", "it cannot be read"),
        (LONG + tlv(0x30, b"")[:1] + b"\x81\x00", "it cannot be read"),
        (LONG + ODD + LONG, "an entry has a critical extension"),
    ],
)
def test_what_is_wrong_far_behind_in_a_long_list_is_found(entries: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        standing(crl(ISSUING, raw_entries=entries))


def test_a_list_with_much_beside_its_entries_is_not_read() -> None:
    large = Raw("1.2.3.4", tlv(0x04, bytes(70_000)))
    for entries in ([], [5]):
        with pytest.raises(Unusable, match="more than 65536 bytes beside its entries"):
            standing(crl(ISSUING, entries, extra=[large]))


@pytest.mark.parametrize("entries", [[], [LEAF]])
def test_a_length_is_written_in_one_way(entries: list[Issued]) -> None:
    der = crl(ISSUING, entries)
    assert der[1] & 0x80
    for written in (b"\x30" + bytes([der[1] + 1, 0]) + der[2:], b"\x31" + der[1:]):
        with pytest.raises(Unusable, match="it is no DER"):
            standing(written)


def test_a_list_says_once_what_is_revoked() -> None:
    more = tlv(0x30, Entry(LEAF.certificate.serial_number).der)
    der = crl(ISSUING, [5], next_update=None)
    outer = Crl(der)._fields
    assert outer.listed is not None
    signed = der[outer.signed.body : outer.listed.end] + more + der[outer.listed.end : outer.signed.end]
    with pytest.raises(Unusable, match="it cannot be read"):
        standing(tlv(0x30, tlv(0x30, signed) + der[outer.signed.end :]))


def test_what_a_list_says_of_a_certificate_is_looked_up_once() -> None:
    class Counting(bytes):
        looks = 0

        def find(self, *args: Any) -> int:
            Counting.looks += 1
            return super().find(*args)

    found, good = Crl(crl(ISSUING, [LEAF])), ISSUING.leaf(extra=names(crl=URL))
    found.encoded = Counting(found.encoded)
    first = [found.standing(asked(about), NOW) for about in (LEAF, good)]
    assert [one.revocation is None for one in first] == [False, True]
    looks = Counting.looks
    assert [found.standing(asked(about), NOW) for about in (LEAF, good)] == first
    assert Counting.looks == looks > 0


LAST_SECOND = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_a_list_that_ends_with_time_itself_counts() -> None:
    found = standing(crl(ISSUING, [LEAF], next_update=LAST_SECOND))
    assert found.revocation is not None
    assert found.until == LAST_SECOND


@pytest.mark.parametrize(("next_update", "why"), [(LAST_SECOND, "valid only from"), (None, "cannot be read")])
def test_a_list_that_begins_with_the_end_of_time_does_not(next_update: dt.datetime | None, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        standing(crl(ISSUING, this_update=LAST_SECOND, next_update=next_update))


def test_a_date_that_there_never_was_revokes_all_the_same() -> None:
    entry = integer(LEAF.certificate.serial_number) + b"\x18\x0f00000101000000Z"
    assert standing(crl(ISSUING, raw_entries=tlv(0x30, entry))).revocation == Revocation(NOW - HOUR, None)


REFUSED = {
    "another issuer's name": (crl(ISSUING, issuer_name=ROOT.subject), "it is another issuer's"),
    "another CA's list": (crl(ROOT), "it is another issuer's"),
    "the name, and another key": (crl(ISSUING, sign_with=new_key()), "does not verify its signature"),
    "SHA-1": (crl(ISSUING, named="sha1"), "signed with SHA1; SHA-256 or better is needed"),
    "another algorithm inside": (crl(ISSUING, inner="sha512"), "it cannot be read: Inner and outer"),
    "past its nextUpdate": (crl(ISSUING, next_update=NOW - 6 * MINUTE), "it was to be replaced by"),
    "not yet": (crl(ISSUING, this_update=NOW + 6 * MINUTE), "it is valid only from"),
    "no nextUpdate, two days old": (
        crl(ISSUING, this_update=NOW - 2 * DAY, next_update=None), "it was to be replaced by"),
    "a delta": (crl(ISSUING, extra=[Raw(DELTA, integer(1), critical=True)]), "it is a delta CRL"),
    "a delta that does not say that it is critical": (
        crl(ISSUING, extra=[Raw(DELTA, integer(1))]), "it is a delta CRL"),
    "indirect": (crl(ISSUING, extra=[scope(URL, indirect=True)]), "it is an indirect CRL"),
    "some reasons": (crl(ISSUING, extra=[scope(URL, some_reasons=True)]), "for some reasons of revocation only"),
    "attribute certificates": (crl(ISSUING, extra=[scope(attributes=True)]), "it is for attribute certificates"),
    "CAs only": (crl(ISSUING, extra=[scope(cas=True)]), "it is for certificates of CAs"),
    "another distribution point": (
        crl(ISSUING, extra=[scope("http://crl.example/other.crl")]), "it is for another distribution point"),
    "a critical extension": (
        crl(ISSUING, extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)]), "that is not understood here (1.2.3.4)"),
    "a critical extension of an entry": (
        crl(ISSUING, [Entry(5, extra=[Raw("1.2.3.4", b"\x05\x00", critical=True)])]),
        "an entry has a critical extension that is not understood here (1.2.3.4)"),
    "an entry of another issuer": (
        crl(ISSUING, [Entry(5, extra=[Raw(ISSUER, x509.CertificateIssuer([uri("x:y")]).public_bytes(), True)])]),
        "an entry has a critical extension that is not understood here (2.5.29.29)"),
    "nothing": (b"", "it cannot be read"),
    "no DER": (b"<html>not found</html>", "it cannot be read"),
    "a certificate": (LEAF.raw, "it cannot be read"),
    "cut off": (crl(ISSUING, [1, 2, 3])[:-20], "it cannot be read"),
    "something behind it": (crl(ISSUING) + b"\0", "it cannot be read"),
    "a damaged entry": (crl(ISSUING, raw_entries=tlv(0x30, integer(3) + b"\x04\x00")), "it cannot be read"),
    "a serial number written longer than it is": (
        crl(ISSUING, raw_entries=tlv(0x30, tlv(0x02, b"\0\x05") + time_of(NOW))), "it cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_list_does_not_count_that_is(case: str) -> None:
    der, why = REFUSED[case]
    with pytest.raises(Unusable) as refused:
        standing(der)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "der",
    [
        crl(ISSUING, [LEAF], this_update=NOW + 4 * MINUTE),
        crl(ISSUING, [LEAF], next_update=NOW - 4 * MINUTE),
        crl(ISSUING, [LEAF], next_update=None, this_update=NOW - 23 * HOUR),
        crl(ISSUING, [LEAF], extra=[scope(URL)]),
        crl(ISSUING, [LEAF], extra=[scope(URL, users=True)]),
        crl(ISSUING, [LEAF], extra=[scope(users=True)]),
        crl(ISSUING, [LEAF], extra=[Raw("1.2.3.4", b"\x05\x00")]),
        crl(ISSUING, [Entry(5, extra=[Raw("2.5.29.24", b"\x18\x0f20260101000000Z", critical=True)]), LEAF]),
        crl(ISSUING, [LEAF], version=1),
    ],
    ids=["a clock before", "a clock behind", "no nextUpdate", "its point", "its point for servers", "for servers",
         "an extension", "an entry with a date", "version 1"],
)  # fmt: skip
def test_a_list_counts_with(der: bytes) -> None:
    assert standing(der).revocation is not None


def test_a_list_for_servers_says_nothing_of_a_ca_and_one_for_cas_does() -> None:
    with pytest.raises(Unusable, match="no CA's"):
        standing(crl(ISSUING, extra=[scope(URL, users=True)]), BELOW)
    assert standing(crl(ISSUING, [BELOW], extra=[scope(URL, cas=True)]), BELOW).revocation is not None


def test_a_list_for_a_point_does_not_count_for_who_names_none() -> None:
    with pytest.raises(Unusable, match="another distribution point"):
        standing(crl(ISSUING, extra=[scope(URL)]), ISSUING.leaf())


def test_an_issuer_that_may_not_sign_lists_does_not_and_one_that_leaves_it_open_does() -> None:
    barred, free = ROOT.intermediate("Barred", key_usage=["key_cert_sign"]), ROOT.intermediate("Free", key_usage=None)
    with pytest.raises(Unusable, match="may not sign CRLs"):
        standing(crl(barred), barred.leaf())
    assert standing(crl(free), free.leaf()).revocation is None


@pytest.mark.parametrize("kind", ["rsa2048", "ec256", "ec384", "ed25519"])
def test_every_kind_of_key_can_sign_a_list(kind: str) -> None:
    issuer = ROOT.intermediate(f"Key {kind}", key=kept_key(kind))
    leaf = issuer.leaf()
    assert standing(crl(issuer, [leaf]), leaf).revocation is not None
    with pytest.raises(Unusable, match="does not verify"):
        standing(crl(issuer, [leaf], sign_with=new_key() if kind != "rsa2048" else kept_key("rsa2048", 1)), leaf)


def test_names_are_compared_as_names_and_not_as_octets() -> None:
    other = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "crl  ISSUING")])
    assert standing(crl(ISSUING, [LEAF], issuer_name=other)).revocation is not None


def test_a_list_of_openssl_counts(tmp_path: Path) -> None:
    need("openssl")
    certificate, key = ISSUING.write(tmp_path, "ca")
    leaf, _ = LEAF.write(tmp_path, "leaf")
    (tmp_path / "index.txt").touch()
    (tmp_path / "number").write_text("01\n")
    (tmp_path / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=it\n[it]\ndatabase={tmp_path}/index.txt\ncrlnumber={tmp_path}/number\n"
        "default_md=sha256\ndefault_crl_days=3\n"
    )

    def openssl(*args: str) -> None:
        subprocess.run(
            ["openssl", "ca", "-config", "ca.cnf", "-cert", str(certificate), "-keyfile", str(key), *args],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    openssl("-gencrl", "-out", "empty.pem")
    openssl("-revoke", str(leaf), "-crl_reason", "keyCompromise")
    openssl("-gencrl", "-out", "listed.pem")
    moment = NOW + HOUR  # openssl has the clock of now, which may be later than NOW by more than the slack
    for name, expected in (("empty", False), ("listed", True)):
        (der,) = crls_of_file((tmp_path / f"{name}.pem").read_bytes())
        assert (Crl(der).standing(asked(LEAF), moment).revocation is not None) is expected


def test_a_file_holds_one_list_in_der_or_any_number_in_pem() -> None:
    one, two = crl(ISSUING), crl(ROOT)
    assert crls_of_file(one) == [one]
    assert crls_of_file(b"# ours\n" + crl_pem(one) + b"\ntext between\n" + crl_pem(two)) == [one, two]


def test_a_list_in_pem_is_the_same_however_its_lines_are_broken() -> None:
    long = crl(ISSUING, range(1, 8000))
    pem = crl_pem(long)
    assert len(pem) > 3 * 65536
    inside = pem.split(b"-----")[2]
    for text in (pem, pem.replace(b"\n", b"\r\n"), pem.replace(inside, inside.replace(b"\n", b"")),
                 pem.replace(inside, b" \t".join(inside[at : at + 7] for at in range(0, len(inside), 7)))):  # fmt: skip
        assert crls_of_file(text) == [long]


def test_of_one_list_alone_there_may_be_no_second() -> None:
    one = crl_pem(crl(ISSUING))
    assert crls_of_file(one, most=1) == crls_of_file(one)
    with pytest.raises(Unusable, match="more CRLs in it than 1"):
        crls_of_file(one + one, most=1)


def test_a_file_takes_no_longer_to_refuse_than_to_read_whatever_is_in_it() -> None:
    begin, end = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
    for data in (begin * 400_000, begin + b"A" * (8 << 20), end * 400_000, begin + b"A " * (4 << 20) + begin):
        with pytest.raises(Unusable):
            crls_of_file(data)


@pytest.mark.parametrize("data", [crl_pem(crl(ROOT))[:-30], crl_pem(crl(ISSUING)) + b"-----BEGIN X509 CRL-----\nMI"])
def test_a_list_without_its_end_says_that_it_is_cut_off(data: bytes) -> None:
    with pytest.raises(Unusable, match=r"it is cut off: CRL \d in it has no END X509 CRL"):
        crls_of_file(data)


@pytest.mark.parametrize("data", [b"", b"hello", ISSUING.pem()])
def test_a_file_without_a_list_says_what_was_expected(data: bytes) -> None:
    with pytest.raises(Unusable, match="there is no CRL in it; expected DER, or PEM with BEGIN X509 CRL"):
        crls_of_file(data)


def test_a_file_whose_list_is_broken_says_so() -> None:
    with pytest.raises(Unusable, match="it cannot be read"):
        crls_of_file(crl_pem(crl(ROOT)).replace(b"M", b"*"))


def test_what_is_revoked_is_a_defect_that_says_when_why_and_by_what() -> None:
    from certs.revocation import revoked

    subject = asked(LEAF)
    found = standing(crl(ISSUING, [Entry(LEAF.certificate.serial_number, NOW, reason=4)]))
    assert found.revocation is not None
    finding = revoked(subject, found, found.revocation, f"CRL {URL}")
    assert (finding.defect, finding.certificate, finding.clause) == (Defect.REVOKED, 0, "RFC 5280 6.3.3")
    assert finding.explanation == (
        f"the server's certificate was revoked on {NOW:%Y-%m-%d %H:%M:%S} UTC: another one has taken its place "
        f"(CRL {URL})"
    )
    assert finding.remedy

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID
from hypothesis import example, given
from hypothesis import strategies as st

from certs.names import Host, InvalidHost, host_in_certificate, matches, parse_authority, parse_host

KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com.", "example.com"),
        ("localhost", "localhost"),
        ("Bücher.example.", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),  # non-transitional: not fass.de
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # the ideographic full stop separates labels
        ("\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com", "example.com"),
        ("💩.la", "xn--ls8h.la"),  # not IDNA2008, but it exists
        ("xn--ls8h.la", "xn--ls8h.la"),
        ("a_b.example", "a_b.example"),
        ("_dmarc.example", "_dmarc.example"),
        ("-a-.example", "-a-.example"),
        ("r3---sn-abc.example.com", "r3---sn-abc.example.com"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("a." * 126 + "a", "a." * 126 + "a"),
        ("x" * 63 + ".example", "x" * 63 + ".example"),
    ],
)
def test_a_name_becomes_lower_case_a_labels_without_trailing_dot(text: str, expected: str) -> None:
    assert parse_host(text) == Host(expected, is_ip=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1.", "192.0.2.1"),
        (
            "\uff11\uff19\uff12.0.2.1",
            "192.0.2.1",
        ),  # full-width digits are mapped first, so that no resolver is the first to do it
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
    ],
)
def test_an_address_becomes_its_canonical_text(text: str, expected: str) -> None:
    assert parse_host(text) == Host(expected, is_ip=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (".", "empty label"),
        ("a..b", "empty label"),
        (".a", "empty label"),
        ("a..", "empty label"),
        ("*.example.com", "pattern"),
        ("a b.example", "character ' '"),
        ("a\0.example", "character '\\x00'"),
        ("a\n.example", "character '\\n'"),
        ("example.com\n", "character '\\n'"),
        ("a%2e.example", "character '%'"),
        ("user@example.com", "character '@'"),
        ("example.com/path", "character '/'"),
        ("x" * 64 + ".example", "longer than 63"),
        ("ü" * 63 + ".example", "longer than 63"),
        ("a." * 127 + "a", "255 characters"),
        ("a" * 2000, "2000 characters"),
        ("1.2.3", "no IPv4 address"),
        ("256.1.1.1", "no IPv4 address"),
        ("127.0.0.01", "no IPv4 address"),
        ("2130706433", "no IPv4 address"),
        ("0x7f000001", "no IPv4 address"),
        ("0x7f.1", "no IPv4 address"),
        ("example.0x", "no IPv4 address"),
        ("[::1", "without a closing one"),
        ("[::1]x", "without a closing one"),
        ("[192.0.2.1]", "no IPv6 address"),
        ("[v1.fe80::]", "no IPv6 address"),
        ("fe80::1%eth0", "zone"),
        ("example.com:443", "no IPv6 address"),
        ("xn--zzzzzz99.example", "stands for none"),
        ("xn--abc-.example", "stands for none"),  # decodes to ASCII
        ("xn--.example", "stands for none"),
        ("xn--xn---epa.example", "stands for none"),  # a label that would start with xn-- twice
        ("\u0301a.example", "stands for none"),  # a mark with nothing to stand on (RFC 5891 4.2.3.2)
        ("a\ufffe.example", "no host name can have"),
    ],
)
def test_what_is_no_host_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(InvalidHost) as caught:
        parse_host(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


hosts = st.one_of(
    st.text(max_size=40),
    st.text("aAäß0123.:[]%*-_xn💩。\u200d\u0301", max_size=30),
    st.builds("xn--{}".format, st.text("abcdefghij0123456789-", max_size=20)),
    st.ip_addresses().map(str),
    st.lists(st.text("abcdefxyzABC019-_äöü", min_size=1, max_size=20), min_size=1, max_size=5).map(".".join),
)


@given(hosts)
@example("xn--\u0301")
@example("\u0301a.example")
@example("xn--xn---epa")
@example("\uff11.\uff12")
def test_parsing_ends_with_a_host_or_invalid_host_and_a_host_stays_what_it_is(text: str) -> None:
    try:
        host = parse_host(text)
    except InvalidHost:
        return
    assert parse_host(host.text) == host
    assert parse_host(str(host).upper()) == host
    assert host.text.isascii()
    assert len(host.text) <= 253
    host.san()


@given(st.one_of(st.text(max_size=40), st.builds("{}:{}".format, hosts, st.one_of(st.integers(), st.text(max_size=6)))))
def test_parsing_an_authority_ends_with_host_and_port_or_invalid_host(text: str) -> None:
    try:
        host, port = parse_authority(text)
    except InvalidHost:
        return
    assert 1 <= port <= 65535
    again = f"[{host}]:{port}" if ":" in host.text else f"{host}:{port}"
    assert parse_authority(again) == (host, port)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com:443", ("example.com", 443)),
        ("EXAMPLE.com.:8443", ("example.com", 8443)),
        ("bücher.example:1", ("xn--bcher-kva.example", 1)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_an_authority_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    host, port = parse_authority(text)
    assert (host.text, port) == expected


@pytest.mark.parametrize("text", ["example.com", "example.com:", "[::1]", "[::1]:"])
def test_a_missing_port_is_refused_unless_there_is_a_default(text: str) -> None:
    with pytest.raises(InvalidHost, match="has no port"):
        parse_authority(text)
    assert parse_authority(text, 8443)[1] == 8443


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no port"),
        (":443", "empty"),
        ("example.com:0", "1 to 65535"),
        ("example.com:65536", "1 to 65535"),
        ("example.com:-1", "1 to 65535"),
        ("example.com:+1", "1 to 65535"),
        ("example.com:4 3", "1 to 65535"),
        ("example.com:٤٤٣", "1 to 65535"),
        ("example.com:000443", "1 to 65535"),
        ("user@example.com:443", "user information"),
        ("https://example.com:443", "path or a scheme"),
        ("example.com:443/x", "path or a scheme"),
        ("::1:443", "more than one colon"),
        ("[::1", "[address]:port"),
        ("[::1]443", "[address]:port"),
        ("x" * 2000 + ":443", "2004 characters"),
    ],
)
def test_what_is_no_authority_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(InvalidHost) as caught:
        parse_authority(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("example.com", "example.com", True),
        ("EXAMPLE.com.", "example.com", True),
        ("example.com", "www.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.EXAMPLE.com.", "www.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "xn--bcher-kva.example.com", True),
        ("*.bücher.example", "www.xn--bcher-kva.example", True),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("*.com", "example.com", False),
        ("*.localhost", "a.localhost", False),
        ("*", "localhost", False),
        ("*.", "localhost", False),
        ("w*.example.com", "www.example.com", False),
        ("*w.example.com", "www.example.com", False),
        ("xn--*.example.com", "xn--bcher-kva.example.com", False),
        ("www.*.com", "www.example.com", False),
        ("*.*.com", "www.example.com", False),
        ("**.example.com", "www.example.com", False),
        ("", "example.com", False),
        (".example.com", "www.example.com", False),
        ("example.com\0", "example.com", False),
        ("example.com..", "example.com", False),
        ("*.\ufffe.com", "www.example.com", False),
        ("192.0.2.1", "192.0.2.1", False),
        ("*.0.2.1", "192.0.2.1", False),
        ("::1", "::1", False),
    ],
)
def test_a_pattern_is_the_name_or_a_star_for_its_first_label(pattern: str, host: str, expected: bool) -> None:
    assert matches(pattern, parse_host(host)) is expected


def certificate(*sans: x509.GeneralName, common_name: str = "x", raw: bytes | None = None) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder(name, name, KEY.public_key(), 1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if raw is not None:
        unparsed = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw)
        builder = builder.add_extension(unparsed, critical=False)
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", True),
        ("a.example.net", True),
        ("example.net", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("::1", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("198.51.100.7", False),  # a dNSName that looks like it
    ],
)
def test_only_alternative_names_of_the_right_kind_count(host: str, expected: bool) -> None:
    made = certificate(
        x509.DNSName("example.com"),
        x509.DNSName("*.example.net"),
        x509.DNSName("198.51.100.7"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.RFC822Name("a@example.org"),
    )
    assert host_in_certificate(parse_host(host), made) is expected


def test_the_common_name_never_counts() -> None:
    host = parse_host("example.com")
    assert not host_in_certificate(host, certificate(common_name="example.com"))
    assert not host_in_certificate(host, certificate(x509.DNSName("other.example"), common_name="example.com"))


def test_alternative_names_that_cannot_be_parsed_cover_nothing() -> None:
    assert not host_in_certificate(parse_host("example.com"), certificate(raw=b"\x30\x82example.com"))


def test_a_name_beyond_ascii_in_a_certificate_covers_nothing() -> None:
    raw = "bücher.example".encode()
    names = b"\x82" + bytes([len(raw)]) + raw
    made = certificate(raw=b"\x30" + bytes([len(names)]) + names)
    assert not host_in_certificate(parse_host("bücher.example"), made)

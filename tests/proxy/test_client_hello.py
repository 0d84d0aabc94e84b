from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.client_hello import BadClientHello, ClientHello, HelloReader, NotTls, alert_record, parse

LIMIT = 64 * 1024


def with_ssl(name: str | None, alpn: list[str] | None = None, **limits: ssl.TLSVersion) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for attribute, value in limits.items():
        setattr(context, attribute, value)
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def with_pyopenssl(
    name: bytes | None, alpn: list[bytes] | None = None, options: int = 0, ciphers: bytes = b""
) -> bytes:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_options(options)
    if ciphers:
        context.set_cipher_list(ciphers)
    if alpn:
        context.set_alpn_protos(alpn)
    connection = SSL.Connection(context, None)
    if name is not None:
        connection.set_tlsext_host_name(name)
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(2**16)


def with_openssl_command(*arguments: str) -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        got: list[bytes] = []

        def take() -> None:
            peer, _ = listener.accept()
            with peer:
                got.append(peer.recv(2**16))

        thread = threading.Thread(target=take)
        thread.start()
        subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
        thread.join(20)
    return got[0]


def records(message: bytes, size: int) -> bytes:
    return b"".join(
        b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece
        for piece in (message[at : at + size] for at in range(0, len(message), size))
    )


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


def name_extension(name: bytes, kind: int = 0) -> bytes:
    return extension(0, struct.pack(">HBH", len(name) + 3, kind, len(name)) + name)


TLS13 = extension(43, b"\x02\x03\x04")


def hello(
    extensions: bytes | None = TLS13,
    version: int = 0x0303,
    suites: bytes = b"\x13\x01\xc0\x2b",
    session: bytes = b"",
    compression: bytes = b"\x01\x00",
) -> bytes:
    """A handshake message by hand."""
    body = struct.pack(">H", version) + bytes(32) + bytes([len(session)]) + session
    body += struct.pack(">H", len(suites)) + suites + compression
    if extensions is not None:
        body += struct.pack(">H", len(extensions)) + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def alert_of(buffer: bytes, limit: int = LIMIT) -> int:
    with pytest.raises(BadClientHello) as caught:
        parse(buffer, limit)
    assert "\n" not in str(caught.value)
    return caught.value.alert


REAL = {
    "ssl, both versions": with_ssl("www.example.com", ["h2", "http/1.1"]),
    "pyOpenSSL, post-quantum share": with_pyopenssl(b"www.example.com", [b"h2", b"http/1.1"]),
}


@pytest.mark.parametrize("buffer", REAL.values(), ids=REAL)
def test_a_usual_hello_is_read_whole(buffer: bytes) -> None:
    assert parse(buffer, LIMIT) == ClientHello(
        server_name="www.example.com",
        alpn=(b"h2", b"http/1.1"),
        offers_tls13=True,
        offers_tls12=True,
        ecdsa=True,
    )


def test_the_post_quantum_hello_is_as_large_as_those_of_browsers() -> None:
    assert len(REAL["pyOpenSSL, post-quantum share"]) > 1400


def test_a_client_of_tls12_only() -> None:
    got = parse(with_ssl("a.example", maximum_version=ssl.TLSVersion.TLSv1_2), LIMIT)
    assert got == ClientHello("a.example", (), offers_tls13=False, offers_tls12=True, ecdsa=True)


def test_a_client_of_tls13_only() -> None:
    got = parse(with_ssl("a.example", minimum_version=ssl.TLSVersion.TLSv1_3), LIMIT)
    assert got == ClientHello("a.example", (), offers_tls13=True, offers_tls12=False, ecdsa=True)


def test_a_tls12_client_without_ecdsa_suites_cannot_have_an_ecdsa_leaf() -> None:
    got = parse(with_pyopenssl(b"a.example", options=SSL.OP_NO_TLSv1_3, ciphers=b"ECDHE-RSA-AES128-GCM-SHA256"), LIMIT)
    assert got is not None
    assert (got.ecdsa, got.offers_tls12, got.offers_tls13) == (False, True, False)


def test_a_client_that_names_no_server() -> None:
    got = parse(with_ssl(None), LIMIT)
    assert got is not None
    assert got.server_name is None
    assert got.alpn == ()


def test_an_ip_literal_is_no_server_name() -> None:
    got = parse(with_ssl("192.0.2.1"), LIMIT)
    assert got is not None
    assert got.server_name is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-servername", "b.example", "-alpn", "h2"], ClientHello("b.example", (b"h2",), True, True, True)),
        (["-noservername", "-tls1_2"], ClientHello(None, (), False, True, True)),
        (["-servername", "b.example", "-tls1_3"], ClientHello("b.example", (), True, False, True)),
        (
            ["-servername", "b.example", "-sigalgs", "rsa_pss_rsae_sha256"],
            ClientHello("b.example", (), True, True, False),
        ),
    ],
)
def test_the_hello_of_the_openssl_command(arguments: list[str], expected: ClientHello) -> None:
    assert parse(with_openssl_command(*arguments), LIMIT) == expected


def test_none_is_said_at_every_length_before_the_end() -> None:
    buffer = REAL["ssl, both versions"]
    for size in range(len(buffer)):
        assert parse(buffer[:size], LIMIT) is None
    assert parse(buffer, LIMIT) is not None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("buffer", REAL.values(), ids=REAL)
def test_a_hello_in_small_records_is_joined(buffer: bytes, size: int) -> None:
    assert parse(records(buffer[5:], size), LIMIT) == parse(buffer, LIMIT)


def test_a_reader_carries_on_where_it_stopped() -> None:
    whole = records(REAL["ssl, both versions"][5:], 1)
    reader = HelloReader(LIMIT)
    buffer = bytearray()
    for byte in whole[:-1]:
        buffer.append(byte)
        assert reader.read(buffer) is None
    buffer.append(whole[-1])
    assert reader.read(buffer) == parse(REAL["ssl, both versions"], LIMIT)


def test_records_behind_the_hello_are_not_looked_at() -> None:
    buffer = REAL["ssl, both versions"]
    early = buffer + b"\x14\x03\x03\x00\x01\x01" + b"\x17\x03\x03\xff\xff" + bytes(1000)
    assert parse(early, len(buffer)) == parse(buffer, LIMIT)


def test_bytes_behind_the_hello_in_its_record_are_refused() -> None:
    message = hello()
    assert alert_of(b"\x16\x03\x01" + struct.pack(">H", len(message) + 1) + message + b"\x01") == 10


def test_a_hello_of_16_megabytes_is_refused_at_its_first_record() -> None:
    announced = b"\x01\xff\xff\xff"
    assert alert_of(b"\x16\x03\x01\x40\x00" + announced) == 50
    assert parse(b"\x16\x03\x01\x40\x00" + announced[:3], LIMIT) is None


def test_the_limit_counts_every_byte() -> None:
    message = hello()
    buffer = records(message, 1)
    assert parse(buffer, len(buffer)) is not None
    assert alert_of(buffer, len(buffer) - 1) == 50
    assert alert_of(buffer[:-6], len(buffer) - 6) == 50


@pytest.mark.parametrize(
    "buffer", [b"\x80", b"\x80\x2e\x01\x00\x02", b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\x16\x02", b"\x15\x03"]
)
def test_what_is_not_tls_is_said_to_be_so(buffer: bytes) -> None:
    with pytest.raises(NotTls):
        parse(buffer, LIMIT)


def test_a_first_byte_is_enough_to_know_what_is_not_tls() -> None:
    assert parse(b"", LIMIT) is None
    assert parse(b"\x16", LIMIT) is None
    with pytest.raises(NotTls):
        parse(b"G", LIMIT)


@pytest.mark.parametrize(
    ("buffer", "alert"),
    [
        pytest.param(b"\x16\x03\x01\x00\x00", 10, id="an empty record"),
        pytest.param(b"\x16\x03\x01\x40\x01", 22, id="a record that is too long"),
        pytest.param(b"\x16\x03\x01\x00\x01\x02", 10, id="another handshake message"),
        pytest.param(records(hello(), 20)[:25] + b"\x15\x03\x01\x00\x02\x01\x00", 10, id="an alert in the middle"),
        pytest.param(records(hello(), 20)[:25] + b"\x16\x02\x01\x00\x02\x01\x00", 70, id="another version within"),
        pytest.param(records(b"\x01\x00\x00\x00", 4), 50, id="an empty hello"),
        pytest.param(records(b"\x01\x00\x00\x22" + bytes(34), 38), 50, id="no session id"),
        pytest.param(records(hello(session=bytes(33)), 999), 50, id="a session id of 33 bytes"),
        pytest.param(records(hello(suites=b""), 999), 50, id="no cipher suites"),
        pytest.param(records(hello(suites=b"\x13\x01\xc0"), 999), 50, id="an odd cipher suite list"),
        pytest.param(records(hello(compression=b"\x00"), 999), 47, id="no compression method"),
        pytest.param(records(hello(compression=b"\x01\x01"), 999), 47, id="just deflate"),
        pytest.param(records(hello(TLS13)[:-1], 999), None, id="cut"),
        pytest.param(records(hello(b"\x00"), 999), 50, id="half an extension"),
        pytest.param(records(hello(TLS13 + b"\x00\x05\x00\x02\x00"), 999), 50, id="an extension that is too long"),
        pytest.param(records(hello(TLS13 + TLS13), 999), 47, id="an extension twice"),
        pytest.param(
            records(hello(TLS13 + extension(0x4A4A, b"") + extension(0x4A4A, b"")), 999), 47, id="an unknown one twice"
        ),
        pytest.param(records(hello(extension(43, b"\x02\x03\x03\x04")), 999), 50, id="supported_versions too long"),
        pytest.param(records(hello(extension(43, b"\x03\x03\x03\x04")), 999), 50, id="supported_versions odd"),
        pytest.param(records(hello(extension(43, b"")), 999), 50, id="supported_versions empty"),
        pytest.param(records(hello(extension(43, b"\x02\x03\x02")), 999), 70, id="just TLS 1.1"),
        pytest.param(records(hello(None, version=0x0301), 999), 70, id="just TLS 1.0, the old way"),
        pytest.param(records(hello(None, version=0x0400), 999), 70, id="an unheard-of version"),
        pytest.param(records(hello(TLS13 + extension(13, b"\x00\x03\x04\x03\x08")), 999), 50, id="odd algorithms"),
        pytest.param(records(hello(TLS13 + extension(13, b"")), 999), 50, id="no algorithms"),
        pytest.param(records(hello(TLS13 + extension(16, b"\x00\x00")), 999), 50, id="no protocols"),
        pytest.param(records(hello(TLS13 + extension(16, b"\x00\x01\x00")), 999), 50, id="an empty protocol"),
        pytest.param(records(hello(TLS13 + extension(16, b"\x00\x03\x05h2")), 999), 50, id="a protocol too long"),
        pytest.param(records(hello(TLS13 + extension(0, b"")), 999), 50, id="an empty server_name"),
        pytest.param(records(hello(TLS13 + name_extension(b"")), 999), 50, id="an empty name"),
        pytest.param(records(hello(TLS13 + name_extension(b"a", kind=1)), 999), 50, id="a name of another type"),
        pytest.param(
            records(hello(TLS13 + extension(0, b"\x00\x08\x00\x00\x01a\x00\x00\x01b")), 999), 50, id="two names"
        ),
        pytest.param(records(hello(TLS13 + name_extension(b"a\x00b")), 999), 47, id="NUL in the name"),
        pytest.param(records(hello(TLS13 + name_extension("bücher".encode())), 999), 47, id="UTF-8 in the name"),
        pytest.param(records(hello(TLS13 + name_extension(b"a b")), 999), 47, id="a blank in the name"),
        pytest.param(records(hello(TLS13 + name_extension(b"a" * 256)), 999), 47, id="a name of 256 characters"),
    ],
)
def test_a_bad_hello_is_refused_with_its_alert(buffer: bytes, alert: int | None) -> None:
    if alert is None:
        assert parse(buffer, LIMIT) is None
    else:
        assert alert_of(buffer) == alert


def test_a_hello_by_hand_is_read_where_nothing_is_wrong() -> None:
    extensions = (
        extension(0x0A0A, b"") + TLS13 + name_extension(b"a" * 255) + extension(16, b"\x00\x06\x02h2\x02\x0a\x0a")
    )
    assert parse(records(hello(extensions, session=bytes(32)), 999), LIMIT) == ClientHello(
        "a" * 255, (b"h2", b"\x0a\x0a"), offers_tls13=True, offers_tls12=False, ecdsa=False
    )


def test_tls12_without_extensions_is_read() -> None:
    assert parse(records(hello(None), 999), LIMIT) == ClientHello(None, (), False, True, False)


def test_an_alert_record_is_fatal_and_complete() -> None:
    assert alert_record(70) == b"\x15\x03\x03\x00\x02\x02\x46"


def outcome(buffer: bytes) -> object:
    try:
        return parse(buffer, LIMIT)
    except (NotTls, BadClientHello) as error:
        return type(error)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_hello_or_a_documented_error(data: bytes) -> None:
    outcome(data)
    outcome(records(b"\x01" + len(data).to_bytes(3, "big") + data, 2000) if data else b"")


@given(st.data())
@settings(max_examples=300)
def test_a_real_hello_with_changed_bytes_gives_a_documented_error(data: st.DataObject) -> None:
    buffer = bytearray(REAL["ssl, both versions"])
    for _ in range(data.draw(st.integers(1, 4))):
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    outcome(bytes(buffer))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_any_records_and_any_pieces_give_the_same_hello(cuts: list[int], pieces: list[int]) -> None:
    message = REAL["ssl, both versions"][5:]
    framed = bytearray()
    at = turn = 0
    while at < len(message):
        piece = message[at : at + cuts[turn % len(cuts)]]
        framed += b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece
        at += len(piece)
        turn += 1
    reader = HelloReader(LIMIT)
    buffer = bytearray()
    got = None
    at = turn = 0
    while at < len(framed):
        assert got is None
        size = pieces[turn % len(pieces)]
        buffer += framed[at : at + size]
        at += size
        turn += 1
        got = reader.read(buffer)
    assert got == parse(REAL["ssl, both versions"], LIMIT)

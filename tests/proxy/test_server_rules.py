from __future__ import annotations

from pathlib import Path

import pytest
from OpenSSL import SSL
from pydantic import ValidationError

from certs.names import parse_host
from config.settings import Tls
from proxy.server_rules import check, server_rules
from tests.harness.pki import Authority

ISSUING = Authority.root("Clients").intermediate("Client Issuing")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    leaf = ISSUING.leaf("client.example")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(ISSUING.pem() + leaf.pem())  # not in order
    key.touch(0o600)
    key.write_bytes(leaf.key_pem())
    return certificate, key


def test_the_closest_pattern_counts_and_for_its_tenants_alone() -> None:
    tls = Tls.model_validate(
        {
            "server_minimum": 1.3,
            "servers": [
                {"hosts": ["*.old.example"], "minimum": "1.0"},
                {"hosts": ["less.old.example"], "minimum": "1.2", "client_certificate": "block"},
                {"hosts": ["old.example"], "minimum": "1.1", "tenants": ["acme"]},
            ],
        }
    )
    mine, acme = server_rules(tls, "default"), server_rules(tls, "acme")
    for host, minimum, asked in (
        ("new.example", SSL.TLS1_3_VERSION, "none"),
        ("a.old.example", SSL.TLS1_VERSION, "none"),
        ("less.old.example", SSL.TLS1_2_VERSION, "block"),
        ("old.example", SSL.TLS1_3_VERSION, "none"),
    ):
        rule = mine.of(parse_host(host))
        assert (rule.minimum, rule.asked) == (minimum, asked), host
    assert acme.of(parse_host("old.example")).minimum == SSL.TLS1_1_VERSION
    assert mine.of(parse_host("new.example")) is mine.usual


def test_a_client_certificate_is_read_its_own_one_first(files: tuple[Path, Path]) -> None:
    server = {"hosts": ["api.example"], "certificate": str(files[0]), "key": str(files[1])}
    tls = Tls.model_validate({"servers": [server]})
    identity = server_rules(tls, "default").of(parse_host("api.example")).identity
    assert identity is not None
    assert [each.subject.rfc4514_string() for each in identity.certificates] == [
        "CN=client.example", ISSUING.certificate.subject.rfc4514_string(),
    ]  # fmt: skip
    assert "key" not in repr(identity)
    assert check(tls) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda certificate, key: certificate.unlink(), "tls.servers[0].certificate: {certificate}: No such file"),
        (lambda certificate, key: key.unlink(), "tls.servers[0].key: {key}: No such file"),
        (lambda certificate, key: key.chmod(0o644), "tls.servers[0].key: {key}: everybody can use this file"),
        (lambda certificate, key: key.write_bytes(b"no key"), "tls.servers[0].key: {key}: "),
        (lambda certificate, key: certificate.write_bytes(b"none"), "tls.servers[0].certificate: {certificate}: "),
        (
            lambda certificate, key: certificate.write_bytes(ISSUING.pem()),
            "tls.servers[0].certificate: {certificate}: no certificate in it is for the key",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_told_of(files: tuple[Path, Path], spoil: object, message: str) -> None:
    certificate, key = files
    spoil(certificate, key)  # type: ignore[operator]
    tls = Tls.model_validate({"servers": [{"hosts": ["a.example"], "certificate": str(certificate), "key": str(key)}]})
    problem = check(tls)
    assert problem is not None
    assert problem.startswith(message.format(certificate=certificate, key=key))
    assert "\n" not in problem
    with pytest.raises(ValueError, match=r"tls\.servers\[0\]"):
        server_rules(tls, "default")


@pytest.mark.parametrize(
    "server",
    [
        {"hosts": []},
        {"hosts": ["a*.example"]},
        {"hosts": ["a.example"], "certificate": "a.pem"},
        {"hosts": ["a.example"], "key": "a.key"},
        {"hosts": ["a.example"], "minimum": "0.9"},
    ],
)
def test_what_makes_no_sense_is_refused(server: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Tls.model_validate({"servers": [server]})

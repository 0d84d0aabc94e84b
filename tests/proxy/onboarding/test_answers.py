"""What a request to the proxy's own name gets, without any I/O."""

from __future__ import annotations

import plistlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from certs.device_guides import GUIDES
from certs.formats import read_certificates
from proxy.onboarding.answers import Here, answer
from proxy.reply import Reply
from tests.harness.pki import Authority

ROOT = Authority.root("Own Root")
NOW = datetime.now(UTC)  # noqa: TID251 - certificates of the tests begin now
HERE = Here(own="own.example", root=ROOT.raw, now=NOW, mode="explicit", address="192.0.2.7:8080")


def asked(target: str = "/", method: str = "GET", agent: str = "", **differs: Any) -> Reply:
    return answer(method, target, agent, replace(HERE, **differs))


def fields(reply: Reply) -> dict[str, str]:
    assert len({name for name, _ in reply.fields}) == len(reply.fields)
    return dict(reply.fields)


def text(reply: Reply) -> str:
    """What a person reads of a page."""
    body = re.sub(r"<!--.*?-->|<head>.*?</head>", "", reply.body.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<wbr>", "", re.sub(r"<(?!wbr)[^>]*>", " ", body))))


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("root.pem", "application/x-pem-file"),
        ("root.cer", "application/pkix-cert"),
        ("root.crt", "application/x-x509-ca-cert"),
        ("root.p7b", "application/pkcs7-mime"),
    ],
)
def test_the_root_comes_in_each_format(name: str, media_type: str) -> None:
    reply = asked(f"/{name}?ignored=1")
    assert (reply.status, fields(reply)["Content-Type"]) == (200, media_type)
    assert read_certificates(reply.body) == [ROOT.certificate]
    # What a system is to offer to install must not come as an attachment.
    saved = fields(reply).get("Content-Disposition")
    assert saved == (None if name == "root.crt" else f'attachment; filename="sallyport-root{name[4:]}"')


def test_the_profile_for_apple_is_the_same_each_time() -> None:
    reply = asked("/root.mobileconfig")
    assert fields(reply)["Content-Type"] == "application/x-apple-aspen-config"
    assert reply == asked("/root.mobileconfig", agent="another", secure=True)
    (payload,) = plistlib.loads(reply.body)["PayloadContent"]
    assert (payload["PayloadType"], payload["PayloadContent"]) == ("com.apple.security.root", ROOT.raw)


def test_every_answer_says_its_length_and_is_kept_by_nobody() -> None:
    for target in (
        "/",
        "/ios",
        "/style.css",
        "/proxy.pac",
        "/root.pem",
        "/trusted",
        "/trusted.css",
        "/nothing",
        "*",
        "",
    ):
        for secure in (False, True):
            reply = asked(target, secure=secure)
            told = fields(reply)
            assert told["Content-Length"] == str(len(reply.body))
            assert (told["Cache-Control"], told["X-Content-Type-Options"]) == ("no-store", "nosniff")
            if told["Content-Type"].startswith("text/html"):
                policy = told["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; style-src 'self' https://own.example/trusted.css;")
                assert "frame-ancestors 'none'" in policy
                assert b"<script" not in reply.body
                assert b" style=" not in reply.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "X" * 30])
def test_another_method_is_told_which_there_are(method: str) -> None:
    reply = asked("/root.pem", method)
    assert (reply.status, fields(reply)["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "target",
    ["/x", "/root", "/root.pem/", "//root.pem", "/../etc/passwd", "/ROOT.PEM", "/%72oot.pem", "*", "/" + "a" * 9999],
)
def test_an_unknown_path_is_not_found_and_not_repeated(target: str) -> None:
    reply = asked(target)
    assert reply.status == 404
    assert "http://own.example/" in text(reply)
    assert target not in reply.body.decode() or target in ("*", "/x", "/root")


def test_each_system_has_a_page_one_click_away() -> None:
    front = asked("/").body.decode()
    for each in GUIDES:
        assert f'<a href="/{each.key}"' in front
        page = asked(f"/{each.key}").body.decode()
        assert f'href="/{each.file}"' in page
        assert page.count('aria-current="page"') == 1


def test_the_page_is_for_the_device_that_asks() -> None:
    assert "Install it: iPhone and iPad" in text(asked("/", agent="Mozilla/5.0 (iPhone; CPU iPhone OS 17_0)"))
    assert "Install it: Android" in text(asked("/", agent="Mozilla/5.0 (Linux; Android 14)"))


def test_the_page_tells_fingerprint_end_proxy_and_whom_to_ask() -> None:
    said = text(asked("/", contact="Help <desk> & co"))
    assert ROOT.certificate.fingerprint(hashes.SHA256()).hex(":").upper() in said
    assert "Own Root" in said
    assert f"{ROOT.certificate.not_valid_after_utc:%Y-%m-%d}" in said
    assert "http://192.0.2.7:8080/proxy.pac" in said
    assert "Whom to ask: Help <desk> & co" in said
    assert "it has expired" not in said
    assert "it has expired" in text(asked("/", now=NOW + timedelta(days=36_500)))


def test_behind_a_gateway_there_is_no_proxy_to_set() -> None:
    said = text(asked("/debian", mode="transparent", address=""))
    assert "There is nothing to set" in said
    assert "--proxy" not in said
    assert b'var proxy = "DIRECT";' in asked("/proxy.pac", mode="transparent", address="").body


def test_a_pac_file_names_the_listener_that_was_reached() -> None:
    reply = asked("/proxy.pac", direct=("intranet.example",))
    assert fields(reply)["Content-Type"] == "application/x-ns-proxy-autoconfig"
    assert b'var proxy = "PROXY 192.0.2.7:8080";' in reply.body
    assert b'var own = "own.example";' in reply.body
    assert b'var exact = ["intranet.example"];' in reply.body


def test_only_over_tls_it_is_said_that_the_device_trusts_the_root() -> None:
    for path in ("/trusted", "/trusted.css"):
        plain = asked(path)
        assert (plain.status, fields(plain)["Location"]) == (307, f"https://own.example{path}")
        assert "trusts it" not in text(plain)
        assert b".yes" not in plain.body
    assert "This device trusts it" in text(asked("/trusted", secure=True))
    assert fields(asked("/trusted.css", secure=True))["Content-Type"].startswith("text/css")


def test_until_the_second_stylesheet_comes_the_page_says_that_it_does_not() -> None:
    page = asked("/").body.decode()
    assert page.index('href="/style.css"') < page.index('href="https://own.example/trusted.css"')
    assert re.search(r"\.yes \{ display: none;", asked("/style.css").body.decode())
    shown = asked("/trusted.css", secure=True).body.decode()
    assert re.search(r"\.no \{ display: none;", shown)
    assert re.search(r"\.yes \{ display: block;", shown)


def test_who_comes_past_the_proxy_is_not_told_what_cannot_be_known() -> None:
    said = text(asked("/", past=True, site="http://192.0.2.7:8080"))
    assert "You have come here past the proxy" in said
    assert "does not trust" not in said


def test_a_tenant_without_a_root_is_told_so() -> None:
    for target in ("/", "/ios", "/root.pem", "/root.mobileconfig"):
        reply = asked(target, root=None)
        assert reply.status == 503
        assert "no active signing CA" in text(reply)
    assert asked("/proxy.pac", root=None).status == 200


def test_a_ca_that_another_has_issued_is_no_profile_and_everything_else() -> None:
    issuing = ROOT.intermediate("Own Issuing")
    page = asked("/ios", root=issuing.raw).body.decode()
    assert 'class="button" href="/root.crt"' in page
    assert "root.mobileconfig" not in page
    reply = asked("/root.mobileconfig", root=issuing.raw)
    assert reply.status == 404
    assert "not a root" in text(reply)
    assert x509.load_der_x509_certificate(asked("/root.cer", root=issuing.raw).body) == issuing.certificate


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_whatever_is_asked_gets_an_answer(method: str, target: str, agent: str, secure: bool) -> None:
    for way in ("GET", method):
        reply = answer(way, target, agent, replace(HERE, secure=secure))
        assert reply.status in (200, 307, 404, 405)


def test_what_a_certificate_calls_itself_is_text_and_nothing_else() -> None:
    evil = Authority.root("--><script>alert(1)</script>")
    page = asked("/", root=evil.raw, contact='"><img src=x>').body.decode()
    assert "<script" not in page
    assert "<img" not in page

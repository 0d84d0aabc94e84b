"""The action warn: the client gets a leaf of a CA that nobody trusts, and warns as it would have without us."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.conftest import ISSUING, PUBLIC
from tests.harness.chromium import WARNING, Chromium
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, OpensslServer, Site
from tests.harness.pki import DAY, NOW, Authority, self_signed
from tests.harness.programs import need
from tests.harness.raw_http import open_tunnel
from tests.harness.signing_cas import followed

UNVERIFIED = 60
"""curl's status for a certificate that it cannot verify."""
SEEN = """
    def request(flow):
        _, found, port = flow.request.path.partition("port=")
        if found:
            flow.request.port = int(port)


    def response(flow):
        flow.response.headers["x-seen"] = "yes"
"""
LANES = ("self.example", "seen.example")


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    need("nginx")
    need("curl")
    names = ("self.example", "seen.example")
    sites = [
        Site("good.example", ISSUING.leaf("good.example")),
        *(Site(name, self_signed(name)) for name in names),
        Site("old.example", ISSUING.leaf("old.example", not_before=NOW - 9 * DAY, not_after=NOW - DAY)),
        Site("other.example", ISSUING.leaf("another.example")),
    ]
    with Nginx(scratch, sites) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def warning(scratch: Path, server: Nginx) -> Iterator[Daemon]:
    scripts = Scripts(scratch / "warnings")
    scripts.add("seen", SEEN)
    hosts = dict.fromkeys(server.sites, "127.0.0.1")
    extra = {"inspection": {"addons": scripts.addons}}
    with Daemon(scratch / "warning", hosts=hosts, common=PUBLIC, workers=2, extra=extra) as running:
        followed(running, ("errors", "set", "untrusted", "warn"))
        assert all(shown(running, server, name) for name in LANES)
        yield running


def shown(daemon: Daemon, server: Nginx, name: str, port: int | None = None) -> x509.Certificate | None:
    """The certificate that a client is shown for the host, if it is one to be warned by."""
    tunnel = open_tunnel(daemon.proxy, name, port or server[name].port)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(tunnel, server_hostname=name) as tls:
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    return certificate if "UNTRUSTED" in certificate.issuer.rfc4514_string() else None


@pytest.mark.parametrize("name", LANES)
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_who_verifies_is_warned_and_who_goes_on_reaches_the_server(
    warning: Daemon, server: Nginx, name: str, version: str
) -> None:
    assert curl(warning, server[name].url("/refused"), version).exit_code == UNVERIFIED
    result = curl(warning, server[name].url(), version, "--insecure")
    assert (result.status, result.text) == (200, f"hello from {name}\n")
    assert result.headers.get("x-seen") == ("yes" if name == "seen.example" else None)
    assert not [one for one in server.requests() if one["uri"].startswith("/refused")]


def test_a_browser_shows_its_own_warning_or_our_page_or_the_site(
    warning: Daemon, server: Nginx, tmp_path: Path
) -> None:
    root = x509.load_pem_x509_certificate(warning.root.read_bytes())
    with Chromium(tmp_path, trusts=[root], proxy=warning.proxy) as browser:
        where, shown_text = browser.visit(server["self.example"].url())
        assert where == WARNING
        assert "NET::ERR_CERT_AUTHORITY_INVALID" in shown_text
        where, shown_text = browser.visit(server["old.example"].url())
        assert where == server["old.example"].url()
        assert "Blocked: this server's certificate cannot be trusted" in shown_text
        try:
            followed(warning, ("errors", "set", "expired", "allow"))
            assert browser.visit(server["old.example"].url())[1].strip() == "hello from old.example"
        finally:
            followed(warning, ("errors", "unset", "expired"))
        assert browser.visit(server["good.example"].url())[1].strip() == "hello from good.example"
    assert curl(warning, server["old.example"].url()).status == 502


def test_what_is_bypassed_is_left_to_the_client(warning: Daemon, server: Nginx, tmp_path: Path) -> None:
    """It sees the server's own certificate, and judges it by itself."""
    (tmp_path / "public.pem").write_bytes(PUBLIC.pem())
    own = ("--cacert", str(tmp_path / "public.pem"))
    try:
        followed(warning, ("errors", "set", "hostname_mismatch", "bypass"))
        # The server's own certificate, and neither a page nor a leaf of ours.
        what = "no alternative certificate subject name"
        assert what in curl(warning, server["other.example"].url("/refused"), *own).error
        for version, spoken in (("--http1.1", "1.1"), ("--http2", "2")):
            passed = curl(warning, server["other.example"].url(), "--insecure", "-w", "%{certs}", version)
            assert (passed.status, passed.http_version) == (200, spoken)
        assert warning.wait_log("bypassed", host="other.example")[-1]["reason"] == "row hostname_mismatch"
    finally:
        followed(warning, ("errors", "unset", "hostname_mismatch"))
    assert curl(warning, server["other.example"].url()).status == 502


def test_the_leaf_says_what_it_is_and_for_whom(warning: Daemon, server: Nginx) -> None:
    leaf = shown(warning, server, "self.example")
    assert leaf is not None
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["self.example"]
    built_in = x509.load_pem_x509_certificate(warning.root.read_bytes())
    assert leaf.issuer != built_in.subject


def test_another_certificate_of_the_server_is_warned_of_anew(warning: Daemon, server: Nginx, scratch: Path) -> None:
    """Who has let itself be warned of one must not be taken to have accepted another: neither leaf nor ticket serve."""
    before = shown(warning, server, "self.example")
    assert before is not None
    assert before == shown(warning, server, "self.example")  # of the same one it is the same, as browsers want it
    with OpensslServer(scratch, self_signed("self.example"), ("-www",), answer=False) as forged:
        other = shown(warning, server, "self.example", forged.port)
    assert other is not None
    assert (other.issuer, other != before) == (before.issuer, True)


def test_a_further_server_is_not_what_the_client_was_warned_of(warning: Daemon, server: Nginx, scratch: Path) -> None:
    with OpensslServer(scratch, self_signed("seen.example"), ("-www",), answer=False) as forged:
        url = server["seen.example"].url(f"/elsewhere?port={forged.port}")
        result = curl(warning, url, "--insecure", "--http1.1")
        assert (result.status, result.proxy_status.partition("details=")[2]) == (502, '"self_signed"')
        assert "GET" not in forged.log()
    assert curl(warning, server["seen.example"].url(), "--insecure", "--http1.1").status == 200


def test_others_are_as_they_were(warning: Daemon, server: Nginx) -> None:
    assert curl(warning, server["good.example"].url()).status == 200
    assert curl(warning, server["old.example"].url()).status == 502


def test_the_ca_to_warn_by_is_offered_to_nobody(warning: Daemon) -> None:
    assert "UNTRUSTED" not in warning.told("signing-ca", "list", "--json")
    for command in ("show", "download", "activate", "revoke", "delete"):
        refused = warning.cli("signing-ca", command, "untrusted")
        assert (refused.returncode, "no signing CA 'untrusted'" in refused.stderr) == (1, True)
    assert not [path for path in (warning.state_dir / "certs").iterdir() if b"UNTRUSTED" in path.read_bytes()]


def test_another_active_ca_changes_nothing_about_it(warning: Daemon, server: Nginx, tmp_path: Path) -> None:
    before = shown(warning, server, "self.example")
    assert before is not None
    issuing = Authority.root("Theirs").intermediate("Issuing")
    certificates, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificates.write_bytes(issuing.chain_pem(with_root=True))
    key.write_bytes(issuing.key_pem())
    try:
        followed(
            warning, ("signing-ca", "import", "theirs", "--cert", str(certificates), "--key", str(key), "--activate")
        )
        after = shown(warning, server, "self.example")
        assert after is not None
        assert after.issuer == before.issuer
    finally:
        followed(warning, ("signing-ca", "activate", "built-in"))
    assert curl(warning, server["good.example"].url()).status == 200
    assert curl(warning, server["self.example"].url()).exit_code == UNVERIFIED


def test_what_passes_with_a_defect_is_logged_with_the_action(warning: Daemon, server: Nginx) -> None:
    curl(warning, server["self.example"].url(), "--insecure")
    line = warning.wait_log("verdict", host="self.example")[-1]
    assert (line["defects"], line["action"], line["level"]) == (["self_signed"], "warn", "info")
    (shown,) = warning.wait_log("leaf", id=line["id"])
    assert (shown["untrusted"], "UNTRUSTED" in shown["issuer"], "signing_ca" in shown) == (True, True, False)

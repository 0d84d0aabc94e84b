"""A private CA that the administrator adds is trusted within a second, for its tenant alone, until it is deleted."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from tests.e2e.conftest import PRIVATE, PRIVATE_ISSUING
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx


def test_a_private_chain_is_trusted_and_blocked_again_within_a_second_for_one_tenant(
    daemon: Daemon, origin: Nginx, tmp_path: Path
) -> None:
    url = origin["private.example"].url()
    mine, other = daemon.listener("explicit"), daemon.listener("second")
    chain = tmp_path / "private.pem"
    chain.write_bytes(PRIVATE_ISSUING.pem() + PRIVATE.pem())
    assert curl(mine, url).proxy_status == 'sallyport; error=tls_certificate_error; details="incomplete_chain"'
    daemon.told("trusted-ca", "add", "private", str(chain))
    try:
        result, _ = daemon.within(1.0, lambda: r if (r := curl(mine, url)).status == 200 else None)
        assert result is not None
        assert result.text == "hello from private.example\n"
        assert curl(other, url).status == 502
    finally:
        daemon.told("trusted-ca", "delete", "private")
    daemon.within(1.0, lambda: curl(mine, url).status == 502)
    daemon.told("trusted-ca", "add", "private", str(chain), tenant="other")
    try:
        daemon.within(1.0, lambda: curl(other, url).status == 200)
        assert curl(mine, url).status == 502
    finally:
        daemon.told("trusted-ca", "delete", "private", tenant="other")


def test_two_tenants_have_two_roots_and_neither_trusts_the_others(daemon: Daemon, origin: Nginx) -> None:
    url = origin["good.example"].url()
    mine, other = daemon.listener("explicit"), daemon.listener("second")
    assert curl(mine, url).status == 200
    assert curl(other, url).status == 200
    assert curl(mine, url, "--cacert", str(other.root)).exit_code == 60
    roots = [x509.load_pem_x509_certificate(entrance.root.read_bytes()) for entrance in (mine, other)]
    assert roots[0].public_key() != roots[1].public_key()


def test_a_trusted_intermediate_helps_to_build_but_its_root_ends_the_chain(
    daemon: Daemon, origin: Nginx, tmp_path: Path
) -> None:
    """An intermediate without its root can be an anchor itself."""
    alone = tmp_path / "issuing.pem"
    alone.write_bytes(PRIVATE_ISSUING.pem())
    daemon.told("trusted-ca", "add", "issuing", str(alone))
    try:
        daemon.within(1.0, lambda: curl(daemon, origin["private.example"].url()).status == 200)
    finally:
        daemon.told("trusted-ca", "delete", "issuing")
    daemon.within(1.0, lambda: curl(daemon, origin["private.example"].url()).status == 502)


def test_a_ca_that_is_limited_to_hosts_vouches_for_no_other(daemon: Daemon, origin: Nginx, tmp_path: Path) -> None:
    url = origin["private.example"].url()
    chain = tmp_path / "private.pem"
    chain.write_bytes(PRIVATE_ISSUING.pem() + PRIVATE.pem())
    daemon.told("trusted-ca", "add", "limited", str(chain), "--host", "*.private.example", "--host", "other.example")
    try:
        result = curl(daemon, url)
        assert (result.status, result.proxy_status.partition("details=")[2]) == (502, '"incomplete_chain"')
        daemon.told("trusted-ca", "limit", "limited", "PRIVATE.example.")
        daemon.within(1.0, lambda: curl(daemon, url).status == 200)
        assert curl(daemon, origin["good.example"].url()).status == 200
        daemon.told("trusted-ca", "limit", "limited", "good.example")
        daemon.within(1.0, lambda: curl(daemon, url).status == 502)
        assert curl(daemon, origin["good.example"].url()).status == 200
        daemon.told("trusted-ca", "limit", "limited", "--all-hosts")
        daemon.within(1.0, lambda: curl(daemon, url).status == 200)
    finally:
        daemon.told("trusted-ca", "delete", "limited")
    daemon.within(1.0, lambda: curl(daemon, url).status == 502)

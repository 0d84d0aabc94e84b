"""The organisation's intermediate CA from its beginning: its key is made in the key manager, and never leaves that.

PyKMIP's server makes the key and signs the request, openssl as the organisation's root signs that, and what the daemon
shows to curl is signed by that key.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from tests.control.test_signing_cas import EXTENSIONS, openssl, root_above
from tests.e2e.conftest import ISSUING, PUBLIC
from tests.e2e.test_on_premises import client_certificate
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.kmip_server import KmipServer
from tests.harness.origins import Nginx, Site
from tests.harness.programs import need
from tests.kms.kmip.rig import HOST, root, server_identity

SUBJECT = ("--common-name", "Organisation Proxy CA", "--organization", "Organisation", "--country", "CH")


def test_a_key_that_is_made_in_the_key_manager_signs_its_request_and_then_what_clients_see(tmp_path: Path) -> None:
    need("nginx")
    root_pem = root_above(tmp_path)
    extra = {"kmip": {"allow_private_addresses": True, "timeout": 5}}
    hosts = {"good.example": "127.0.0.1", HOST: "127.0.0.1"}
    with (
        KmipServer(tmp_path / "kmip", server_identity(), root()) as manager,
        Nginx(tmp_path / "origin", [Site("good.example", ISSUING.leaf("good.example"))]) as origin,
        Daemon(tmp_path / "daemon", hosts=hosts, common=PUBLIC, extra=extra) as daemon,
    ):
        client_certificate(daemon, tmp_path)
        where = ("--key-name", "proxy-ca", "--primary", f"{HOST}:{manager.port}")
        made = daemon.cli("signing-ca", "csr", "hsm", *SUBJECT, *where, "--create-key", "--key-size", "2048")
        assert made.returncode == 0, made.stderr
        assert made.stderr == f"Note: the key pair proxy-ca was made at {HOST}:{manager.port}, and is active.\n"
        request = x509.load_pem_x509_csr(made.stdout.encode())
        assert request.is_signature_valid
        assert made.stdout in daemon.told("signing-ca", "show", "hsm")
        again = daemon.cli("signing-ca", "csr", "second", *SUBJECT, *where, "--create-key")
        assert again.returncode == 1
        assert "has something of the name 'proxy-ca' already, so nothing is made" in again.stderr
        (tmp_path / "request.pem").write_text(made.stdout)
        (tmp_path / "extensions").write_text(EXTENSIONS)
        openssl(tmp_path, "req", "-verify", "-noout", "-in", "request.pem")
        openssl(tmp_path, "x509", "-req", "-in", "request.pem", "-CA", "root.pem", "-CAkey", "root.key",
                "-CAcreateserial", "-days", "365", "-extfile", "extensions", "-out", "ca.pem")  # fmt: skip
        files = [str(tmp_path / "ca.pem"), str(tmp_path / "root.pem")]
        told = daemon.told("signing-ca", "validate", "hsm", *files)
        assert told.count("  passed  ") == 10
        assert "It would be accepted; leaves would be signed by Organisation Proxy CA." in told
        assert "is saved and active" in daemon.told("signing-ca", "complete", "hsm", *files, "--activate")
        (tmp_path / "trusted.pem").write_bytes(root_pem)
        url = origin["good.example"].url()
        # Of all keys in the world only that one can have signed what curl accepts here.
        daemon.within(5.0, lambda: curl(daemon, url, "--cacert", str(tmp_path / "trusted.pem")).status == 200)
        assert manager.signed() >= 3, "the request, trials, and the leaf"
        said = daemon.told("signing-ca", "revoke", "hsm")
        assert "its key, which stays in the key manager, is not used again" in said

"""Every root of the common store can vouch for a usual server: what a root itself looks like keeps no site away.

Nobody has the roots' private keys, so each is taken with another key in it: names, dates, serial number and extensions
stay as they are, octet by octet. The signature does not count in an anchor.
"""

from __future__ import annotations

import warnings

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.der import read, tbs_fields
from certs.names import parse_host
from certs.trust import TrustStore, parse_common_store
from certs.verify import Handshake, judge
from tests.harness.der_writing import tlv
from tests.harness.pki import NOW, Authority, Raw, kept_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # serial numbers of 0
    with open(certifi.where(), "rb") as file:
        ROOTS = parse_common_store(file.read())


def rekeyed(root: x509.Certificate) -> Authority:
    """The root with a key of ours."""
    public = root.public_key()
    assert isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    key = kept_key("rsa2048" if isinstance(public, rsa.RSAPublicKey) else "ec256")
    whole, tbs = root.public_bytes(Encoding.DER), root.tbs_certificate_bytes
    place = tbs_fields(tbs).public_key
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    body = tlv(0x30, tbs[read(tbs).body : place.start] + spki + tbs[place.end :])
    behind = read(whole, read(whole).body).end
    return Authority(tlv(0x30, body + whole[behind:]), key, root.subject)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.subject.rfc4514_string()[:60])
def test_a_usual_chain_below_a_root_of_the_common_store_is_good(root: x509.Certificate) -> None:
    authority = rekeyed(root)
    ski = [
        extension.value
        for extension in authority.certificate.extensions
        if isinstance(extension.value, x509.SubjectKeyIdentifier)
    ]
    aki = [Raw("2.5.29.35", x509.AuthorityKeyIdentifier(one.digest, None, None).public_bytes()) for one in ski]
    issuing = authority.intermediate("Issuing", aki=False, path_length=0, eku=["server", "client"], extra=aki)
    for kind, usage in (("rsa2048", ["digital_signature", "key_encipherment"]), ("ec256", ["digital_signature"])):
        leaf = issuing.leaf("www.example.com", key=kept_key(kind), key_usage=usage)
        shown = Handshake((leaf.certificate, issuing.certificate))
        verdict = judge(shown, parse_host("www.example.com"), TrustStore([authority.certificate], []), NOW)
        assert verdict.ok, verdict.findings

from __future__ import annotations

import re

from cryptography import x509

from console.web import pages
from control.shown.certificates import fingerprint
from tests.harness.pki import DAY, NOW, Authority, common_name

HOSTILE = '<script>alert("1")</script>\N{RIGHT-TO-LEFT OVERRIDE}=1+1'


def rendered(call: str, **given: object) -> str:
    source = f'{{% import "certificate.html" as certificates %}}{{{{ certificates.{call} }}}}'
    return pages.environment(lambda: NOW).from_string(source).render(now=NOW, **given)


def test_a_chain_is_drawn_from_its_top_down_and_leads_to_each_certificate() -> None:
    root = Authority.root("Top", not_after=NOW - DAY, not_before=NOW - 9 * DAY)
    issuing = root.intermediate("Issuing")
    text = rendered("chain(chain, now)", chain=[issuing.certificate, root.certificate])
    assert re.findall(r'soft small">(\w+)</span> <a href="#(cert-\w{16})">(\w+)<', text) == [
        ("Anchor", f"cert-{fingerprint(root.certificate)[:16]}", "Top"),
        ("Intermediate", f"cert-{fingerprint(issuing.certificate)[:16]}", "Issuing"),
    ]
    assert text.count(">expired<") == 1


def test_all_fields_of_a_certificate_are_there_and_its_names_are_harmless() -> None:
    root = Authority.root(subject=common_name(HOSTILE))
    text = rendered("certificate(cert, now, role='Anchor')", cert=root.certificate)
    assert "<script>" not in text
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text
    assert r"\u202e=1+1" in text
    for name in ("subject", "issuer", "serial", "valid to", "key", "basicConstraints", "SHA-256"):
        assert f"<dt>{name}</dt>" in text
    assert fingerprint(root.certificate) in text
    pem = re.search(r"<pre[^>]*>(.*)</pre>", text, re.DOTALL)
    assert pem is not None
    assert x509.load_pem_x509_certificate(pem[1].encode()) == root.certificate

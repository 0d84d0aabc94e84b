"""No answer holds what is secret: every route that shows anything is asked, after everything secret was made."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.request import Subject
from console.visit import COOKIE
from control import api_tokens, kmip_forwarding, proxy_users, second_factor, signing_cas
from control.authorisation import Role, Scope
from control.tokens import digest
from store import accounts as stored
from store import kmip, tenants
from store import signing_cas as stored_cas
from tests.console.conftest import Console
from tests.control.conftest import PASSWORD, account, code_of, trust
from tests.harness.console_routes import Operation, operations
from tests.harness.pki import NOW, Authority

NAMES = ("x", "bob", "imported", "requested", "program")
ENDLESS = ("/events", "/progress", "/stream")


def test_no_answer_holds_a_key_a_password_or_a_token(console: Console) -> None:
    inst = console.inst
    root = Authority.root("Root")
    issuing = root.intermediate("Issuing")
    client = root.leaf("client", eku=("client",))
    secrets: dict[str, bytes] = {"a password": PASSWORD.encode(), "the password for KMIP": b"moon over water"}
    secrets |= _key("the imported key", issuing.key) | _key("the key of KMIP forwarding", client.key)
    upload = signing_cas.Upload((issuing.chain_pem(with_root=True),), issuing.key_pem())
    signing_cas.import_(inst, "default", "imported", upload, NOW)
    signing_cas.request(inst, "default", "requested", Subject("Requested"), NOW)
    known = kmip_forwarding.Credentials(client.pem(), root.pem(), client.key_pem(), None, "user", "moon over water")
    kmip_forwarding.set_(inst, "default", known, NOW)
    trust(inst, "default", "x", root.pem())
    account(inst, "bob", Role.AUDITOR)
    enrolment = second_factor.begin(inst, "bob", NOW)
    codes = second_factor.confirm(inst, "bob", code_of(enrolment.secret, NOW), NOW)
    secrets |= {"a secret of TOTP": enrolment.secret.encode(), "a recovery code": codes[0].encode()}
    _, text = api_tokens.create(inst, "program", "bob", NOW, Scope.READ)
    secrets |= _token("an API token", text)
    proxy_users.add(inst, "default", "x", "elephants in tea", NOW)
    secrets["the password of a user of the proxy"] = b"elephants in tea"
    owner = console.signed_in("ann")
    secrets |= _token("a session", owner.cookies[COOKIE])
    with inst.store.reading() as c:
        found = tenants.by_name(c, "default")
        assert found is not None
        secrets["the wrapped key of the tenant"] = tenants.wrapped_key(c, found.id)
        for name in ("imported", "requested"):
            ca = stored_cas.by_name(c, found.id, name)
            assert ca is not None
            secrets[f"the sealed key of {name}"] = stored_cas.sealed_key(c, ca.id)
        sealed = kmip.secrets_of(c, found.id).key
        secrets["the sealed key of KMIP forwarding"] = sealed or b""
        (id,) = [one.id for one in stored.listing(c) if one.name == "bob"]
        secrets["the hash of a password"] = stored.password_hash(c, id).encode()
    forms = {
        what: form
        for name, secret in secrets.items()
        for form, what in ((each, f"{name} as {how}") for how, each in _forms(secret))
    }
    forms |= {"a private key as PEM": b"PRIVATE KEY-----", "an Argon2 hash": b"$argon2"}
    asked = 0
    for one in operations():
        if one.safe and not one.path.endswith(ENDLESS):
            for address in _addresses(one):
                for more in ({}, {"HX-Request": "true"}):
                    answer = owner.get(address, params=dict(one.query), headers=more)
                    whole = answer.content + repr(answer.headers.items()).encode()
                    assert [what for what, form in forms.items() if form in whole] == [], address
                    asked += answer.status_code == 200
    assert asked > 20


def _addresses(one: Operation) -> Iterator[str]:
    if "{name" not in one.path:
        yield one.at(tenant="default")
        return
    for name in NAMES:
        yield one.at(tenant="default", name=name)


def _key(what: str, key: object) -> dict[str, bytes]:
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined]
    numbers = key.private_numbers()  # type: ignore[attr-defined]
    value = numbers.private_value if hasattr(numbers, "private_value") else numbers.d
    return {f"{what} (PKCS #8)": der, f"{what} (its number)": value.to_bytes((value.bit_length() + 7) // 8)}


def _token(what: str, text: str) -> dict[str, bytes]:
    return {what: text.encode(), f"the SHA-256 of {what}": digest(text)}


def _forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """As it is, and as texts have it; of Base64 what does not depend on where it begins."""
    yield "it is", secret
    yield "hexadecimal", secret.hex().encode()
    yield "HEXADECIMAL", secret.hex().upper().encode()
    for off in range(3):
        yield f"Base64 from {off}", base64.b64encode(bytes(off) + secret)[4:-4][:60]
        yield f"URL-safe Base64 from {off}", base64.urlsafe_b64encode(bytes(off) + secret)[4:-4][:60]

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.envelope import SealError, TenantKey

SECRET = b"-----a private key-----"


def test_what_was_sealed_opens_for_its_tenant_and_purpose() -> None:
    key = TenantKey.generate()
    sealed = key.seal("acme", "leaf-key", SECRET)
    assert key.open("acme", "leaf-key", sealed) == SECRET
    assert TenantKey(key.raw).open("acme", "leaf-key", sealed) == SECRET
    assert SECRET not in sealed


@given(st.text(), st.text(), st.binary())
def test_anything_can_be_sealed(tenant: str, purpose: str, data: bytes) -> None:
    key = TenantKey.generate()
    assert key.open(tenant, purpose, key.seal(tenant, purpose, data)) == data


def test_no_byte_can_be_changed() -> None:
    key = TenantKey.generate()
    sealed = key.seal("acme", "leaf-key", SECRET)
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(SealError):
                key.open("acme", "leaf-key", bytes(changed))


def test_no_byte_can_be_missing_or_added() -> None:
    key = TenantKey.generate()
    sealed = key.seal("acme", "leaf-key", SECRET)
    for wrong in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", b"\0" + sealed]:
        with pytest.raises(SealError):
            key.open("acme", "leaf-key", wrong)


@pytest.mark.parametrize(
    ("tenant", "purpose"),
    [
        ("other", "leaf-key"),
        ("acme", "signing-ca-key"),
        ("acm", "eleaf-key"),
        ("acmeleaf", "-key"),
        ("", "acmeleaf-key"),
    ],
)
def test_it_opens_for_no_other_tenant_or_purpose_however_they_are_cut(tenant: str, purpose: str) -> None:
    key = TenantKey.generate()
    sealed = key.seal("acme", "leaf-key", SECRET)
    with pytest.raises(SealError):
        key.open(tenant, purpose, sealed)


def test_another_key_does_not_open_it() -> None:
    sealed = TenantKey.generate().seal("acme", "leaf-key", SECRET)
    with pytest.raises(SealError, match="changed, or sealed with another key"):
        TenantKey.generate().open("acme", "leaf-key", sealed)


def test_a_later_version_is_told_from_damage() -> None:
    key = TenantKey.generate()
    sealed = key.seal("acme", "leaf-key", SECRET)
    with pytest.raises(SealError, match="expected version 1, found version 2"):
        key.open("acme", "leaf-key", b"\x02" + sealed[1:])
    with pytest.raises(SealError, match="found nothing"):
        key.open("acme", "leaf-key", b"")


def test_the_same_text_never_looks_the_same_twice() -> None:
    key = TenantKey.generate()
    assert len({key.seal("acme", "leaf-key", SECRET) for _ in range(1000)}) == 1000


def test_keys_are_random_and_of_256_bits_and_show_in_no_repr() -> None:
    keys = [TenantKey.generate() for _ in range(100)]
    assert {len(key.raw) for key in keys} == {32}
    assert len({key.raw for key in keys}) == 100
    assert repr(keys[0]) == "TenantKey()"


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(SealError, match=f"{length} bytes"):
        TenantKey(b"k" * length)

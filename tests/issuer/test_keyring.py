"""What is held, what is forgotten, and that nothing is signed with what was forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certs.names import parse_host
from control.installation import Installation
from issuer import keyring
from issuer.errors import Superseded
from issuer.key_managers import KeyManagers
from issuer.keyring import HeldLeafKey, Keyring, WorkingSet
from issuer.log import IssuanceLog, Job, KeptLeaf
from tests.issuer.rig import DAY, Clock, activate_new_ca, count_leaves

LIFETIME = timedelta(days=3)


def loaded(inst: Installation, clock: Clock) -> tuple[WorkingSet, HeldLeafKey]:
    working = keyring.load(inst.store, inst.provider, KeyManagers(inst.settings), "default")
    return working, keyring.make_leaf_key(inst.store, inst.provider, working, "ecdsa", clock, LIFETIME)


def test_keys_that_were_read_before_a_change_that_was_acted_on_are_not_held(inst: Installation, clock: Clock) -> None:
    working = keyring.load(inst.store, inst.provider, KeyManagers(inst.settings), "default")
    ring = Keyring()
    ring.seen = working.as_of + 1
    assert not ring.put(working)
    assert ring.held("default") is None
    ring.seen = working.as_of
    assert ring.put(working)
    assert ring.held("default") is working


def test_what_is_forgotten_is_held_no_more(inst: Installation) -> None:
    working = keyring.load(inst.store, inst.provider, KeyManagers(inst.settings), "default")
    ring = Keyring()
    ring.put(working)
    assert ring.of(working.tenant_id) == [working]
    assert ring.forget(working.tenant_id + 1) == []
    assert ring.holds(working)
    assert ring.forget(working.tenant_id) == [working]
    assert not ring.holds(working)
    assert ring.of(working.tenant_id) == []


def test_nothing_is_signed_with_keys_that_were_forgotten(inst: Installation, clock: Clock) -> None:
    working, key = loaded(inst, clock)
    ring = Keyring()
    ring.put(working)
    log = IssuanceLog(inst.store, ring, 7 * DAY, clock)

    def outcome(host: str) -> object:
        (outcomes,) = [found for found in log.issue([Job(working, key, parse_host(host), None)]) if found]
        return outcomes[0]

    assert isinstance(outcome("www.example"), KeptLeaf)
    ring.forget(working.tenant_id)
    assert isinstance(outcome("new.example"), Superseded)
    assert count_leaves(inst.settings) == 1


def test_two_issuers_agree_on_one_leaf_key(inst: Installation, clock: Clock) -> None:
    working, key = loaded(inst, clock)
    again = keyring.make_leaf_key(inst.store, inst.provider, working, "ecdsa", clock, LIFETIME)
    assert (again.id, again.pkcs8) == (key.id, key.pkcs8)
    clock.later(LIFETIME)
    assert keyring.make_leaf_key(inst.store, inst.provider, working, "ecdsa", clock, LIFETIME).id != key.id


def test_a_leaf_key_is_made_for_the_active_ca_only(inst: Installation, clock: Clock) -> None:
    working = keyring.load(inst.store, inst.provider, KeyManagers(inst.settings), "default")
    activate_new_ca(inst, "default", clock())
    with pytest.raises(Superseded):
        keyring.make_leaf_key(inst.store, inst.provider, working, "ecdsa", clock, LIFETIME)


def test_no_secret_is_in_a_repr(inst: Installation, clock: Clock) -> None:
    working, key = loaded(inst, clock)
    working.leaf_keys["ecdsa"] = key
    assert "pkcs8" not in repr(key)
    assert "pkcs8" not in repr(working)
    assert "signer" not in repr(working)

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from config.settings import Settings
from control import audit_log, tenants, wireguard
from control.actor import Actor
from control.errors import Refused
from control.installation import Installation
from issuer.wireguard import private_key
from tests.control.conftest import kinds_since, last_change
from tests.harness.pki import NOW


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def a_key() -> str:
    return wireguard.text(X25519PrivateKey.generate().public_key().public_bytes_raw())


def refused(inst: Installation, name: str, key: str | None = None) -> str:
    before = last_change(inst)
    with pytest.raises(Refused) as caught:
        wireguard.add_peer(inst, "default", name, NOW, key)
    assert last_change(inst) == before
    return str(caught.value)


def test_a_peer_gets_a_key_and_addresses_and_the_tenant_its_own_key(inst: Installation) -> None:
    before = last_change(inst)
    assert wireguard.server_key(inst, "default") is None
    assert private_key(inst.store, inst.provider, "default") == b""
    added = wireguard.add_peer(inst.acting(Actor("ann", "here")), "default", "phone", NOW)
    assert added.private_key is not None
    assert public_of(added.private_key) == added.peer.public_key
    assert public_of(private_key(inst.store, inst.provider, "default")) == added.server
    assert wireguard.server_key(inst, "default") == added.server
    assert (added.peer.ipv4, added.peer.ipv6) == ("10.113.0.2", "fd73:7077:67::2")
    second = wireguard.add_peer(inst, "default", "laptop", NOW)
    assert second.server == added.server
    assert [peer.name for peer in wireguard.peers(inst, "default")] == ["laptop", "phone"]
    assert kinds_since(inst, before) == ["wireguard_peer_added"] * 2
    entry = audit_log.newest(inst)[1]
    assert (entry.actor, entry.action, entry.subject, entry.before) == ("ann", "wireguard.add", "phone", None)
    assert entry.after is not None
    assert json.loads(entry.after) == {
        "public_key": wireguard.text(added.peer.public_key), "ipv4": "10.113.0.2", "ipv6": "fd73:7077:67::2",
    }  # fmt: skip
    assert wireguard.text(added.private_key) not in repr(added)


def test_a_peer_that_is_removed_is_named_where_it_is_asked_for_again(inst: Installation) -> None:
    wireguard.add_peer(inst, "default", "phone", NOW)
    wireguard.add_peer(inst, "default", "laptop", NOW)
    assert wireguard.remove_peer(inst, "default", "phone", NOW).ipv4 == "10.113.0.2"
    with pytest.raises(Refused, match="has no peer phone; it was removed by"):
        wireguard.remove_peer(inst, "default", "phone", NOW)
    # Its address is not another's at once: the log of yesterday would seem to be about that one.
    assert wireguard.add_peer(inst, "default", "tablet", NOW).peer.ipv4 == "10.113.0.4"


def test_a_device_may_keep_its_key_to_itself(inst: Installation) -> None:
    key = a_key()
    added = wireguard.add_peer(inst, "default", "laptop", NOW, key)
    assert (added.private_key, wireguard.text(added.peer.public_key)) == (None, key)
    assert "\n# PrivateKey = (the device's own)\n" in wireguard.configuration(added, inst.settings, "vpn.example:51820")
    assert refused(inst, "other", key) == "this is the public key of the peer laptop; each device has one of its own"
    assert "the public key of tenant default itself" in refused(inst, "other", wireguard.text(added.server))


@pytest.mark.parametrize(
    "key", ["", "x", "AAAA", "!" * 44, base64.b64encode(bytes(31)).decode(), base64.b64encode(bytes(33)).decode()]
)
def test_what_is_no_public_key_is_refused(inst: Installation, key: str) -> None:
    assert "is no public key of WireGuard; expected 44 characters of base64" in refused(inst, "laptop", key)


def test_a_key_that_protects_nothing_is_refused(inst: Installation) -> None:
    assert "protects nothing" in refused(inst, "laptop", wireguard.text(bytes(32)))


@pytest.mark.parametrize("name", ["", " a", "a\nb", "x" * 129, "\u202eabc"])
def test_a_name_that_cannot_be_is_refused(inst: Installation, name: str) -> None:
    assert "cannot name a peer" in refused(inst, name)


def test_each_tenant_has_a_key_and_peers_of_its_own(inst: Installation) -> None:
    tenants.create(inst, "other", NOW)
    ours, theirs = (wireguard.add_peer(inst, tenant, "phone", NOW) for tenant in ("default", "other"))
    assert ours.server != theirs.server
    assert ours.peer.ipv4 == theirs.peer.ipv4
    assert "has the peer phone already, since" in refused(inst, "phone")
    wireguard.remove_peer(inst, "other", "phone", NOW)
    assert [peer.name for peer in wireguard.peers(inst, "default")] == ["phone"]


def test_a_network_that_is_full_is_said_to_be(tmp_path: object) -> None:
    settings = Settings.model_validate({"wireguard": {"network": "192.0.2.0/29", "network6": None}})
    network, used = settings.wireguard.network, set[str]()
    for last in range(2, 7):
        address = wireguard.free_address(network, used)
        assert address == f"192.0.2.{last}"
        used.add(address)
    with pytest.raises(Refused, match=r"no address of 192.0.2.0/29 is free"):
        wireguard.free_address(network, used)
    assert wireguard.free_address(network, used - {"192.0.2.3"}) == "192.0.2.3"


def settings_of(bind: str, endpoint: str | None = None) -> Settings:
    return Settings.model_validate({
        "listeners": [{"name": "wg", "mode": "wireguard", "bind": bind}], "wireguard": {"endpoint": endpoint},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("bind", "setting", "given", "expected"),
    [
        ("0.0.0.0:443", None, None, None),
        ("192.0.2.1:443", None, None, "192.0.2.1:443"),
        ("[2001:db8::1]:443", None, None, "[2001:db8::1]:443"),
        ("0.0.0.0:443", "vpn.example", None, "vpn.example:443"),
        ("0.0.0.0:443", "vpn.example:1234", None, "vpn.example:1234"),
        ("0.0.0.0:443", "vpn.example", "[2001:db8::2]", "[2001:db8::2]:443"),
        ("0.0.0.0:0", "vpn.example", None, "vpn.example:51820"),
    ],
)
def test_where_peers_reach_the_listener(bind: str, setting: str | None, given: str | None, expected: str) -> None:
    assert wireguard.endpoint(settings_of(bind, setting), "default", given) == expected


def test_an_endpoint_that_cannot_be_is_refused() -> None:
    with pytest.raises(Refused, match="the endpoint 'a b' cannot be"):
        wireguard.endpoint(settings_of("0.0.0.0:1"), "default", "a b")

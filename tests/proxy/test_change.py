"""What another configuration means for a daemon that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Limits, Listener, Onboarding, Resolver, Settings, Signing
from proxy.change import FIXED, change, wireguard_part

NOW = Settings(state_dir=Path("/srv/state"))


def test_the_same_settings_change_nothing() -> None:
    planned = change(NOW, NOW.model_copy())
    assert (planned.sections, planned.kept, planned.settings) == ((), (), NOW)


def test_what_cannot_change_is_named_and_keeps_its_value() -> None:
    wanted = NOW.model_copy(update={"state_dir": Path("/srv/other"), "user": "somebody", "workers": 7})
    planned = change(NOW, wanted)
    assert planned.kept == ("state_dir", "user")
    assert planned.sections == ("workers",)
    assert planned.settings == NOW.model_copy(update={"workers": 7})


@pytest.mark.parametrize(
    ("name", "value", "issuer"),
    [
        ("signing", Signing(leaf_lifetime=3600), True),
        ("limits", Limits(leaves_per_second=1), True),
        ("workers", 3, False),
        ("listeners", (Listener(name="b", bind="127.0.0.1:1"),), False),
    ],
)
def test_the_issuer_is_replaced_where_something_changed_that_it_reads(name: str, value: object, issuer: bool) -> None:
    planned = change(NOW, NOW.model_copy(update={name: value}))
    assert planned.sections == (name,)
    assert planned.issuer is issuer


def test_what_is_fixed_is_a_setting() -> None:
    assert set(FIXED) <= set(Settings.model_fields)


def test_tunnels_stay_where_nothing_changed_that_their_process_reads() -> None:
    listener = Listener(name="wg", bind="127.0.0.1:1", mode="wireguard")
    now = NOW.model_copy(update={"listeners": (*NOW.listeners, listener)})

    def stays(**update: object) -> bool:
        return wireguard_part(now) == wireguard_part(now.model_copy(update=update))

    assert stays(workers=3, signing=Signing(leaf_lifetime=3600), listeners=(listener,), limits=Limits(idle_timeout=1))
    assert not stays(listeners=(listener.model_copy(update={"tenant": "other"}),))
    assert not stays(resolver=Resolver(hosts={"a.example": "192.0.2.1"}))
    assert not stays(limits=Limits(write_timeout=1))
    assert stays(onboarding=Onboarding(direct=()))
    assert not stays(onboarding=Onboarding(host="own.example"))

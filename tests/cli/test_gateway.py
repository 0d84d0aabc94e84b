"""The rules of a gateway, from the listeners to what nftables reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli import gateway
from cli.gateway_rules import RulesError, Steering, rules_for
from config.settings import Listener
from tests.cli.conftest import Run

REDIRECTED = Listener(name="gw", mode="transparent", bind="0.0.0.0:8443")
REDIRECTED6 = Listener(name="gw6", mode="transparent", bind="[::]:8444")
HANDED = Listener(name="tp", mode="tproxy", bind="127.0.0.1:8445")
HANDED6 = Listener(name="tp6", mode="tproxy", bind="[::1]:8445")
EXPLICIT = Listener(name="explicit", bind="127.0.0.1:8080")
ALL = (EXPLICIT, REDIRECTED, REDIRECTED6, HANDED, HANDED6)


def test_redirect_sends_each_family_to_its_listener() -> None:
    text = rules_for(ALL, "redirect", ["eth0"], [443, 80]).nft
    assert "type nat hook prerouting priority dstnat" in text
    assert 'iifname "eth0" meta nfproto ipv4 tcp dport { 80, 443 } counter redirect to :8443' in text
    assert 'iifname "eth0" meta nfproto ipv6 tcp dport { 80, 443 } counter redirect to :8444' in text
    assert "fib daddr type { local, broadcast, multicast } return" in text
    assert "mark" not in text


def test_an_address_of_its_own_is_kept() -> None:
    one = Listener(name="gw", mode="transparent", bind="[fd00::1]:8443")
    rules = rules_for([one], None, ["br-lan", "eth1"], [443])
    assert rules.families == ()
    assert (
        'iifname { "br-lan", "eth1" } meta nfproto ipv6 tcp dport 443 counter dnat ip6 to [fd00::1]:8443' in rules.nft
    )
    # A family without a listener goes nowhere, and not around.
    assert "ipv4" not in rules.nft
    assert 'iifname { "br-lan", "eth1" } tcp dport 443 counter reject with tcp reset' in rules.nft


def test_tproxy_marks_what_it_hands_over() -> None:
    rules = rules_for(ALL, "tproxy", ["eth0"], [443])
    assert rules.families == (4, 6)
    assert "type filter hook prerouting priority mangle" in rules.nft
    assert "tproxy ip to 127.0.0.1:8445 meta mark set 0x5350 accept" in rules.nft
    assert "tproxy ip6 to [::1]:8445 meta mark set 0x5350 accept" in rules.nft


@pytest.mark.parametrize("ports", [[443], [80, 443], [8443]])
def test_quic_is_rejected_on_443_and_on_each_port(ports: list[int]) -> None:
    text = rules_for(ALL, "redirect", ["eth0"], ports).nft
    line = next(line for line in text.splitlines() if " udp " in line)
    assert "reject with icmpx port-unreachable" in line
    assert all(str(port) in line for port in (*ports, 443))


@pytest.mark.parametrize(
    ("listeners", "steering", "interfaces", "name", "match"),
    [
        ((EXPLICIT,), None, ["eth0"], None, "no listener of mode transparent; add one"),
        ((REDIRECTED,), "tproxy", ["eth0"], None, "no listener of mode tproxy"),
        (ALL, None, ["eth0"], None, "--mode: there are listeners of mode transparent and of mode tproxy"),
        (ALL, "redirect", [], None, "--interface: expected"),
        (ALL, "redirect", ["lo"], None, "lo carries what this machine sends itself"),
        (ALL, "redirect", ['x" accept; #'], None, "is no interface's name"),
        (ALL, "redirect", ["eth0"], "nobody", "no listener nobody; there are: explicit, gw"),
        (ALL, "redirect", ["eth0"], "explicit", "explicit is of mode explicit"),
        (
            (REDIRECTED, Listener(name="b", mode="transparent", bind="0.0.0.0:9")),
            None,
            ["e"],
            None,
            "several listeners",
        ),
        ((Listener(name="b", mode="transparent", bind="0.0.0.0:0"),), None, ["e"], None, "bound to port 0"),
        (
            (Listener(name="b", mode="transparent", bind="127.0.0.1:9"),),
            None,
            ["e"],
            None,
            "do not reach; expected 0.0.",
        ),
    ],
)
def test_what_cannot_be_is_said(
    listeners: tuple[Listener, ...], steering: Steering | None, interfaces: list[str], name: str | None, match: str
) -> None:
    with pytest.raises(RulesError, match=match.replace(".", r"\.")):
        rules_for(listeners, steering, interfaces, [443], name)


def test_one_of_several_is_named() -> None:
    assert ":8444" in rules_for(ALL, None, ["eth0"], [443], "gw6").nft
    assert rules_for(ALL, None, ["eth0"], [443], "tp").steering == "tproxy"


def test_the_command_prints_rules_that_nftables_reads(run: Run, config: Path) -> None:
    config.write_text(
        "state_dir: state\nmetrics: {enabled: false}\nlisteners: [{name: tp, mode: tproxy, bind: '[::1]:8443'}]\n"
    )
    printed = run("gateway", "rules", "--interface", "eth0", "--ports", "443")
    assert printed.exit_code == 0
    assert "# ip -6 rule add fwmark 0x5350 lookup 21328 priority 21328\n" in printed.stdout
    nft = shutil.which("nft", path=gateway.PATH)
    if nft is not None and os.geteuid() == 0:
        checked = subprocess.run(
            [nft, "-c", "-f", "-"], input=printed.stdout, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_it_says_what_is_missing(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no listener of mode transparent" in run("gateway", "rules", "--interface", "eth0").stderr
    assert run("gateway", "rules", "--interface", "eth0", "--ports", "443,0").exit_code == 2
    assert "expected no other option" in run("gateway", "rules", "--remove", "--apply").stderr
    config.write_text(
        "state_dir: state\nmetrics: {enabled: false}\nlisteners: [{name: gw, mode: transparent, bind: '[::]:8443'}]\n"
    )
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/sbin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = run("gateway", "rules", "--interface", "eth0", "--apply")
    assert (told.exit_code, "only root may change" in told.stderr) == (2, True)
    monkeypatch.setattr(shutil, "which", lambda _name, path=None: None)
    told = run("gateway", "rules", "--remove")
    assert (told.exit_code, "nft is not installed; install nftables" in told.stderr) == (2, True)

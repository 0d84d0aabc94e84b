"""The rules of a gateway, as text: what nftables and ip(8) are to be told so that clients' connections come to us.

They look at what comes in by the named interfaces and at nothing else, so that what this machine sends itself, the
proxy's own connections among it, is left alone without a mark on it. What is meant for this machine is left alone, too.
Nothing gets past the proxy: what would be forwarded on one of the ports, since its family has no listener or the proxy
is not there, is reset; and UDP on these ports and on 443, which is QUIC, is rejected with ICMP, so that browsers use
TCP at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from config.settings import TRANSPARENT, Listener, parse_bind

type Steering = Literal["redirect", "tproxy"]

TABLE = "sallyport"
"""Of nftables, in the family inet. Nothing outside it is touched."""
NUMBER = 0x5350
"""The mark of connections on their way to a listener of mode tproxy, the number of the routing table that delivers
them here, and the priority of the rule (ip-rule(8)) that leads there."""
QUIC_PORT = 443
MODES: dict[Steering, str] = {"redirect": "transparent", "tproxy": "tproxy"}
"""Which mode a listener has, to which connections are steered so."""
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_FAMILIES = {4: "ip", 6: "ip6"}


class RulesError(ValueError):
    """There are no such rules; the text says what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A listener, as rules name it."""

    version: Literal[4, 6]
    address: str | None
    """None: all of this machine's."""
    port: int

    @property
    def place(self) -> str:
        """``:8443``, ``10.0.0.1:8443`` or ``[fd00::1]:8443``."""
        if self.address is None:
            return f":{self.port}"
        return f"[{self.address}]:{self.port}" if self.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is to be applied."""

    steering: Steering
    interfaces: tuple[str, ...]
    ports: tuple[int, ...]
    targets: tuple[Target, ...]
    """One for each family, at most."""

    @property
    def nft(self) -> str:
        """For ``nft -f``: the whole table, in place of the one that may be there. It is loaded whole, or not at all."""
        inside = f"iifname {_set(f'"{name}"' for name in self.interfaces)}"
        ports = _set(str(port) for port in self.ports)
        quic = _set(str(port) for port in sorted({*self.ports, QUIC_PORT}))
        if self.steering == "redirect":
            hook = "type nat hook prerouting priority dstnat; policy accept;"
        else:
            hook = "type filter hook prerouting priority mangle; policy accept;"
        steer = "\n".join(f"    {inside} {_to(self.steering, target, ports)}" for target in self.targets)
        return f"""{removal()}
table inet {TABLE} {{
  chain prerouting {{
    {hook}
    {inside} fib daddr type {{ local, broadcast, multicast }} return
{steer}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {inside} udp dport {quic} counter reject with icmpx port-unreachable
    {inside} tcp dport {ports} counter reject with tcp reset
  }}
}}
"""

    @property
    def families(self) -> tuple[Literal[4, 6], ...]:
        """The families for which packets have to be routed to this machine by their mark."""
        return tuple(target.version for target in self.targets) if self.steering == "tproxy" else ()


def removal() -> str:
    """For ``nft -f``: no such table, whether there is one or not."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}"


def routing(family: Literal[4, 6]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has marked packets end here: arguments of ip(8) behind ``rule add``, and behind ``route replace``."""
    mark, number = f"{NUMBER:#x}", str(NUMBER)
    everything = "0.0.0.0/0" if family == 4 else "::/0"
    return (
        ("fwmark", mark, "lookup", number, "priority", number),
        ("local", everything, "dev", "lo", "table", number),
    )


def _to(steering: Steering, target: Target, ports: str) -> str:
    family = _FAMILIES[target.version]
    matched = f"meta nfproto ipv{target.version} tcp dport {ports} counter"
    if steering == "tproxy":
        return f"{matched} tproxy {family} to {target.place} meta mark set {NUMBER:#x} accept"
    if target.address is None:
        return f"{matched} redirect to {target.place}"
    return f"{matched} dnat {family} to {target.place}"


def _set(items: Iterable[str]) -> str:
    listed = list(items)
    return listed[0] if len(listed) == 1 else f"{{ {', '.join(listed)} }}"


def rules_for(
    listeners: Sequence[Listener],
    steering: Steering | None,
    interfaces: Sequence[str],
    ports: Sequence[int],
    name: str | None = None,
) -> Rules:
    """The rules for the configured listeners; without ``steering``, that for which there are any. Raises RulesError."""
    for interface in interfaces:
        if not _INTERFACE.fullmatch(interface):
            raise RulesError(f"--interface: {interface!r} is no interface's name; see: ip link")
        if interface == "lo":
            raise RulesError("--interface: lo carries what this machine sends itself; expected the one to the clients")
    if not interfaces:
        raise RulesError("--interface: expected the interface to the clients; see: ip link")
    if name is not None:
        listeners = [_named(listeners, name)]
    there = {way: [one for one in listeners if one.mode == mode] for way, mode in MODES.items()}
    if steering is None:
        ways = [way for way, found in there.items() if found]
        if len(ways) > 1:
            raise RulesError("--mode: there are listeners of mode transparent and of mode tproxy; expected one of them")
        steering = ways[0] if ways else "redirect"
    chosen = there[steering]
    if not chosen:
        wanted = MODES[steering]
        raise RulesError(f"there is no listener of mode {wanted}; add one under listeners, with mode: {wanted}")
    targets: dict[int, Target] = {}
    for listener in chosen:
        target = _target(listener, steering)
        if target.version in targets:
            raise RulesError(
                f"--listener: there are several listeners of mode {listener.mode} for IPv{target.version}; "
                "expected the name of one"
            )
        targets[target.version] = target
    return Rules(steering, tuple(interfaces), tuple(sorted(set(ports))), tuple(targets.values()))


def _named(listeners: Sequence[Listener], name: str) -> Listener:
    found = next((listener for listener in listeners if listener.name == name), None)
    if found is None:
        raise RulesError(f"--listener: there is no listener {name}; there are: {', '.join(x.name for x in listeners)}")
    if found.mode not in TRANSPARENT:
        raise RulesError(f"--listener: {name} is of mode {found.mode}; a gateway sends to transparent or tproxy alone")
    return found


def _target(listener: Listener, steering: Steering) -> Target:
    text, port = parse_bind(listener.bind)
    address = ipaddress.ip_address(text)
    if port == 0:
        raise RulesError(f"listener {listener.name} is bound to port 0, any that is free; expected a port of its own")
    if steering == "redirect" and address.is_loopback:
        everywhere = "[::]" if address.version == 6 else "0.0.0.0"  # noqa: S104 - said, not bound
        raise RulesError(
            f"listener {listener.name} is bound to {text}, which redirected clients do not reach; "
            f"expected {everywhere} or this machine's address towards them"
        )
    return Target(address.version, None if address.is_unspecified else text, port)

"""Proxy auto-configuration: the file of JavaScript from which a device learns which requests go through the proxy.

A PAC file has one function, ``FindProxyForURL(url, host)``, whose answer is ``DIRECT`` or proxies, each a word for how
it is spoken to, and an address. What is written here is ES5, which every system understands, and calls none of the
functions that the systems bring along: some of those ask DNS, and the browser waits meanwhile, and names that only the
proxy is to resolve would be told to the device's network.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from string import Template

from config.settings import LOCAL_NAMES, Address, Mode

MEDIA_TYPE = "application/x-ns-proxy-autoconfig"

_WORDS: dict[Mode, tuple[str, ...]] = {
    "explicit": ("PROXY",),
    "explicit-tls": ("HTTPS",),
    # Apple's systems and Windows know the second word alone, and mean version 5 by it, or nothing.
    "socks5": ("SOCKS5", "SOCKS"),
}
"""How a listener is named in a PAC file, by its mode. No other mode has a word: its clients know of no proxy."""
SCHEMES: dict[Mode, str] = {"explicit": "http", "explicit-tls": "https", "socks5": "socks5h"}
"""What the URL of a listener begins with in a client's proxy setting, by mode."""

_FILE = Template("""\
// Written by Sallyport. What is not of the local network goes through the proxy, and never past it.
function FindProxyForURL(url, host) {
  var proxy = $proxy;
  var own = $own;
  var local = $local;
  var exact = $exact;
  var below = $below;
  var networks = $networks;
  var i, j, address;

  // The groups of 16 bits of an address that is written as one, or null.
  function groups(text) {
    var found = [], halves, head, tail, part, k;
    if (/^[0-9]{1,3}(\\.[0-9]{1,3}){3}$$/.test(text)) {
      part = text.split(".");
      return [part[0] * 256 + +part[1], part[2] * 256 + +part[3]];
    }
    if (text.indexOf(":") < 0) return null;
    halves = text.split("%")[0].split("::");
    head = halves[0] ? halves[0].split(":") : [];
    tail = halves.length > 1 && halves[1] ? halves[1].split(":") : [];
    part = (tail.length ? tail : head).slice(-1)[0];
    if (part && part.indexOf(".") > 0) {
      k = groups(part);
      if (!k) return null;
      (tail.length ? tail : head).splice(-1, 1, k[0].toString(16), k[1].toString(16));
    }
    for (k = 0; k < head.length; k++) found.push(parseInt(head[k], 16));
    if (halves.length > 1) for (k = head.length + tail.length; k < 8; k++) found.push(0);
    for (k = 0; k < tail.length; k++) found.push(parseInt(tail[k], 16));
    return found.length === 8 ? found : null;
  }

  host = host.toLowerCase().replace(/^\\[|\\]$$/g, "").replace(/\\.$$/, "");
  if (host === own) return proxy;
  address = groups(host);
  if (address) {
    for (i = 0; i < networks.length; i++) {
      if (networks[i][0].length !== address.length) continue;
      for (j = 0; j < address.length; j++) {
        if ((address[j] & networks[i][1][j]) !== networks[i][0][j]) break;
      }
      if (j === address.length) return "DIRECT";
    }
    return proxy;
  }
  if (local && host.indexOf(".") < 0) return "DIRECT";
  for (i = 0; i < exact.length; i++) if (host === exact[i]) return "DIRECT";
  for (i = 0; i < below.length; i++) {
    if (host.length > below[i].length && host.slice(-below[i].length) === below[i]) return "DIRECT";
  }
  return proxy;
}
""")


def named(mode: Mode, address: str) -> str:
    """How a PAC file names the listener that is reached at ``address`` (HOST:PORT); ``DIRECT`` where it has no name.

    There is nothing after it to go on with where the proxy is not to be had: a device does not go past a gate because
    the gate is shut.
    """
    return "; ".join(f"{word} {address}" for word in _WORDS.get(mode, ())) or "DIRECT"


def url(mode: Mode, address: str) -> str:
    """The listener as a client's proxy setting has it; "" where clients have no such setting."""
    scheme = SCHEMES.get(mode)
    return f"{scheme}://{address}" if scheme is not None else ""


def pac(proxy: str, own: str, direct: Iterable[str]) -> str:
    """The PAC file. ``proxy`` is as :func:`named` says, ``direct`` as ``onboarding.direct`` of the settings.

    ``own`` is the host that is the proxy itself, and is gone to through it whatever ``direct`` says. Addresses are
    judged as they are written alone: a name goes through the proxy wherever it may lead.
    """
    local, exact, below = False, [], []
    networks: list[tuple[list[int], list[int]]] = []
    for entry in direct:
        if entry == LOCAL_NAMES:
            local = True
        elif (network := _network(entry)) is not None:
            networks.append(network)
        elif entry.startswith("*."):
            below.append(entry[1:])
        elif entry.startswith("."):
            exact.append(entry[1:])
            below.append(entry)
        else:
            exact.append(entry)
    return _FILE.substitute(
        proxy=_script(proxy),
        own=_script(own),
        local=_script(local),
        exact=_script(exact),
        below=_script(below),
        networks=_script(networks),
    )


def _network(entry: str) -> tuple[list[int], list[int]] | None:
    """An address or CIDR as groups of 16 bits, and its mask as such; None: it is a name."""
    try:
        network = ipaddress.ip_network(entry)
    except ValueError:
        return None
    return _groups(network.network_address), _groups(network.netmask)


def _groups(address: Address) -> list[int]:
    packed = address.packed
    return [int.from_bytes(packed[place : place + 2]) for place in range(0, len(packed), 2)]


def _script(value: object) -> str:
    """The value as JavaScript writes it: JSON in ASCII, with nothing that could end a script element around it."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e")

"""Under which names the console is reached, and the address that a link to it begins with."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from certs.names import InvalidHost, host_in_certificate, parse_host
from config.settings import parse_bind

if TYPE_CHECKING:
    from cryptography import x509

    from config.settings import Console

SETUP_PATH = "/setup/"
"""Behind it stands the token of the link with which the first owner is made."""


def names_of(console: Console, host_name: str) -> tuple[str, ...]:
    """Every name and address that the console has a certificate for, its own first. Raises certs.names.InvalidHost.

    ``host_name``: this machine's; left out where it is none that a certificate could have.
    """
    wanted = [parse_host(name).text for name in console.names]
    if console.public_url is not None:
        wanted.append(parse_host(urlsplit(console.public_url).hostname or "").text)
    bound = ipaddress.ip_address(parse_bind(console.bind)[0])
    wanted.append(("::1" if bound.version == 6 else "127.0.0.1") if bound.is_unspecified else str(bound))
    wanted.append("localhost")
    with suppress(InvalidHost):
        wanted.append(parse_host(host_name).text)
    return tuple(dict.fromkeys(wanted))


def base_url(console: Console, address: str) -> str:
    """What a link begins with. ``address``: where it really listens, as ADDRESS:PORT."""
    if console.public_url is not None:
        return console.public_url
    host, _, port = address.rpartition(":")
    if ipaddress.ip_address(host.strip("[]")).is_unspecified:
        given = parse_host(console.names[0]).text if console.names else "localhost"
        host = f"[{given}]" if ":" in given else given
    return f"https://{host}" if port == "443" else f"https://{host}:{port}"


def misnamed(console: Console, certificate: x509.Certificate) -> list[str]:
    """Of the names that the settings have, those that a certificate is not for. Raises certs.names.InvalidHost."""
    wanted = list(console.names)
    if console.public_url is not None:
        wanted.append(urlsplit(console.public_url).hostname or "")
    hosts = dict.fromkeys(map(parse_host, wanted))
    return [host.text for host in hosts if not host_in_certificate(host, certificate)]


def problem_of_names(console: Console) -> str | None:
    """The first of the settings' names that is none, in words."""
    for place, name in enumerate(console.names):
        try:
            parse_host(name)
        except InvalidHost as error:
            return f"console.names[{place}]: {name!r}: {error}"
    if console.public_url is not None:
        try:
            parse_host(urlsplit(console.public_url).hostname or "")
        except InvalidHost as error:
            return f"console.public_url: {error}"
    return None

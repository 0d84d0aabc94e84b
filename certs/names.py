"""Host names as they are compared: IDNA, IP literals, trailing dots, wildcards.

A name comes in once, as text of a stranger, and leaves as a :class:`Host`: lower-case A-labels or a canonical IP
address. Everything after compares those. Nothing here asks the DNS.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna
from cryptography import x509

LONGEST_NAME = 253  # RFC 1035 2.3.4: 255 octets on the wire, less the first length octet and the root label
LONGEST_LABEL = 63  # RFC 1035 2.3.4
LONGEST_INPUT = (
    1024  # before anything is parsed; an A-label is never shorter than the text that it stands for, bar mappings
)
CACHED_NAMES = 4096

# Underscores and hyphens anywhere: RFC 1123 2.1 would refuse them, but the DNS has such hosts and browsers visit them.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_BAD_CHARACTER = re.compile(r"[^a-z0-9_.-]")
# What a resolver could take for an IPv4 address in some other notation (WHATWG URL 3.5, "ends in a number").
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")


class InvalidHost(ValueError):  # noqa: N818 - it names what the text is; every part of the program says it so
    """The text is no host name, no IP address or no authority; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host: lower-case A-labels without trailing dot, or the canonical text of an IP address without brackets."""

    text: str
    is_ip: bool

    def __str__(self) -> str:
        return self.text

    def san(self) -> x509.GeneralName:
        """The subject alternative name for this host (RFC 5280 4.2.1.6): iPAddress or dNSName."""
        return x509.IPAddress(ipaddress.ip_address(self.text)) if self.is_ip else x509.DNSName(self.text)


def parse_host(text: str) -> Host:
    """The host that the text names.

    Unicode names become A-labels by UTS #46, non-transitional. An IPv6 address may stand in brackets or bare.
    Raises :class:`InvalidHost` for everything else: wildcards, zones, other notations of IPv4, names that are too long.
    """
    if len(text) > LONGEST_INPUT:
        raise InvalidHost(f"the host name is {len(text)} characters long; at most {LONGEST_NAME} are possible")
    return _parse_host(text)


def parse_authority(text: str, default_port: int | None = None) -> tuple[Host, int]:
    """Host and port of ``host:port`` or ``[IPv6]:port`` (RFC 9112 3.2.3, RFC 3986 3.2 without userinfo).

    The port is 1 to 65535; it may be left out where there is a default. Raises :class:`InvalidHost`.
    """
    if len(text) > LONGEST_INPUT:
        raise InvalidHost(f"the authority is {len(text)} characters long; host and port never need that many")
    return _parse_authority(text, default_port)


def matches(pattern: str, host: Host) -> bool:
    """Whether a certificate's dNSName covers the host (RFC 9525 6.3).

    It does when it is the same name, or when its whole left-most label is ``*`` and the rest is the host without its
    own left-most label. The star stands for one label, never for a part of one, and never right below a top-level
    domain. An IP address is never covered (RFC 9525 6.4), and a pattern that is no name covers nothing.
    """
    if host.is_ip:
        return False
    star, name = (True, pattern[2:]) if pattern.startswith("*.") else (False, pattern)
    if name.isascii():
        # What equals (a part of) a host that was parsed is well-formed without being parsed itself.
        name = name.lower().removesuffix(".")
    else:
        try:
            name = parse_host(name).text
        except InvalidHost:
            return False
    if not star:
        return name == host.text
    return "." in name and host.text.partition(".")[2] == name


def host_in_certificate(host: Host, certificate: x509.Certificate) -> bool:
    """Whether a subject alternative name covers the host. The common name never counts (RFC 9525 2, 6.3).

    IP addresses are compared as octets with iPAddress entries only (RFC 9525 6.4). False where the extension is
    missing, or cannot be parsed.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, KeyError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return host_in_names(host, names)


def host_in_names(host: Host, names: x509.SubjectAlternativeName | None) -> bool:
    """The same of the extension, which was read already; None: there is none, or none that can be parsed."""
    if names is None:
        return False
    if host.is_ip:
        # A network (octets with a mask) belongs into name constraints alone and equals no address.
        return ipaddress.ip_address(host.text) in names.get_values_for_type(x509.IPAddress)
    # A name beyond ASCII is no IA5String and no A-label (RFC 5280 7.2): it names nothing here.
    return any(matches(pattern, host) for pattern in names.get_values_for_type(x509.DNSName) if pattern.isascii())


@lru_cache(maxsize=CACHED_NAMES)
def _parse_host(text: str) -> Host:
    if not text:
        raise InvalidHost("the host name is empty")
    if text.startswith("[") or ":" in text:
        return _parse_ipv6(text)
    name = text.lower() if text.isascii() else _mapped(text)
    name = name.removesuffix(".")  # the root label; an absolute name is the same host
    if not name.isascii():
        name = ".".join(label if label.isascii() else _a_label(label) for label in name.split("."))
    if len(name) > LONGEST_NAME:
        raise InvalidHost(f"the host name is {len(name)} characters long; at most {LONGEST_NAME} are possible")
    if _NAME.match(name) is None:
        raise InvalidHost(_what_is_wrong(name))
    if _NUMBER.match(name.rpartition(".")[2]):
        try:
            return Host(str(ipaddress.IPv4Address(name)), is_ip=True)
        except ValueError as error:
            raise InvalidHost(
                f"{name!r} ends in a number, but is no IPv4 address; write four decimal numbers without leading zeros"
            ) from error
    if "xn--" in name:
        for label in name.split("."):
            if label.startswith("xn--"):
                _check_a_label(label)
    return Host(name, is_ip=False)


@lru_cache(maxsize=CACHED_NAMES)
def _parse_authority(text: str, default_port: int | None) -> tuple[Host, int]:
    if "@" in text:
        raise InvalidHost("the authority has user information before an @; only host and port may be there")
    if "/" in text:
        raise InvalidHost(f"{_shown(text)} has a path or a scheme; only host and port may be there")
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        host += bracket
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidHost(f"{_shown(text)} is no authority: write an IPv6 address as [address]:port")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if ":" in port:
            raise InvalidHost(f"{_shown(text)} has more than one colon: write an IPv6 address as [address]:port")
    if not port:
        if default_port is None:
            raise InvalidHost(f"{_shown(text)} has no port: write host:port")
        return parse_host(host), default_port
    if not (len(port) <= 5 and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InvalidHost(f"the port {_shown(port)} is no number from 1 to 65535")
    return parse_host(host), int(port)


def _parse_ipv6(text: str) -> Host:
    inner = text
    if text.startswith("["):
        if not text.endswith("]"):
            raise InvalidHost(f"{_shown(text)} has an opening bracket without a closing one at its end")
        inner = text[1:-1]
    if "%" in inner:
        raise InvalidHost(f"{_shown(text)} has a zone; an address that needs one cannot be a destination here")
    try:
        return Host(str(ipaddress.IPv6Address(inner)), is_ip=True)
    except ValueError as error:
        raise InvalidHost(f"{_shown(text)} is no IPv6 address and no host name") from error


def _mapped(text: str) -> str:
    """The text after the mapping of UTS #46: lower case, full-width to plain, other dots to dots; NFC."""
    try:
        return idna.uts46_remap(text, std3_rules=False, transitional=False)
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidHost(f"{_shown(text)} has a character that no host name can have: {error}") from error


def _a_label(label: str) -> str:
    """The A-label of a label that was mapped already."""
    try:
        encoded = "xn--" + label.encode("punycode").decode("ascii")
    except UnicodeError as error:
        raise InvalidHost(f"the label {_shown(label)} cannot be written as an A-label") from error
    if len(encoded) > LONGEST_LABEL:
        raise InvalidHost(f"the label {_shown(label)} is longer than {LONGEST_LABEL} characters as an A-label")
    return encoded


def _check_a_label(label: str) -> None:
    """An A-label must decode to what UTS #46 would have encoded (RFC 5891 5.4, with the code points of UTS #46).

    IDNA2008's own code point classes are not asked: they exclude the emoji domains that registries sell and browsers
    open.
    """
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        valid = (
            not decoded.isascii()
            and "xn--" + decoded.encode("punycode").decode("ascii") == label
            and idna.uts46_remap(decoded, std3_rules=False, transitional=False) == decoded
            and "." not in decoded
            and not decoded.startswith("xn--")
            and unicodedata.category(decoded[0])[0] != "M"
        )
    except (idna.IDNAError, UnicodeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise InvalidHost(f"the label {label!r} starts like an internationalised one, but stands for none")


def _what_is_wrong(name: str) -> str:
    if found := _BAD_CHARACTER.search(name):
        if name.startswith("*"):
            return f"{_shown(name)} is a pattern; a host name has no star"
        return f"{_shown(name)} has the character {found.group()!r}, which no host name can have"
    if not name or "" in name.split("."):
        return f"{_shown(name)} has an empty label: two dots in a row, or one at its start"
    return f"{_shown(name)} has a label longer than {LONGEST_LABEL} characters"


def _shown(text: str) -> str:
    """The text for a message: quoted, control characters escaped, at most 80 characters."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")

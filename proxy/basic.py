"""The field Proxy-Authorization (RFC 9110, section 11.7.2) with the scheme Basic (RFC 7617), as a stranger sends it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from config.passwords import LONGEST_NAME, LONGEST_PASSWORD, normal

FIELD = b"proxy-authorization"
LONGEST = 4096
"""Bytes of the field's value: more than the longest name and password take."""
_BASIC = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, both in their normal form."""

    name: str
    password: str = field(repr=False)


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The field's value; None where there is no such field. Where it stands twice, both, so that it is no credentials.

    ``headers``: names in lower case.
    """
    values = [value for name, value in headers if name == FIELD]
    return b", ".join(values) if values else None


def parse(value: bytes) -> Credentials | None:
    """The credentials in the field's value; None where they are not Basic, not whole, or not UTF-8."""
    found = _BASIC.fullmatch(value.strip(b" \t")) if len(value) <= LONGEST else None
    if found is None:
        return None
    try:
        name, colon, password = base64.b64decode(found[1], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, password = normal(name), normal(password)
    if not colon or not name or len(name) > 2 * LONGEST_NAME or len(password.encode()) > LONGEST_PASSWORD:
        return None
    return Credentials(name, password)


def challenge(realm: str) -> str:
    """The value of Proxy-Authenticate (RFC 7617, section 2.1 for charset)."""
    return f'Basic realm="{realm}", charset="UTF-8"'

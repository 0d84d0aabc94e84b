"""Random texts that let somebody in: made here, and compared as SHA-256 alone.

256 random bits need neither salt nor a slow hash: there is nothing to guess. The prefix tells people and secret
scanners what they have found.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

SESSION, API_TOKEN, SETUP_LINK = "sps_", "spt_", "spl_"
TOKEN_BYTES = 32
READABLE_CHARACTERS, GROUP = 25, 5


def new(prefix: str) -> str:
    """A new token: the prefix and 256 random bits."""
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What is stored of a token, and what one is looked for by."""
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).digest()


def readable() -> str:
    """125 random bits to be typed: ``k3vqa-…``, five groups of five of a to z and 2 to 7 (RFC 4648 6)."""
    text = base64.b32encode(secrets.token_bytes(16)).decode("ascii").lower()[:READABLE_CHARACTERS]
    return "-".join(text[start : start + GROUP] for start in range(0, READABLE_CHARACTERS, GROUP))

"""Users of the proxy: what can be a name and a password, how passwords are hashed, and htpasswd files.

A name and a password are compared in Unicode's form NFC, since clients write the same character in more than one way
(RFC 7617 section 2.1, RFC 8265). Nothing here reads a file.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

import argon2
import bcrypt

LONGEST_NAME = 128
SHORTEST_PASSWORD = 8
"""Characters; NIST SP 800-63B section 3.1.1.2 has this for one that is not the only factor, and counts no kinds."""
LONGEST_PASSWORD = 1024
"""Bytes in UTF-8."""
MOST_MEMORY = 256 * 1024
"""KiB that a hash may ask for; MOST_TIME passes of argon2, MOST_COST of bcrypt: about a second of a slow core."""
MOST_TIME = 16
MOST_COST = 14
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_OF_A_TENANT = re.compile(r"@[a-z0-9][a-z0-9-]{0,62}")
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""argon2id (RFC 9106), with what OWASP's Password Storage Cheat Sheet has for servers that check many."""
_WEAK = (
    ("$apr1$", "MD5 (apr1)"),
    ("$1$", "MD5 (crypt)"),
    ("{SHA}", "SHA-1"),
    ("{SSHA}", "salted SHA-1"),
    ("$5$", "SHA-256 crypt"),
    ("$6$", "SHA-512 crypt"),
    ("$y$", "yescrypt"),
)
"""How forms begin that are not taken: the first ones are broken, the last ones are the system's own."""


def normal(text: str) -> str:
    """A name or a password as it is compared."""
    return unicodedata.normalize("NFC", text)


def name_problem(name: str) -> str | None:
    """Why a user cannot have that name, which is in its normal form; None: it can."""
    seen = name.isprintable() and not any(unicodedata.category(each) in ("Cf", "Co", "Cs") for each in name)
    if not 1 <= len(name) <= LONGEST_NAME or not seen or name != name.strip() or ":" in name:
        return f"expected 1 to {LONGEST_NAME} printable characters, no colon (RFC 7617), no space at the ends"
    if (at := name.rfind("@")) >= 0 and _OF_A_TENANT.fullmatch(name[at:]):
        return f"what ends in {name[at:]} reads as a user of that tenant; expected another name"
    return None


def password_problem(password: str) -> str | None:
    """Why it cannot be a new password; None: it can."""
    if len(password) < SHORTEST_PASSWORD:
        return f"the password is too short; expected at least {SHORTEST_PASSWORD} characters"
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in password):
        return "the password has control characters, which no client can send (RFC 7617)"
    if len(normal(password).encode()) > LONGEST_PASSWORD:
        return f"the password is too long; expected at most {LONGEST_PASSWORD} bytes"
    return None


def make(password: str) -> str:
    """A hash of the password, with a salt of its own. Takes some 50 ms, and 19 MiB."""
    return _HASHER.hash(normal(password).encode())


DECOY = "$argon2id$v=19$m=19456,t=2,p=1$st6mqaMbkLJF3EmLNrSKXw$ZDKq9PKBhCmRu7JNskjv51pVZtr92/jlg7vRiL6YVzo"
"""What a password is compared with where there is no user at all: a hash as :func:`make` makes them, of no user."""


def hash_problem(text: str) -> str | None:
    """Why a hash cannot be used; None: it can."""
    if (found := _BCRYPT.fullmatch(text)) is not None:
        cost = int(found[1])
        return None if 4 <= cost <= MOST_COST else f"bcrypt of cost {cost}; expected 4 to {MOST_COST}"
    if text.startswith(("$argon2id$", "$argon2i$")):
        try:
            asked = argon2.extract_parameters(text)
        except argon2.exceptions.InvalidHashError:
            return "a damaged argon2 hash"
        if asked.memory_cost > MOST_MEMORY or asked.time_cost > MOST_TIME or asked.parallelism > MOST_TIME:
            return f"argon2 that asks for too much; expected up to m={MOST_MEMORY}, t={MOST_TIME}, p={MOST_TIME}"
        return None
    for start, name in _WEAK:
        if text.startswith(start):
            return f"a hash by {name}, which is not taken; expected bcrypt (htpasswd -B) or argon2id"
    if re.fullmatch(r"[./A-Za-z0-9]{13}", text):
        return "a hash by crypt, which is not taken; expected bcrypt (htpasswd -B) or argon2id"
    return "no hash that is known here; expected bcrypt (htpasswd -B) or argon2id"


def matches(hashed: str, password: str) -> bool:
    """Whether it is the password of that hash. Expensive on purpose."""
    data = normal(password).encode("utf-8", "surrogatepass")
    try:
        if not hashed.startswith("$2"):
            return _HASHER.verify(hashed, data)
        # bcrypt knows 72 bytes: what is longer would be taken for all that begins with the same.
        return bcrypt.checkpw(data[:72], hashed.encode("ascii")) and len(data) <= 72
    except (argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHashError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class UserFile:
    """What an htpasswd file holds: hashes by name, and what is wrong with it, a line each."""

    users: dict[str, str] = field(repr=False)
    problems: tuple[str, ...]


def parse_htpasswd(data: bytes) -> UserFile:
    """``NAME:HASH``, a line each; empty lines and those that begin with # are passed over.

    A line that cannot be used lets nobody in. A problem tells its line's number, and never what stands there.
    """
    users: dict[str, str] = {}
    problems = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            problems.append(f"{number}: no UTF-8")
            continue
        if not text or text.startswith("#"):
            continue
        name, colon, hashed = text.partition(":")
        name = normal(name)
        if not colon:
            problems.append(f"{number}: expected NAME:HASH")
        elif (problem := name_problem(name) or hash_problem(hashed)) is not None:
            problems.append(f"{number}: {problem}")
        elif name in users:
            problems.append(f"{number}: the user is there already; the first line counts")
        else:
            users[name] = hashed
    return UserFile(users, tuple(problems))

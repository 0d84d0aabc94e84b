"""Passwords of accounts: which are taken (NIST SP 800-63B), how they are written the same, and Argon2id (RFC 9106).

Sections of SP 800-63B are cited here, and in what is around, as revision 3 numbers them.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from config.settings import Settings
from control import breached_passwords
from control.common_passwords import ROWS, WHOLE, WORDS, published
from control.errors import Refused

SHORTEST, LONGEST = 12, 1024
"""Characters, after :func:`prepared`."""
AT_ONCE = 2
"""Hashes that are computed at once in one process: each takes 64 MiB, so a flood of sign-ins waits."""

REPEATED = re.compile(r"(.{1,6}?)\1+.{0,2}", re.DOTALL)
JOINERS = "\u200c\u200d"


class Hashing:
    """Argon2id with argon2-cffi's parameters of today (RFC 9106 4: the second recommended option), unless given others.

    The parameters are within each hash, so that older hashes go on to verify.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = threading.BoundedSemaphore(AT_ONCE)

    def hash(self, password: str) -> str:
        """The hash of a :func:`prepared` password, with a salt of its own."""
        with self._turn:
            return self._hasher.hash(password)

    def verify(self, hash: str | None, password: str) -> bool:
        """Whether this is the password, as it was typed.

        ``hash`` None: there is no such account. That takes as long as a wrong password, and so does one that could be
        nobody's. Raises Refused where the stored hash is damaged.
        """
        try:
            candidate = prepared(password)
        except Refused:
            hash, candidate = None, ""
        nobodys = self._nobodys  # made once, whoever asks first
        with self._turn:
            try:
                self._hasher.verify(nobodys if hash is None else hash, candidate)
            except VerifyMismatchError:
                return False
            except (InvalidHashError, VerificationError):
                raise Refused("the account's stored password is damaged; set another: sallyport admin passwd") from None
        return hash is not None

    def outdated(self, hash: str) -> bool:
        """Whether it was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(hash)

    @cached_property
    def _nobodys(self) -> str:
        return self.hash("nobody's password")


STANDARD = Hashing()


def prepared(password: str) -> str:
    """The password as it is hashed, so that it is the same from every keyboard. Raises Refused for what can be none.

    As OpaqueString (RFC 8265 4.2) does, spaces of all kinds become the common one, and what is a control character or
    unassigned is refused; the normal form is NFKC, as SP 800-63B 5.1.1.2 has it.
    """
    if len(password) > LONGEST:
        raise Refused(f"the password is too long; expected {SHORTEST} to {LONGEST} characters")
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    made = unicodedata.normalize("NFKC", spaced)
    if any(unicodedata.category(each)[0] == "C" and each not in JOINERS for each in made):
        raise Refused("the password has a character that cannot be typed the same everywhere; leave it out")
    if len(made) > LONGEST:  # a ligature becomes several
        raise Refused(f"the password is too long; expected {SHORTEST} to {LONGEST} characters")
    return made


def check_new(password: str, account: str, settings: Settings) -> str:
    """The password, prepared, where it may become the account's. Raises Refused; the text holds nothing of it.

    Every new password comes through here, whoever sets it. Where there is to be a list of breached ones
    (``console.breached_passwords``) and it cannot be asked, there is no new password.
    """
    made = prepared(password)
    if len(made) < SHORTEST:
        raise Refused(f"the password is too short; expected at least {SHORTEST} characters, of any kind")
    if _is_common(made.casefold(), account.casefold()):
        raise Refused(
            "the password is among the first that are guessed; take another, such as a few words that do not belong "
            "together"
        )
    if settings.console.breached_passwords is not None:
        _refuse_breached(settings.console.breached_passwords, {made, password})
    return made


def _refuse_breached(path: str, written: set[str]) -> None:
    """``written``: the password as it is hashed here and as it was typed, since a list has it as others wrote it."""
    try:
        breached = breached_passwords.holds(path, written)
    except breached_passwords.UnusableListError as error:
        raise Refused(
            f"no password can be set, since the list of breached ones ({breached_passwords.SETTING}) cannot be used: "
            f"{error}; put a good file there"
        ) from None
    if breached:
        raise Refused(
            "the password is in the list of breached passwords: somebody had it stolen, and it is guessed since; take "
            "another that is used nowhere else"
        )


def _is_common(password: str, account: str) -> bool:
    if password in WHOLE or password in published() or REPEATED.fullmatch(password):
        return True
    if any(password in row or password in row[::-1] for row in ROWS):
        return True
    letters = _letters(password)
    words = {*WORDS, _letters(account), _letters(account.partition("@")[0])} - {""}
    return letters != "" and any(letters == word * (len(letters) // len(word)) for word in words)


def _letters(text: str) -> str:
    return "".join(each for each in text if each.isalpha())

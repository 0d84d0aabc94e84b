"""The commonest passwords, as far as they are long enough to be taken (NIST SP 800-63B 5.1.1.2).

Two kinds of knowledge: what is guessed first by its make (a word with digits around it, a piece that repeats, a run
over the keyboard), which no list ends; and what many people have had, whatever it looks like, which no rule finds.

The second is common_passwords.txt: of all passwords of 12 characters or more, case aside, the 5,000 commonest in the
ten million that Mark Burnett put into the public domain in 2015, the commonest first, and behind them what else of that
length is in the list of about 20,000 that Django ships.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

PUBLISHED_FILE = Path(__file__).with_name("common_passwords.txt")

WHOLE = frozenset({
    "abcd12345678", "abcdefg12345", "1234567890ab", "q1w2e3r4t5y6", "1q2w3e4r5t6y", "zaq12wsxcde3", "zaq1zaq1zaq1",
    "xsw2zaq1cde3", "trustno1trustno1", "iloveyouforever", "iloveyousomuch", "letmeinplease",
    "correcthorsebatterystaple", "passwordpassword", "mypasswordis", "mypassword123", "thisismypassword",
    "thisisapassword", "unknownpassword", "nopassword123", "adminadminadmin", "administrator", "administrateur",
    "administrador", "superuserpassword", "rootpassword", "defaultpassword", "changemechangeme", "changeitchangeit",
    "changethispassword", "pleasechangeme", "temporarypassword", "secretsecret", "supersecretpassword",
    "qwertyuiop[]", "qwerty123456", "azertyuiopqs", "qwertzuiopue", "googleaccount", "myspace12345",
    "facebookpassword", "footballfootball", "correct horse battery staple",
})  # fmt: skip
WORDS = frozenset({
    "admin", "administrator", "changeit", "changeme", "default", "dragon", "football", "iloveyou", "letmein", "login",
    "master", "monkey", "passphrase", "passwd", "password", "passwort", "princess", "proxy", "qwerty", "qwertyuiop",
    "qwertz", "root", "sallyport", "sallyportproxy", "secret", "sunshine", "superman", "superuser", "test", "user",
    "welcome",
})  # fmt: skip
"""What makes no password by itself, or repeated, with nothing but digits and punctuation around it."""
ROWS = (
    "01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p",
)  # fmt: skip
"""Runs, of which no part is a password, forwards or backwards."""


@cache
def published() -> frozenset[str]:
    """The list in the file, casefolded; read when it is first asked for."""
    return frozenset(PUBLISHED_FILE.read_text("ascii").splitlines())

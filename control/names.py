"""Names that administrators give to CAs."""

from __future__ import annotations

import unicodedata

from control.errors import Refused

LONGEST_NAME = 128


def check_name(name: str, what: str) -> None:
    """Raise Refused where the name cannot be one; ``what``: a trusted CA, a signing CA.

    What cannot be seen, or turns the direction of the text around it, would make two names look like one.
    """
    if not 1 <= len(name) <= LONGEST_NAME or not seen(name) or name != name.strip():
        raise Refused(
            f"{name[:LONGEST_NAME]!r} cannot name {what}; "
            f"expected 1 to {LONGEST_NAME} printable characters, no space at the ends"
        )


def seen(text: str) -> bool:
    """Whether every character of the text can be seen and leaves the direction of what is around it alone."""
    return text.isprintable() and not any(unicodedata.category(each) in ("Cf", "Co", "Cs") for each in text)


def storable(name: str) -> bool:
    """Whether anything can have that name: one with halves of characters (bytes that are no UTF-8) nothing has."""
    return not any("\ud800" <= each <= "\udfff" for each in name)

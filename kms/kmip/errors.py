"""What can go wrong with a key manager, whose fault it is, and whether it is worth asking another one."""

from __future__ import annotations

from enum import StrEnum

FAULTS = frozenset({"GENERAL_FAILURE", "CRYPTOGRAPHIC_FAILURE"})
"""Refusals by which a key manager says that it is not well (what keeps its keys is away, say): another host may be."""
LONGEST_TEXT = 300
"""Characters of what a key manager says, in a message of ours."""


class Reason(StrEnum):
    """Why a request failed: the label of a metric, and what the next step depends on."""

    NAME = "name"
    """The host's name has no address."""
    ADDRESS = "address"
    """It leads to an address that may not be connected to."""
    CONNECT = "connect"
    """No TCP connection."""
    TLS = "tls"
    """No TLS: their certificate, or ours, or what is spoken."""
    TIMEOUT = "timeout"
    CLOSED = "closed"
    """The connection ended before the answer had come."""
    MALFORMED = "malformed"
    """The answer is no KMIP, or too large."""
    MISMATCH = "mismatch"
    """The answer is to another request."""
    VERSION = "version"
    """No version of KMIP in common."""
    REFUSED = "refused"
    """The key manager answered, and said no."""
    SIGNATURE = "signature"
    """What was to be a signature does not verify."""
    BUSY = "busy"
    """Too many wait already."""
    LIMITED = "limited"
    """More signatures are wanted than may be asked for in a second."""
    UNAVAILABLE = "unavailable"
    """Every host failed a moment ago."""


class KmipError(Exception):
    """A request to a key manager failed. The message is one line, without anything secret.

    ``said``: the ResultReason that the key manager gave (KMIP 1.4, 9.1.3.2.30), where it answered.
    """

    def __init__(self, reason: Reason, message: str, said: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.said = said

    @property
    def answered(self) -> bool:
        """Whether the key manager is well and has refused: another one of the same cluster would say the same."""
        return self.reason is Reason.REFUSED and self.said not in FAULTS

    @property
    def crowded(self) -> bool:
        """Whether nobody was asked, since too much was wanted at a time: the key manager may be as well as can be."""
        return self.reason in (Reason.BUSY, Reason.LIMITED)


def cleaned(text: str) -> str:
    """What a stranger says, fit for one line of ours."""
    printable = "".join(character if character.isprintable() else " " for character in text[: LONGEST_TEXT * 2])
    return " ".join(printable.split())[:LONGEST_TEXT]

"""Who changes something, and from where: what the audit log has of each change."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """``name``: a person or a program as the log is to have it; ``origin``: the way in, and the machine or address."""

    name: str
    origin: str

    def __post_init__(self) -> None:
        for field in ("name", "origin"):
            shown = "".join(each if each.isprintable() else "?" for each in getattr(self, field))
            object.__setattr__(self, field, shown[:LONGEST] or "unknown")


ITSELF = Actor("sallyport", "the installation itself")
"""What nobody asked for: the first tenant."""

"""What can stop a request, with the code that the worker is told."""

from __future__ import annotations

from issuer.protocol import Code


class Refusal(Exception):  # noqa: N818 - it is what the issuer answers, not a fault of its own
    """A request that gets no leaf and no key. The message is one line and holds no secret."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Superseded(Exception):  # noqa: N818 - nothing went wrong: the work is done again with the CA of now
    """Another signing CA has become the tenant's active one, or the tenant is gone: what was made is not used."""

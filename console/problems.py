"""Errors as answers: what goes wrong, with its status and its stable type, as a problem document (RFC 9457).

Types are URNs, ``urn:sallyport:problem:…``; ``docs/api.md`` lists them. Pages show the same sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any

from certs.bundle import BundleFinding
from control.due import Due
from control.errors import InstallationError, Missing, Outdated, Refused, Taken
from control.guessing import TooManyGuesses
from control.sign_in import WrongCredentials
from store.errors import StoreError

MEDIA_TYPE = "application/problem+json"
URN = "urn:sallyport:problem:"
_ON_THE_COMMAND_LINE = re.compile(
    r"(?:[;,:]? (?:see|set another|(?:give --[a-z-]+, )?or make one|remove it first))?[:;]? \(?sallyport [^;)]*\)?$"
)
"""Where a sentence of the use cases ends with a command, which is no help to who sees it here."""


class Problem(Exception):  # noqa: N818 - it is the answer, whoever's fault it is
    """An answer that is no success. ``detail`` is one sentence or several, for a person."""

    def __init__(
        self,
        status: HTTPStatus,
        type: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.type = type
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers or {}
        self.more = more

    def document(self, id: str) -> dict[str, Any]:
        """The problem document; ``id`` is the request's, which the log has too."""
        found: dict[str, Any] = {
            "type": URN + self.type,
            "title": TITLES.get(self.type, self.status.phrase),
            "status": int(self.status),
            "detail": self.detail,
            "instance": f"urn:sallyport:request:{id}",
            **self.more,
        }
        if self.errors:
            found["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in self.errors]
        return found


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one member of a request. ``pointer`` says where, ``#/name`` or ``?limit``."""

    pointer: str
    detail: str


TITLES = {
    "invalid": "The request is not as documented",
    "refused": "What was asked for cannot be done",
    "missing": "There is no such thing",
    "taken": "There is one already",
    "outdated": "Somebody else changed it meanwhile",
    "unauthorized": "Sign in first",
    "wrong-credentials": "Name, password or code are wrong",
    "too-many-guesses": "Too many wrong guesses",
    "forbidden": "Your account or token may not do that",
    "due": "Your account has something to do first",
    "csrf": "The request does not come from the console",
    "method": "Another method was expected",
    "too-large": "Too large",
    "in-progress": "The same request is still being answered",
    "key-reused": "The idempotency key was used for another request",
    "unavailable": "The store cannot be used just now",
    "internal": "Sallyport failed",
}
"""Every type, and what it is in short."""


@dataclass(frozen=True, slots=True)
class _Kind:
    status: HTTPStatus
    type: str
    headers: dict[str, str] = field(default_factory=dict)


_KINDS: tuple[tuple[type[Exception], _Kind], ...] = (
    (Missing, _Kind(HTTPStatus.NOT_FOUND, "missing")),
    (Taken, _Kind(HTTPStatus.CONFLICT, "taken")),
    (Outdated, _Kind(HTTPStatus.PRECONDITION_FAILED, "outdated")),
    (WrongCredentials, _Kind(HTTPStatus.UNAUTHORIZED, "wrong-credentials")),
    (TooManyGuesses, _Kind(HTTPStatus.TOO_MANY_REQUESTS, "too-many-guesses")),
    (Refused, _Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "refused")),
    (StoreError, _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", {"Retry-After": "5"})),
    (InstallationError, _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", {"Retry-After": "5"})),
)
EXPECTED: tuple[type[Exception], ...] = tuple(kind for kind, _ in _KINDS)
"""What the use cases raise on purpose."""
UNAVAILABLE = "The store is locked, full or out of reach; nothing was changed. The daemon's log says which, and where."
"""The error itself names files of the machine, and whoever sees this may be a stranger."""


def of(error: Exception, now: datetime) -> Problem:
    """The answer to an error that the use cases raise on purpose."""
    kind = next(kind for raised, kind in _KINDS if isinstance(error, raised))
    headers, more = dict(kind.headers), dict[str, Any]()
    if kind.status is HTTPStatus.SERVICE_UNAVAILABLE:
        return Problem(kind.status, kind.type, UNAVAILABLE, headers=headers)
    if isinstance(error, TooManyGuesses) and error.again_at is not None:
        headers["Retry-After"] = str(max(1, math.ceil((error.again_at - now).total_seconds())))
    if isinstance(error, Refused) and error.findings:
        more["findings"] = [finding_told(each) for each in error.findings]
    return Problem(kind.status, kind.type, sentence(str(error)), headers=headers, **more)


def finding_told(finding: BundleFinding) -> dict[str, Any]:
    """What was found in an upload."""
    return {
        "level": finding.level,
        "code": finding.code,
        "message": finding.message,
        "certificate": finding.certificate,
    }


def sentence(text: str) -> str:
    """An error's text for who is not on the command line."""
    return _ON_THE_COMMAND_LINE.sub("", text)


DUE = {
    Due.PASSWORD: "The password of account {} was given by somebody else, and is to be changed before anything else is "
    "done. The console leads there: open it in a browser, at /me/first.",
    Due.SECOND_FACTOR: "Everybody who signs in here has to have a second factor, and account {} has none: it is to be "
    "set up before anything else is done. The console leads there: open it in a browser, at /me/first.",
}


def unauthorized() -> Problem:
    """Nobody asks, or nobody who is known."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "There is no valid session or API token with this request; it may have ended.",
        headers={"WWW-Authenticate": 'Bearer realm="Sallyport"'},
    )


def forbidden(what: str) -> Problem:
    """Who asks is known, and may not."""
    return Problem(HTTPStatus.FORBIDDEN, "forbidden", what)


def due(what: Due, account: str) -> Problem:
    """Who asks is known, and has something else to do before he may do anything."""
    return Problem(HTTPStatus.FORBIDDEN, "due", DUE[what].format(account), due=what.value)


def missing(what: str) -> Problem:
    """There is no such thing, or who asks must not know that there is."""
    return Problem(HTTPStatus.NOT_FOUND, "missing", what)

"""Entity tags: the tenant's generation, so that nobody overwrites what he has not seen (RFC 9110, section 13.1.1).

A change with ``If-Match`` is refused (412) only where the same thing was changed after that generation; what others
did to other things is in nobody's way.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from console.problems import FieldError, Problem

_TAG = re.compile(r'(?:W/)?"g(\d{1,18})"')


def etag(generation: int) -> str:
    """The entity tag of what belongs to a tenant of that generation."""
    return f'"g{generation}"'


def generation_of(if_match: str | None) -> int | None:
    """The generation that whoever asks has seen; None: he does not say, or any will do. Raises Problem."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        detail = 'If-Match is no entity tag of this API; expected one that an answer has had, as "g12"'
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid", detail, errors=[FieldError("If-Match", detail)])
    return int(found[1])

"""Does a client prefer a problem document to a page? Its Accept field (RFC 9110 12.5.1), proactively read."""

from __future__ import annotations

import re

_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_JSON = ("application/problem+json", "application/json")
_MAX_RANGES = 64


def prefers_json(accept: str | None) -> bool:
    """True where a JSON type has a higher quality than HTML, or the same and is named more exactly or earlier.

    Without the field, or with ``*/*`` alone, a page is what the client gets; also where it accepts neither, since an
    answer that explains is better than 406 (RFC 9110 15.5.7 allows it).
    """
    if not accept:
        return False
    ranges = [_range(text) for text in accept.lower().split(",")[:_MAX_RANGES]]
    json = max(_rank(media_type, ranges) for media_type in _JSON)
    html = _rank("text/html", ranges)
    return json[0] > 0 and json > html


def _range(text: str) -> tuple[str, float]:
    """A media range and its quality; a quality that is none counts as not acceptable, parameters do not count."""
    media_type, *parameters = (part.strip() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            return media_type, float(value) if _QUALITY.fullmatch(value) else 0.0
    return media_type, 1.0


def _rank(media_type: str, ranges: list[tuple[str, float]]) -> tuple[float, int, int]:
    """Quality, exactness (the most exact range that matches decides, RFC 9110 12.5.1) and minus the place."""
    kind = media_type.partition("/")[0]
    for exactness, pattern in ((2, media_type), (1, f"{kind}/*"), (0, "*/*")):
        for place, (text, quality) in enumerate(ranges):
            if text == pattern:
                return quality, exactness, -place
    return 0.0, -1, 0

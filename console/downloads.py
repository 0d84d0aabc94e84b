"""Certificates as files to keep: how an answer names them, whatever the names of what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from cryptography import x509
from fastapi import Response

from certs.download import encode, extension, media_type

LONGEST_STEM = 100


def attachment(chosen: Sequence[x509.Certificate], form: str, name: str) -> Response:
    """The certificates as a file in one of certs.download.FORMATS, called after ``name``. Raises DownloadError."""
    return Response(
        encode(chosen, form, name),
        media_type=media_type(form),
        headers={"Content-Disposition": disposition(name, extension(form))},
    )


def disposition(name: str, ending: str) -> str:
    """Content-Disposition for a file of that name (RFC 6266; in UTF-8 as of RFC 8187).

    Of the name are left letters, digits and what no system takes for more than a character of a file's name.
    """
    kept = "".join(each if each.isalnum() or each in " ._-()" else "_" for each in name)[:LONGEST_STEM].strip(" .")
    stem = kept or "certificates"
    plain = stem.encode("ascii", "replace").decode("ascii").replace("?", "_")
    return f"attachment; filename=\"{plain}{ending}\"; filename*=UTF-8''{quote(stem + ending, safe='')}"

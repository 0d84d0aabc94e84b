"""How a :class:`~proxy.refusals.Refusal` is written: a page, or a problem document where the client prefers JSON.

The page is HTML without a script or anything loaded; the problem document is RFC 9457's. Host names and the text of
certificates come from strangers: everything is escaped where it is written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template

from certs.verdict import Finding
from proxy.negotiation import prefers_json
from proxy.refusals import Refusal

HTML = "text/html; charset=utf-8"
PROBLEM = "application/problem+json"

_PAGE = Path(__file__).with_name("block.html").read_text(encoding="utf-8")
_STYLE = _PAGE[_PAGE.index("<style>") + len("<style>") : _PAGE.index("</style>")]
_TEMPLATE = Template(_PAGE)
POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: the page's own style and nothing else."""


def proxy_status(refusal: Refusal) -> str:
    """The value of the Proxy-Status field (RFC 9209), a list of one member (RFC 9651)."""
    value = f"sallyport; error={refusal.error}"
    if refusal.details is not None:
        # RFC 9651 4.1.6: a String holds printable ASCII only, with backslash and quote escaped
        text = re.sub(r"[^\x20-\x7e]", "?", refusal.details)
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        value += f'; details="{text}"'
    return value


def render(refusal: Refusal, accept: str | None) -> tuple[str, bytes]:
    """Content type and body, by what the client's Accept field prefers. HTML where it does not say."""
    if prefers_json(accept):
        return PROBLEM, _problem(refusal)
    return HTML, _page(refusal)


def headers(refusal: Refusal, content_type: str, length: int) -> list[tuple[str, str]]:
    """The fields of the answer but for Connection, for HTTP/1.1 and, in lower case, for HTTP/2."""
    fields = [
        ("Content-Type", content_type),
        ("Content-Length", str(length)),
        ("Content-Language", "en"),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Proxy-Status", proxy_status(refusal)),
    ]
    if refusal.retry_after is not None:
        fields.append(("Retry-After", str(refusal.retry_after)))
    return fields


def reason(status: int) -> str:
    """The reason phrase of a status code; empty where it is not a registered one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def answer_bytes(refusal: Refusal, accept: str | None, close: bool = True, head_only: bool = False) -> bytes:
    """A whole HTTP/1.1 response. ``head_only`` answers a HEAD request: the same head, no body."""
    content_type, body = render(refusal, accept)
    fields = headers(refusal, content_type, len(body))
    if close:
        fields.append(("Connection", "close"))
    lines = [f"HTTP/1.1 {refusal.status} {reason(refusal.status)}", *(f"{name}: {value}" for name, value in fields)]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + body


def _page(refusal: Refusal) -> bytes:
    findings = "".join(map(_finding, refusal.findings))
    return _TEMPLATE.substitute(
        plain=_plain(refusal),
        title=escape(refusal.title),
        host=f'<p class="host">{escape(refusal.host)}</p>\n' if refusal.host else "",
        explanation=escape(refusal.explanation),
        findings=f"<h2>What is wrong</h2>\n<ul>\n{findings}</ul>\n" if findings else "",
        remedy=escape(refusal.remedy),
        error=escape(refusal.error if refusal.details is None else f"{refusal.error} ({refusal.details})"),
        id=escape(refusal.id),
    ).encode()


def _finding(finding: Finding) -> str:
    parts = [f"<code>{escape(finding.defect.value)}</code> {_place(finding)}<p>{escape(finding.explanation)}"]
    if finding.clause:
        parts.append(f" <small>({escape(finding.clause)})</small>")
    parts.append("</p>")
    if finding.remedy:
        parts.append(f"<p>{escape(finding.remedy)}</p>")
    return f"<li>{''.join(parts)}</li>\n"


def _place(finding: Finding) -> str:
    if finding.certificate is None:
        return ""
    where = (
        "the server's own certificate"
        if finding.certificate == 0
        else f"certificate {finding.certificate} above the server's own"
    )
    return f"<small>{where}</small>"


def _plain(refusal: Refusal) -> str:
    """The same in plain text at the top of the page, as a comment: for who reads it in a terminal."""
    lines = [refusal.title, *([f"host: {refusal.host}"] if refusal.host else ()), "", refusal.explanation]
    lines += [
        f"- {finding.defect.value}: {finding.explanation} {finding.remedy}".rstrip() for finding in refusal.findings
    ]
    lines += ["", refusal.remedy, "", proxy_status(refusal), f"id: {refusal.id}"]
    # without < and > nothing in it can end the comment
    return escape("\n".join(lines), quote=False)


def _problem(refusal: Refusal) -> bytes:
    """RFC 9457 3.1, with members of our own: error, details, host, id, remedy and findings."""
    document = {
        "type": f"urn:sallyport:error:{refusal.error}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.explanation,
        "instance": _instance(refusal.id),
        "error": refusal.error,
        "details": refusal.details,
        "remedy": refusal.remedy,
        "host": refusal.host,
        "id": refusal.id,
        "findings": [
            {
                "defect": finding.defect.value,
                "explanation": finding.explanation,
                "clause": finding.clause,
                "certificate": finding.certificate,
                "remedy": finding.remedy,
            }
            for finding in refusal.findings
        ],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _instance(id_: str) -> str:
    try:
        return uuid.UUID(id_).urn
    except ValueError:
        return f"urn:sallyport:refusal:{id_}"

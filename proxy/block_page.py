"""How a :class:`~proxy.refusals.Refusal` is written: a page, or a problem document where the client prefers JSON.

The page is HTML without a script or anything loaded; the problem document is RFC 9457's. Host names and the text of
certificates come from strangers: everything is escaped where it is written. Whom to ask is the operator's to say
(``block_page.contact``), and is the same in all of a process (:func:`set_contact`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template

from certs.verdict import Defect, Finding
from proxy.negotiation import prefers_json
from proxy.plain_words import WORDS
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


_contact = ""


def set_contact(text: str | None) -> None:
    """Whom people are to ask, on every page and problem document of this process from now on; None: it is not said.

    A setting of the process and not of a refusal: an answer is made in many places, and in some before a connection has
    a tenant.
    """
    global _contact
    _contact = text or ""


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
    if refusal.challenge:
        fields.append(("Proxy-Authenticate", refusal.challenge))
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
    blocked = [finding for finding in refusal.findings if finding.defect not in refusal.allowed]
    allowed = [finding for finding in refusal.findings if finding.defect in refusal.allowed]
    contact = f'<p class="contact">Whom to ask: <strong>{escape(_contact)}</strong></p>\n' if _contact else ""
    return _TEMPLATE.substitute(
        plain=_plain(refusal),
        title=escape(refusal.title),
        host=f'<p class="host">{escape(refusal.host)}</p>\n' if refusal.host else "",
        explanation=escape(refusal.explanation),
        findings=_list("What is wrong", blocked, refusal) + _list("Wrong too, but allowed here", allowed, refusal),
        remedy=escape(refusal.remedy),
        contact=contact,
        error=escape(refusal.error if refusal.details is None else f"{refusal.error} ({refusal.details})"),
        id=escape(refusal.id),
    ).encode()


def _list(title: str, findings: Sequence[Finding], refusal: Refusal) -> str:
    """What is wrong: each defect once in plain words, below it what was found, for whoever is to mend it."""
    items = []
    remedies = [finding.remedy for finding in findings]
    details: dict[Defect, str] = {}
    for number, finding in enumerate(findings, start=1):
        # What several can be mended by is said once, with the last.
        remedy = finding.remedy if finding.remedy not in remedies[number:] else ""
        details[finding.defect] = details.get(finding.defect, "") + _finding(finding, remedy)
    for defect, found in details.items():
        what, means = (escape(words.format(host=refusal.host or "the server")) for words in WORDS[defect])
        kind = ' class="allowed"' if defect in refusal.allowed else ""
        items.append(f"<li{kind}><strong>{what}</strong><p>{means}</p>{found}</li>\n")
    return f"<h2>{title}</h2>\n<ul>\n{''.join(items)}</ul>\n" if items else ""


def _finding(finding: Finding, remedy: str) -> str:
    text = finding.explanation + (f" ({finding.clause})" if finding.clause else "") + "."
    if remedy:
        text += f" {remedy[:1].upper()}{remedy[1:].removesuffix('.')}."
    return f'<p class="details"><code>{escape(finding.defect.value)}</code>: {escape(text)}</p>'


def _plain(refusal: Refusal) -> str:
    """The same in plain text at the top of the page, as a comment: for who reads it in a terminal."""
    lines = [refusal.title, *([f"host: {refusal.host}"] if refusal.host else ()), "", refusal.explanation]
    for finding in refusal.findings:
        passes = " (allowed here)" if finding.defect in refusal.allowed else ""
        lines.append(f"- {finding.defect.value}{passes}: {finding.explanation} {finding.remedy}".rstrip())
    lines += ["", refusal.remedy, *([f"Whom to ask: {_contact}"] if _contact else ())]
    lines += ["", proxy_status(refusal), f"id: {refusal.id}"]
    # without < and > nothing in it can end the comment
    return escape("\n".join(lines), quote=False)


def _problem(refusal: Refusal) -> bytes:
    """RFC 9457 3.1, with members of our own: error, details, host, id, remedy, contact and findings."""
    document = {
        "type": f"urn:sallyport:error:{refusal.error}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.explanation,
        "instance": _instance(refusal.id),
        "error": refusal.error,
        "details": refusal.details,
        "remedy": refusal.remedy,
        "contact": _contact or None,
        "host": refusal.host,
        "id": refusal.id,
        "findings": [
            {
                "defect": finding.defect.value,
                "explanation": finding.explanation,
                "clause": finding.clause,
                "certificate": finding.certificate,
                "remedy": finding.remedy,
                "allowed": finding.defect in refusal.allowed,
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

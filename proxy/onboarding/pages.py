"""The page for devices, and the short ones beside it: HTML without a script, and one stylesheet.

Whether the device trusts the root is found out without a script, too: the page asks for a second stylesheet over TLS,
which shows the one sentence and hides the other. A device that does not trust the root never reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import is_self_issued
from certs.device_guides import Guide, Step, filled
from certs.download import FILES
from certs.formats import title as named

_HERE = Path(__file__).parent
_PAGE = Template((_HERE / "page.html").read_text(encoding="utf-8"))
_NOTICE = Template((_HERE / "notice.html").read_text(encoding="utf-8"))
STYLE = (_HERE / "style.css").read_bytes()
TRUSTED_STYLE = (_HERE / "trusted.css").read_bytes()

_KINDS = {
    "root.pem": "PEM, for tools and servers",
    "root.cer": "DER, for Windows and macOS",
    "root.crt": "DER, for Android",
    "root.p7b": "PKCS #7",
    "root.mobileconfig": "configuration profile, for Apple's systems",
}
_ONE = "root.crt"
"""What a system gets whose own format cannot hold the certificate."""


@dataclass(frozen=True, slots=True)
class Device:
    """What the page says of the device that asks, and of its way here. Texts are not escaped yet."""

    own: str
    page: str
    """The page's address, without a slash at its end."""
    proxy: str
    """The proxy as a URL; "" where the device knows of none."""
    pac: str
    """Where the PAC file is, for a device that does not use the proxy yet; "": it cannot be had there."""
    contact: str
    past: bool
    """It has come straight to the listener's port, and not through the proxy."""


def fields(own: str) -> tuple[tuple[str, str], ...]:
    """The fields that every page has: nothing is loaded but our two stylesheets, and nobody is told of the visit."""
    policy = (
        f"default-src 'none'; style-src 'self' https://{own}/trusted.css; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return (("Content-Language", "en"), ("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"))


def front(root: x509.Certificate, now: datetime, shown: Guide, guides: Sequence[Guide], device: Device) -> str:
    """The page, with the steps of one system."""
    fingerprint = root.fingerprint(hashes.SHA256()).hex(":").upper()
    usable = _usable(root)
    file = shown.file if shown.file in usable else _ONE
    return _PAGE.substitute(
        plain=_plain(fingerprint, device),
        own=escape(device.own),
        check=_check(device),
        key=escape(shown.key),
        system=escape(shown.title),
        file=escape(file),
        kind=escape(_KINDS[file]),
        steps="".join(f"<li>{_step(step, device)}</li>\n" for step in shown.steps),
        note=f'<p class="soft">{escape(shown.note)}</p>\n' if shown.note else "",
        others="".join(_link(each, each is shown) for each in guides),
        name=escape(named(root.public_bytes(Encoding.DER))),
        ends=_ends(root, now),
        fingerprint=_grouped(fingerprint),
        files="".join(f'<li><a href="/{name}">{name}</a> ({escape(_KINDS[name])})</li>\n' for name in usable),
        proxy=_proxy(device),
        contact=_contact(device.contact),
    )


def notice(title: str, text: str, contact: str = "") -> str:
    """A short page, with a way to the other one."""
    return _NOTICE.substitute(
        plain=escape(f"{title}\n\n{text}", quote=False),
        title=escape(title), text=escape(text), contact=_contact(contact),
    )  # fmt: skip


def _usable(root: x509.Certificate) -> tuple[str, ...]:
    """The files that the certificate can be had as. A profile of Apple's installs roots alone."""
    return tuple(name for name, form in FILES.items() if form != "mobileconfig" or is_self_issued(root))


def _check(device: Device) -> str:
    own = escape(device.own)
    if device.past:
        return (
            "<p>You have come here past the proxy, so that it cannot be told yet. Let the device use the proxy "
            f'(below), then open <a href="http://{own}/">http://{own}/</a>.</p>\n'
        )
    return (
        '<p class="no"><strong>This device does not trust it yet.</strong> Websites will show warnings, or errors, '
        "until the certificate below is installed.</p>\n"
        '<p class="yes"><strong>This device trusts it.</strong> There is nothing more to do in this browser.</p>\n'
        f'<p>To see for yourself, open <a href="https://{own}/trusted">https://{own}/trusted</a>: a page says so, or '
        "the browser warns. After a change, load this page again. Programs with a trust store of their own are "
        "not meant.</p>\n"
    )


def _proxy(device: Device) -> str:
    if not device.proxy:
        return "<p>There is nothing to set: this network leads what the device sends through the proxy.</p>\n"
    automatic = (
        "<p>Where a device asks for the address of an automatic configuration (PAC):</p>\n"
        f'<p><code class="command">{escape(device.pac)}</code></p>\n'
    )
    return (
        f"{automatic if device.pac else ''}"
        "<p>Where it asks for the proxy itself, or for <code>https_proxy</code>:</p>\n"
        f'<p><code class="command">{escape(device.proxy)}</code></p>\n'
    )


def _step(step: Step, device: Device) -> str:
    text = escape(step.text)
    if not step.command:
        return text
    lines = escape(filled(step.command, device.page, device.proxy))
    return f"{text}<pre><code>{lines}</code></pre>"


def _link(guide: Guide, current: bool) -> str:
    mark = ' aria-current="page"' if current else ""
    return f'<li><a href="/{guide.key}"{mark}>{escape(guide.title)}</a></li>\n'


def _ends(root: x509.Certificate, now: datetime) -> str:
    end = root.not_valid_after_utc
    text = f"{end:%Y-%m-%d}"
    return f"<strong>{text}: it has expired</strong>" if end <= now else text


def _grouped(fingerprint: str) -> str:
    """In pieces of eight octets, between which lines may break: people compare piece by piece."""
    return "<wbr>".join(fingerprint[start : start + 24] for start in range(0, len(fingerprint), 24))


def _contact(contact: str) -> str:
    return f'<p class="contact">Whom to ask: <strong>{escape(contact)}</strong></p>\n' if contact else ""


def _plain(fingerprint: str, device: Device) -> str:
    """The same in plain text at the top of the page, as a comment: for who reads it in a terminal."""
    lines = [
        "The root certificate that this device has to trust:",
        f"  {filled('{fetch} -o sallyport-root.pem {site}/root.pem', device.page, device.proxy)}",
        f"  SHA-256 {fingerprint}",
        "Whether it does:",
        f"  {filled('{fetch}', '', device.proxy)} https://{device.own}/trusted",
        *([f"Automatic configuration of the proxy: {device.pac}"] if device.pac else ()),
    ]
    # without < and > nothing in it can end the comment
    return escape("\n".join(lines), quote=False)

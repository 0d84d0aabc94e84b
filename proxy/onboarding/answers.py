"""What a request to the proxy's own name gets, decided without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from certs.device_guides import GUIDES, guide, guide_for
from certs.download import FILES, DownloadError, encode, extension, media_type
from config import pac
from config.settings import LOCAL, Mode
from proxy.onboarding import pages
from proxy.reply import Reply

METHODS = ("GET", "HEAD")
STRAIGHT = frozenset({"explicit", "explicit-tls"})
"""Modes whose listeners answer who comes to them as to a web server."""
ORGANISATION = "Sallyport"
"""Who offers the root, as a configuration profile tells it."""


@dataclass(frozen=True, slots=True)
class Here:
    """What is known of where a device asks from, and whose it is."""

    own: str
    """The name that is the proxy itself."""
    root: bytes | None
    """The topmost certificate of the tenant's active signing CA (DER); None: there is none."""
    now: datetime
    mode: Mode
    """Of the listener that was reached."""
    address: str = ""
    """HOST:PORT of the listener as the device reaches it; "" where devices know of no proxy."""
    direct: tuple[str, ...] = LOCAL
    """``onboarding.direct`` of the settings."""
    contact: str = ""
    """Whom to ask."""
    site: str = ""
    """The address of the page, without a slash at its end; "": that of the name."""
    secure: bool = False
    """The request came through TLS under a leaf of the tenant's CA."""
    past: bool = False
    """It came straight to the listener's port, as to a web server, and not through the proxy."""

    @property
    def page(self) -> str:
        """Where the page is, for this device: in plain HTTP, since it is for those who do not trust the root yet."""
        return self.site or f"http://{self.own}"

    @property
    def proxy(self) -> str:
        """The proxy as a URL; "" where devices know of none."""
        return pac.url(self.mode, self.address)

    @property
    def pac(self) -> str:
        """Where a device gets the PAC file that does not use the proxy yet; "": not there."""
        return f"{self.proxy}/proxy.pac" if self.mode in STRAIGHT else ""


def answer(method: str, target: str, agent: str, here: Here) -> Reply:
    """The answer to a request. ``target`` is in origin-form; what is behind a ``?`` in it does not count."""
    if method not in METHODS:
        return _said(
            405,
            "This page can only be read",
            f"It was asked with another method; what it takes is {' or '.join(METHODS)}.",
            here,
            ("Allow", ", ".join(METHODS)),
        )
    path = target.partition("?")[0].removeprefix("/")
    if path == "style.css":
        return _reply(200, "text/css; charset=utf-8", pages.STYLE)
    if path == "proxy.pac":
        return _reply(200, pac.MEDIA_TYPE, _pac(here).encode("ascii"))
    if path in ("trusted", "trusted.css"):
        return _trusted(path, here)
    if path in FILES:
        return _file(path, here)
    shown = guide(path) if path else guide_for(agent)
    if shown is None:
        return _said(404, "There is nothing here", f"The proxy's own page is {here.page}/ and has no such part.", here)
    root = None if here.root is None else x509.load_der_x509_certificate(here.root)
    if root is None:
        return _no_root(here)
    device = pages.Device(
        own=here.own, page=here.page, proxy=here.proxy, pac=here.pac, contact=here.contact, past=here.past
    )  # fmt: skip
    return _html(200, pages.front(root, here.now, shown, GUIDES, device), here)


def _pac(here: Here) -> str:
    return pac.pac(pac.named(here.mode, here.address), here.own, here.direct)


def _trusted(path: str, here: Here) -> Reply:
    """Who can read this over TLS trusts the leaf that it came under, and so the root."""
    if not here.secure:
        fields = ("Location", f"https://{here.own}/{path}")
        return _said(307, "This is to be asked over TLS", f"Go to {fields[1]}.", here, fields)
    if path == "trusted.css":
        return _reply(200, "text/css; charset=utf-8", pages.TRUSTED_STYLE)
    return _said(
        200,
        "This device trusts it",
        "This page came under a certificate of this network's own CA, and the device has taken it: the root is "
        "installed, at least for the program that shows this. Where the program has warned first and was told to go "
        "on, it is not.",
        here,
    )


def _file(name: str, here: Here) -> Reply:
    """The root in one of the formats. Its name, as it is saved, tells whose it is."""
    if here.root is None:
        return _no_root(here)
    form = FILES[name]
    try:
        body = encode([x509.load_der_x509_certificate(here.root)], form, ORGANISATION)
    except DownloadError as error:
        return _said(404, "This certificate is not to be had in that format", f"{error}.", here)
    # Firefox, Android and iOS offer to install what they are shown, and only save what comes as an attachment.
    installed = form in ("android", "mobileconfig")
    saved = () if installed else (("Content-Disposition", f'attachment; filename="sallyport-root{extension(form)}"'),)
    return _reply(200, media_type(form), body, *saved)


def _no_root(here: Here) -> Reply:
    return _said(
        503,
        "There is no root certificate to give",
        "The tenant that this device belongs to has no active signing CA. Ask the people who run this proxy.",
        here,
    )


def _said(status: int, title: str, text: str, here: Here, *more: tuple[str, str]) -> Reply:
    return _html(status, pages.notice(title, text, here.contact), here, *more)


def _html(status: int, text: str, here: Here, *more: tuple[str, str]) -> Reply:
    return _reply(status, "text/html; charset=utf-8", text.encode(), *pages.fields(here.own), *more)


def _reply(status: int, content_type: str, body: bytes, *more: tuple[str, str]) -> Reply:
    fields = (
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        # Another CA may be the active one in a moment, and another tenant's device behind the same cache.
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *more,
    )
    return Reply(status, fields, body)

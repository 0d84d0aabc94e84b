"""Every page and what its links lead to, found from the pages themselves; and what pages cost.

Where something is to be had at an address that no page has, the walk does not come by: so every route that has a page
of its own is begun with as well.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from starlette.testclient import TestClient

from control import bypass_rules
from store import audit_log, tenants, trusted_cas
from tests.console.conftest import ORIGIN, Console
from tests.console.fakes import Telling
from tests.harness.console_content import fill, tell
from tests.harness.console_routes import operations
from tests.harness.pki import NOW, Authority

ENDLESS = ("/events", "/progress", "/stream", "/steps")
FIRST_PAGE = 150 << 10
"""Bytes of the first page, with all that it loads."""
ROUTES = "the routes"
"""Where the walk begins."""
MANY = 1000
SECONDS = 30.0
"""That a page of so much may take, on a machine that is busy: far above what it does take, which is printed."""


class Links(HTMLParser):
    """What a page refers to: ``pages`` to go to, ``fragments`` that htmx gets, ``files`` that come with the page.

    ``asking`` are those of them that are sent with what somebody ticks or types.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pages: list[str] = []
        self.fragments: list[str] = []
        self.files: list[str] = []
        self.asking: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in given:
            self.pages.append(given["href"])
        if tag == "form" and given.get("method", "").lower() == "get":
            self.pages.append(given.get("action", ""))
            self.asking.add(given.get("action", ""))
        if "hx-get" in given:
            self.fragments.append(given["hx-get"])
            self.asking |= {given["hx-get"]} if tag == "input" or "hx-include" in given else set()
        if "formaction" in given:
            self.pages.append(given["formaction"])
            self.asking.add(given["formaction"])
        self.files += [given[name] for name in ("src",) if name in given]
        if tag == "link":
            self.files.append(given["href"])


@dataclass
class Walk:
    """What was found on the way. ``pages`` are addresses that a browser shows, ``faults`` what leads nowhere."""

    pages: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    asked: set[tuple[str, bool]] = field(default_factory=set)
    asking: set[str] = field(default_factory=set)


def walk(console: Console, client: TestClient, tenant: str = "default") -> Walk:
    """Follow every link of every page, from the first one and from every route that takes nothing but a tenant."""
    found = Walk()
    waiting = deque((address, ROUTES, False) for address in ("/", *starts(console, tenant)))
    while waiting:
        address, origin, fragment = waiting.popleft()
        address = urldefrag(address).url
        split = urlsplit(address)
        if split.netloc and f"{split.scheme}://{split.netloc}" != ORIGIN:
            found.faults.append(f"{origin}: leads elsewhere, to {address}")
            continue
        # Of another tenant its first page is enough: the others are the same ones.
        elsewhere = re.match("/t/[^/]+/.", split.path) is not None and not split.path.startswith(f"/t/{tenant}/")
        if (address, fragment) in found.asked or split.path.endswith(ENDLESS) or elsewhere:
            continue
        found.asked.add((address, fragment))
        answer = client.get(address, headers={"HX-Request": "true"} if fragment else {})
        if answer.status_code == 303:
            waiting.append((urljoin(address, answer.headers["location"]), address, False))
        elif answer.status_code in (400, 404, 422) and (origin == ROUTES or address in found.asking):
            continue  # it is about something that is named by who comes here
        elif answer.status_code >= 400:
            found.faults.append(f"{origin}: {address} answers {answer.status_code}")
        elif answer.headers.get("content-type", "").startswith("text/html"):
            if not fragment and "<html" in answer.text:
                found.pages.append(address)
            links = Links(answer.text)
            found.asking |= {urljoin(address, each) for each in links.asking}
            found.files.update(urljoin(address, each) for each in links.files)
            waiting += ((urljoin(address, each), address, False) for each in links.pages if _is_new(address, each))
            waiting += ((urljoin(address, each), address, True) for each in links.fragments)
    return found


def _is_new(address: str, link: str) -> bool:
    """Of orders, filters and pieces of a list the ones that a page itself offers, and not each with each."""
    return not (urlsplit(address).query and urlsplit(urljoin(address, link)).path == urlsplit(address).path)


def starts(console: Console, tenant: str = "default") -> Iterator[str]:
    """Pages that are there without a name or a question."""
    for one in operations():
        names = set(re.findall(r"\{(\w+)", one.path)) - {"tenant"}
        if one.method == "GET" and not one.api and not names and not one.query and not one.path.endswith(ENDLESS):
            yield one.at(tenant=tenant)


@pytest.fixture
def telling() -> Telling:
    return Telling()


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_every_link_leads_somewhere(console: Console, telling: Telling, filled: bool) -> None:
    browser = console.signed_in("ann")
    if filled:
        fill(console.inst, NOW)
        tell(telling, console.inst, NOW)
    found = walk(console, browser)
    assert not found.faults, "\n".join(found.faults)
    for file in sorted(found.files):
        assert file.startswith("/static/"), "from here alone"
        assert browser.get(file).status_code == 200, file
    navigation = set(re.findall(r'<li><a href="([^"]+)"', browser.get("/t/default/").text))
    assert navigation
    assert {each.partition("?")[0] for each in found.pages} >= navigation


def test_the_first_page_is_small(console: Console, telling: Telling) -> None:
    browser = console.signed_in("ann")
    fill(console.inst, NOW)
    tell(telling, console.inst, NOW)
    page = browser.get("/t/default/")
    sizes = {"/t/default/": len(page.content)}
    sizes |= {each: len(browser.get(each).content) for each in Links(page.text).files}
    print(f"first page: {sum(sizes.values()) / 1024:.0f} KiB {sizes}")  # noqa: T201 - for who measures
    assert sum(sizes.values()) < FIRST_PAGE
    assert len(sizes) > 3


def test_pages_of_long_lists_are_answered_in_time(console: Console, telling: Telling) -> None:
    browser = console.signed_in("ann")
    one = Authority.root("One of many").raw
    with console.inst.store.transaction() as c:
        tenant = tenants.by_name(c, "default")
        assert tenant is not None
        for n in range(MANY):
            trusted_cas.add(c, tenant.id, f"CA {n}", True, [one], sha256(str(n).encode()).digest(), NOW, "ann")
            audit_log.write(c, tenant.id, "default", NOW, "ann", "test", "tenant.show", f"{n}", None, None, 1)
    bypass_rules.add(console.inst, "default", [f"host-{n}.example" for n in range(MANY)], NOW)
    for address in starts(console):
        began = time.perf_counter()
        answer = browser.get(address)
        took = time.perf_counter() - began
        print(f"{took * 1000:7.0f} ms {len(answer.content) / 1024:6.0f} KiB {address}")  # noqa: T201 - for who measures
        assert took < SECONDS, address

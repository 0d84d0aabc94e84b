"""The command, the REST API and the console's pages show the same, and act on each other and on what passes.

What is changed in one is seen in the others within a second, and so is what becomes of a connection.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.control.conftest import PASSWORD
from tests.e2e.conftest import PRIVATE, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx

HOST = "private.example"
PATIENCE = 120
SECOND = 1.0
IGNORED = {"findings", "used_by_hosts", "first_hosts", "id"}
"""What one of them tells besides."""

pytestmark = pytest.mark.timeout(600)


@dataclass
class Together:
    """A daemon, and three ways to see and change what it works with."""

    daemon: Daemon
    origin: Nginx
    program: httpx2.Client
    browser: httpx2.Client

    def cli(self, *args: str) -> Any:
        """What the command shows as JSON."""
        return json.loads(self.daemon.told(*args, "--json"))

    def api(self, path: str) -> Any:
        """What the API shows of the tenant."""
        answer = self.program.get(f"/api/v1/tenants/default/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def page(self, path: str) -> str:
        """What a page shows, without its markup."""
        answer = self.browser.get(f"/t/default/{path}")
        assert answer.status_code == 200, answer.text
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text.partition("<main")[2])).split())

    def sends(self, method: str, path: str, **body: Any) -> None:
        """A change over the API."""
        answer = self.program.request(method, f"/api/v1/tenants/default/{path}", json=body or None)
        assert answer.status_code < 300, answer.text

    def submits(self, path: str, **fields: str) -> None:
        """A change on a page, as htmx sends it."""
        answer = self.browser.post(f"/t/default/{path}", data=fields, headers={"HX-Request": "true"})
        assert answer.status_code < 300, answer.text
        assert "HX-Redirect" in answer.headers, answer.text

    def status(self) -> int:
        """What a client gets of the server that nobody vouches for."""
        return curl(self.daemon, f"https://{HOST}:{self.origin.sites[HOST].port}/").status

    def soon(self, *shown: Callable[[], object]) -> None:
        """All of it is so within a second."""
        for each in shown:
            self.daemon.within(SECOND, each)


@pytest.fixture(scope="module")
def together(scratch: Path, origin: Nginx) -> Iterator[Together]:
    with ExitStack() as stack:
        daemon = stack.enter_context(
            Daemon(scratch / "together", hosts={HOST: "127.0.0.1"}, common=PUBLIC, console=True)
        )
        given = scratch / "password"
        given.write_text(PASSWORD)
        daemon.told("admin", "create", "ann", "--password-file", str(given), "--own")
        token = json.loads(daemon.told("token", "create", "ci", "--account", "ann", "--scope", "write", "--json"))
        trusted = ssl.create_default_context(cafile=str(daemon.root))
        program, browser = (
            stack.enter_context(httpx2.Client(base_url=f"https://{daemon.console}", verify=trusted, timeout=PATIENCE))
            for _ in range(2)
        )
        program.headers["Authorization"] = f"Bearer {token['token']}"
        signed_in = browser.post("/sign-in", data={"name": "ann", "password": PASSWORD})
        assert signed_in.status_code == 303, signed_in.text
        csrf = re.search(r"X-CSRF-Token[^0-9a-f]+([0-9a-f]{64})", browser.get("/me").text)
        assert csrf is not None
        browser.headers["X-CSRF-Token"] = csrf[1]
        yield Together(daemon, origin, program, browser)


def same(one: Any, other: Any) -> bool:
    """Whether both show the same of one thing, as far as both tell of it."""
    shared = (one.keys() & other.keys()) - IGNORED
    assert len(shared) > 3
    return all(whole_seconds(one[key]) == whole_seconds(other[key]) for key in shared)


def whole_seconds(value: Any) -> Any:
    """The command tells moments to the second, the API as exactly as they are known."""
    return re.sub(r"(:\d\d)\.\d+Z$", r"\1Z", value) if isinstance(value, str) else value


def test_a_trusted_ca_is_the_same_and_counts_wherever_it_was_changed(together: Together, tmp_path: Path) -> None:
    file = tmp_path / "private.pem"
    file.write_bytes(PRIVATE.pem())
    assert together.status() == 502
    together.daemon.told("trusted-ca", "add", "Private", str(file))
    together.soon(
        lambda: together.status() == 200,
        lambda: [one["name"] for one in together.api("trusted-cas")["items"]] == ["Private"],
        lambda: re.search("Private active Private Root", together.page("certificates/trusted")),
    )
    assert same(together.cli("trusted-ca", "show", "Private"), together.api("trusted-cas/Private"))
    together.sends("POST", "trusted-cas/Private:deactivate")
    together.soon(
        lambda: together.status() == 502,
        lambda: together.cli("trusted-ca", "show", "Private")["status"] == "inactive",
        lambda: re.search("Private inactive Private Root", together.page("certificates/trusted")),
    )
    together.submits("certificates/trusted/activate", names="Private")
    together.soon(
        lambda: together.status() == 200,
        lambda: together.cli("trusted-ca", "show", "Private")["status"] == "active",
        lambda: together.api("trusted-cas/Private")["status"] == "active",
    )
    together.daemon.told("trusted-ca", "delete", "Private")
    together.soon(
        lambda: together.status() == 502,
        lambda: together.api("trusted-cas")["items"] == [],
        lambda: "No private CA is trusted yet" in together.page("certificates/trusted"),
    )


def test_an_error_row_is_the_same_and_counts_wherever_it_was_changed(together: Together) -> None:
    def told() -> tuple[str, str]:
        """As the command and the API show it: both of them, so that a difference is seen."""
        shown = [together.cli("errors", "show"), together.api("error-settings")["rows"]]
        rows = [each if isinstance(each, list) else each["rows"] for each in shown]
        first, second = ({one["row"]: one["action"] for one in each} for each in rows)
        assert first.keys() == second.keys()
        return first["incomplete_chain"], second["incomplete_chain"]

    def chosen() -> str:
        """As the page shows it."""
        text = together.browser.get("/t/default/errors").text
        select = text.partition('<select name="incomplete_chain"')[2].partition("</select>")[0]
        found = re.search(r'value="(\w*)"[^>]*selected', select)
        return found[1] if found else ""

    together.daemon.told("errors", "set", "incomplete_chain", "allow")
    together.soon(lambda: together.status() == 200, lambda: told() == ("allow", "allow"), lambda: chosen() == "allow")
    together.sends("PATCH", "error-settings", rows={"incomplete_chain": "block"})
    together.soon(lambda: together.status() == 502, lambda: told() == ("block", "block"), lambda: chosen() == "block")
    together.submits("errors", **{"incomplete_chain": "allow", "was-incomplete_chain": "block"})
    together.soon(lambda: together.status() == 200, lambda: told() == ("allow", "allow"))
    together.daemon.told("errors", "unset", "incomplete_chain")
    together.soon(lambda: together.status() == 502, lambda: told() == ("block", "block"), lambda: chosen() == "")


def test_a_bypass_rule_is_the_same_and_counts_wherever_it_was_changed(together: Together, tmp_path: Path) -> None:
    root = tmp_path / "private.pem"
    root.write_bytes(PRIVATE.pem())
    port = together.origin.sites[HOST].port

    def passes() -> bool:
        """Whether the client sees the server's own certificate, of the CA that it trusts itself."""
        done = curl(together.daemon, f"https://{HOST}:{port}/", "--cacert", str(root))
        return (done.exit_code, done.status) == (0, 200)

    def shown(there: bool) -> None:
        patterns = [HOST] if there else []
        together.soon(
            lambda: passes() is there,
            lambda: [one["pattern"] for one in together.cli("bypass", "list")] == patterns,
            lambda: [one["pattern"] for one in together.api("bypass-rules")["items"]] == patterns,
            lambda: (HOST in together.page("bypass")) is there,
        )

    assert not passes()
    together.daemon.told("bypass", "add", HOST, "--reason", "a test")
    shown(there=True)
    assert same(together.cli("bypass", "list")[0], together.api("bypass-rules")["items"][0])
    together.sends("DELETE", f"bypass-rules/{HOST}")
    shown(there=False)
    together.submits("bypass", patterns=HOST, reason="a test", expires="")
    shown(there=True)
    together.daemon.told("bypass", "remove", HOST)
    shown(there=False)


def test_an_exception_is_the_same_and_counts_wherever_it_was_changed(together: Together) -> None:
    given = {"host": HOST, "defect": "incomplete_chain", "action": "allow", "reason": "to be replaced"}

    def shown(there: bool) -> None:
        together.soon(
            lambda: together.status() == (200 if there else 502),
            lambda: len(together.cli("errors", "exceptions")) == there,
            lambda: len(together.api("exceptions")["items"]) == there,
            lambda: (given["reason"] in together.page("errors/exceptions")) is there,
        )

    options = [word for key in ("defect", "action", "reason") for word in (f"--{key}", given[key])]
    together.daemon.told("errors", "except", HOST, *options)
    shown(there=True)
    first, second = together.cli("errors", "exceptions")[0], together.api("exceptions")["items"][0]
    assert same(first, second)
    together.sends("DELETE", f"exceptions/{second['id']}")
    shown(there=False)
    together.submits("errors/exceptions", **given)
    shown(there=True)
    together.daemon.told("errors", "unexcept", str(together.cli("errors", "exceptions")[0]["id"]))
    shown(there=False)

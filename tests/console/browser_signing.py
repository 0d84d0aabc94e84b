"""Signing CAs in a browser: a request that openssl signs, up to the workers that purge; a CA in a real key manager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import Browser, Page, expect

from config.settings import Kmip, Settings
from console.daemon import Nobody
from control import kmip_forwarding, signing_cas
from control.kmip_forwarding import Credentials
from tests.console.conftest import Console
from tests.console.test_signing_pages import Told, worker
from tests.control.conftest import PASSWORD, account
from tests.control.test_signing_cas import imported, openssl, root_above, signed
from tests.harness.console_server import browsing, seen, serving, visiting
from tests.harness.kmip_server import KmipServer
from tests.harness.pki import NOW, Authority
from tests.kms.kmip.rig import HOST, SIGNING_KEY, server_identity
from tests.kms.kmip.rig import client as kmip_client
from tests.kms.kmip.rig import root as kmip_root

PAGE = "/t/default/certificates/signing"
PASSPHRASE = "seven green umbrellas"
PATIENCE = 60_000
"""Milliseconds that anything may take on a machine that has other things to do."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with browsing() as running:
        yield running


def sign_in(console: Console, page: Page) -> None:
    page.set_default_timeout(PATIENCE)
    account(console.inst, "ann")
    page.goto("/sign-in?next=/t/default/kmip")  # the first page asks workers for more than ours tell
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="On-premises infrastructure")).to_be_visible()


class Purging(Nobody):
    """Two workers, of which one is slower: it has purged the third time that it is asked after a change."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.asked = 0

    async def health(self) -> Sequence[Mapping[str, Any]]:
        with self.console.inst.reading("default") as (_, tenant):
            now = tenant.generation
        self.asked += 1
        return [worker(0, now, now), worker(1, now, now if self.asked > 3 else None)]


def test_a_request_is_signed_elsewhere_completed_and_activated(
    console: Console, browser: Browser, tmp_path: Path
) -> None:
    console.clock.advance(days=1)  # openssl's certificates begin now
    root = root_above(tmp_path)
    imported(console.inst, "an import with a rather long name, as people have them")
    daemon = Purging(console)
    with serving(replace(console.parts, daemon=daemon), tmp_path) as address, visiting(browser, address) as page:
        sign_in(console, page)
        page.goto(f"{PAGE}/new")
        seen(page, "new")
        page.get_by_label("Name", exact=True).fill("gateway")
        page.get_by_label("Common name").fill("Example Gateway CA")
        page.get_by_label("Country").fill("CH")
        page.get_by_role("button", name="Save and continue").click()
        expect(page.get_by_role("heading", name="gateway")).to_be_visible()
        request = x509.load_pem_x509_csr(page.locator("#csr").inner_text().encode())
        certificate = signed(tmp_path, request.public_bytes(Encoding.DER))

        page.get_by_text("Paste it instead").click()
        page.get_by_label("Certificates, pasted").fill(root.decode())
        page.get_by_role("button", name="Validate").click()
        expect(page.get_by_role("heading", name="It could not be saved like this")).to_be_visible()
        page.get_by_label("Certificates, pasted").fill("")
        page.locator("#f-certificates").set_input_files(
            [
                {"name": f"{name}.pem", "mimeType": "", "buffer": data}
                for name, data in (("r", root), ("c", certificate))
            ]
        )
        page.get_by_role("button", name="Validate").click()
        expect(page.get_by_role("heading", name="It can be saved")).to_be_visible()
        seen(page, "complete")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("gateway is saved.")).to_be_visible()
        seen(page, "table")

        page.get_by_label("More for gateway").click()
        seen(page, "menu")
        page.get_by_role("button", name="Rename").last.press("Enter")
        expect(page.locator("#dialog").get_by_label("New name")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_label("More for gateway")).to_be_focused()
        page.get_by_role("button", name="gateway", exact=True).click()
        expect(page.locator("#panel").get_by_role("heading", name="gateway", exact=True)).to_be_visible()
        seen(page, "panel")
        page.locator("#panel").get_by_role("button", name="Close").click()

        page.get_by_role("button", name="Activate gateway").click()
        expect(page.get_by_role("heading", name="Activate gateway")).to_be_visible()
        seen(page, "activate")
        page.locator("#dialog").get_by_role("button", name="Activate").click()
        expect(page.get_by_text("gateway is active")).to_be_visible()
        expect(page.get_by_text("Nothing of the CA before is left in all 2 workers")).to_be_visible()
        seen(page, "purge")
        assert daemon.asked > 3

        page.get_by_label("Choose all").check()
        page.locator("form[data-several]").get_by_role("button", name="Revoke").first.click()
        expect(page.get_by_role("heading", name="Revoke 3 signing CAs")).to_be_visible()
        seen(page, "revoke")
        page.keyboard.press("Escape")
    assert signing_cas.show(console.inst, "default").name == "gateway"


def issuing(folder: Path, name: str) -> bytes:
    """An issuing CA in ``<name>.pem``, and its key in ``<name>.key`` under a passphrase: both by openssl."""
    openssl(folder, "req", "-newkey", "rsa:2048", "-passout", f"pass:{PASSPHRASE}", "-keyout", f"{name}.key",
            "-outform", "DER", "-out", f"{name}.csr", "-subj", f"/O=Example, Inc./CN={name}")  # fmt: skip
    certificate = signed(folder, (folder / f"{name}.csr").read_bytes())
    (folder / f"{name}.pem").write_bytes(certificate)
    return certificate


def test_a_ca_is_imported_by_files_and_activated(console: Console, browser: Browser, tmp_path: Path) -> None:
    console.clock.advance(days=1)  # openssl's certificates begin now
    root_above(tmp_path)
    issuing(tmp_path, "first")
    issuing(tmp_path, "second")
    openssl(tmp_path, "pkcs12", "-export", "-in", "second.pem", "-inkey", "second.key", "-certfile", "root.pem",
            "-passin", f"pass:{PASSPHRASE}", "-passout", f"pass:{PASSPHRASE}", "-out", "second.p12")  # fmt: skip
    parts = replace(console.parts, daemon=Purging(console))
    with serving(parts, tmp_path) as address, visiting(browser, address) as page:
        sign_in(console, page)
        page.goto(PAGE)
        page.get_by_role("link", name="Import certificate").click()
        seen(page, "import")
        passphrase = page.get_by_label("Passphrase")
        page.get_by_label("Name", exact=True).fill("by files")
        page.locator("#f-certificates").set_input_files([tmp_path / "first.pem", tmp_path / "root.pem"])
        page.locator("#f-key").set_input_files(tmp_path / "first.key")
        passphrase.fill("not it")
        page.get_by_role("button", name="Validate").click()
        expect(page.locator("#outcome").get_by_role("status")).to_contain_text("does not open the private key")
        expect(passphrase).to_have_value("")
        expect(passphrase).to_be_focused()
        expect(page.get_by_label("Name", exact=True)).to_have_value("by files")
        assert page.locator("#f-certificates").evaluate("field => field.files.length") == 2
        seen(page, "import-wrong-passphrase")
        passphrase.fill(PASSPHRASE)
        page.get_by_role("button", name="Validate").click()
        expect(page.get_by_role("heading", name="It can be saved")).to_be_visible()
        seen(page, "import-validated")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("by files is saved. It signs once it is activated.")).to_be_visible()
        seen(page, "imported")
        page.get_by_role("button", name="Activate by files").click()
        page.locator("#dialog").get_by_role("button", name="Activate").click()
        expect(page.get_by_text("Nothing of the CA before is left in all 2 workers")).to_be_visible()

        page.goto(f"{PAGE}/import")
        page.get_by_label("Name", exact=True).fill("by one file")
        page.locator("#f-certificates").set_input_files(tmp_path / "second.p12")
        passphrase.fill("not it")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("the passphrase does not open the PKCS #12 file")
        expect(passphrase).to_have_value("")
        passphrase.fill(PASSPHRASE)
        page.get_by_label("Active").check()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("by one file is saved and active")).to_be_visible()
        seen(page, "imported-active")
    assert [(ca.name, ca.status) for ca in signing_cas.listing(console.inst, "default")] == [
        ("built-in", "inactive"), ("by files", "inactive"), ("by one file", "active"),
    ]  # fmt: skip


def test_a_ca_in_a_key_manager_is_connected_step_by_step(console: Console, browser: Browser, tmp_path: Path) -> None:
    chain = Authority.root("Organisation Root").intermediate("Organisation Proxy", key=SIGNING_KEY)
    settings = Settings(
        state_dir=console.inst.settings.state_dir,
        kmip=Kmip(allow_private_addresses=True, timeout=20, source_address="127.0.0.1"),  # type: ignore[arg-type]
        resolver={"hosts": {HOST: "127.0.0.1"}},  # type: ignore[arg-type] # as a file has it
    )
    inst = replace(console.inst, settings=settings)
    parts = replace(console.parts, inst=inst, daemon=Told([]))
    with (
        KmipServer(tmp_path / "kmip", server_identity(), kmip_root()) as manager,
        serving(parts, tmp_path) as address,
        visiting(browser, address) as page,
    ):
        manager.register("proxy", SIGNING_KEY)
        sign_in(console, page)
        page.goto("/t/default/kmip")
        seen(page, "kmip-not-set")
        credentials = Credentials(kmip_client().chain_pem(), kmip_root().pem(), kmip_client().key_pem())
        kmip_forwarding.set_(inst, "default", credentials, NOW)

        page.goto(f"{PAGE}/connect")
        page.get_by_label("Profile name").fill("hsm")
        page.get_by_label("Intermediate certificate", exact=True).set_input_files(
            {"name": "ca.pem", "mimeType": "", "buffer": chain.chain_pem(with_root=True)}
        )
        page.get_by_label("KMIP key name").fill("nothing of this name")
        page.get_by_label("Primary host").fill(f"{HOST}:{manager.port}")
        page.get_by_role("button", name="Validate").click()
        expect(page.get_by_role("heading", name="It could not be saved like this")).to_be_visible()
        expect(page.get_by_text("What to do:")).to_be_visible()
        seen(page, "connect-failed")
        page.get_by_label("KMIP key name").fill("proxy")
        page.get_by_role("button", name="Validate").click()
        expect(page.get_by_role("heading", name="It can be saved")).to_be_visible()
        expect(page.locator("ol.steps > li")).to_have_count(10)
        seen(page, "connect")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("hsm is saved.")).to_be_visible()

        page.goto("/t/default/kmip")
        expect(page.get_by_text("kms2.example:5696")).to_be_visible()
        page.get_by_role("button", name="Test hsm").click()
        expect(page.get_by_text("The host would sign now.")).to_be_visible()
        seen(page, "kmip")
    assert signing_cas.show(inst, "default", "hsm").kind == "on_premises"

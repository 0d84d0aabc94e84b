"""The ICAP inspector's options, and TLS to its server."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from mitmproxy import ctx
from mitmproxy.exceptions import OptionsError

from addons.icap import Icap
from addons.icap_heads import IcapError
from tests.addons.icap_asking import inspector, post, run
from tests.addons.mitm import configured, tflow
from tests.harness.icap_fake import FakeIcap
from tests.harness.pki import Authority
from tests.harness.processes import free_port


class TestTls:
    ROOT = Authority.root("ICAP Root")

    def server(self, tmp_path: Path, name: str) -> ssl.SSLContext:
        leaf = self.ROOT.intermediate("ICAP Issuing").leaf(name)
        file = tmp_path / "server.pem"
        file.write_bytes(leaf.chain_pem() + leaf.key_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def ask(self, fake: FakeIcap, **more: str) -> None:
        async def ask() -> None:
            async with fake, inspector(icap_url=fake.url.text, **more) as icap:
                await icap.request(post())
                await icap.response(tflow.tflow(resp=True))

        run(ask)

    def test_a_server_that_the_named_ca_vouches_for(self, tmp_path: Path) -> None:
        root = tmp_path / "root.pem"
        root.write_bytes(self.ROOT.pem())
        fake = FakeIcap(tls=self.server(tmp_path, "127.0.0.1"))
        self.ask(fake, icap_ca_file=str(root))
        assert len(fake.scans) == 2

    def test_another_name_is_not_trusted(self, tmp_path: Path) -> None:
        root = tmp_path / "root.pem"
        root.write_bytes(self.ROOT.pem())
        with pytest.raises(IcapError, match="its certificate is not trusted: IP address mismatch"):
            self.ask(FakeIcap(tls=self.server(tmp_path, "icap.example")), icap_ca_file=str(root))

    def test_another_ca_is_not_trusted(self, tmp_path: Path) -> None:
        with pytest.raises(IcapError, match=r"its certificate is not trusted: .*set icap_ca_file"):
            self.ask(FakeIcap(tls=self.server(tmp_path, "127.0.0.1")))


class TestOptions:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"icap_timeout": 3}, "no ICAP server: set icap_url"),
            ({"icap_url": "http://h/av"}, "icap_url: 'http://h/av' is no ICAP URL; expected icap://HOST"),
            ({"icap_reqmod_url": "icap://h"}, "icap_reqmod_url: 'icap://h' names no service"),
            ({"icap_url": "icap://h/a", "icap_respmod_url": "icap://h/b"}, "icap_url is for requests and responses"),
            ({"icap_url": "icap://h/a", "icap_timeout": 0}, "icap_timeout is 0; expected 1 or more"),
            ({"icap_url": "icap://h/a", "icap_preview": -2}, "icap_preview is -2; expected -1 or more"),
            ({"icap_url": "icap://h/a", "icap_max_connections": 0}, "icap_max_connections is 0; expected 1"),
            ({"icap_url": "icap://h/a", "icap_body_limit": 0}, "icap_body_limit is 0; expected 1"),
            ({"icap_url": "icap://h/a", "icap_ca_file": "/x"}, "icap_ca_file is for TLS"),
            ({"icap_url": "icaps://h/a", "icap_ca_file": "/not.pem"}, "icap_ca_file: /not.pem: No such file"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told_by_name(self, settings: dict[str, str | int], said: str) -> None:
        with pytest.raises(OptionsError) as caught, configured(Icap(), **settings):
            pass
        assert said in str(caught.value)

    def test_a_file_that_holds_no_certificate(self, tmp_path: Path) -> None:
        file = tmp_path / "ca.pem"
        file.write_text("nothing")
        settings = {"icap_url": "icaps://h/a", "icap_ca_file": str(file)}
        with pytest.raises(OptionsError, match="expected a PEM file"), configured(Icap(), **settings):
            pass

    def test_a_server_that_is_down_is_no_error_at_the_start(self) -> None:
        with configured(Icap(), icap_url=f"icap://127.0.0.1:{free_port()}/av"):
            pass

    def test_options_of_others_change_nothing(self) -> None:
        Icap().configure({"showhost"})

    def test_without_a_service_everything_is_an_error(self) -> None:
        async def ask() -> None:
            await Icap().request(post())

        with pytest.raises(IcapError, match="nothing is scanned"):
            run(ask)

    def test_wrong_options_leave_the_old_ones_in_force(self) -> None:
        fake = FakeIcap()

        async def ask() -> None:
            async with fake, inspector(icap_reqmod_url=fake.url.text) as icap:
                with pytest.raises(OptionsError):
                    ctx.options.update(icap_timeout=0)
                await icap.request(post())

        run(ask)
        assert len(fake.scans) == 1

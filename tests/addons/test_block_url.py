"""The block_url addon in mitmproxy's hands, and with traffic through a proxy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.exceptions import OptionsError

from addons.block_url import BlockUrl
from tests.addons.conftest import ROOT, Start, problem
from tests.addons.mitm import configured, tflow, tutils
from tests.addons.proxies import Mitmdump
from tests.harness.curl import command, curl
from tests.harness.origins import Nginx

LIST = """
# what nobody needs
bad.example                     Bad for <b>everyone</b>.
*.bad.example/games/*
good.example/blocked*           Not here & now.
"""


def made(tmp_path: Path, lines: str = LIST) -> BlockUrl:
    file = tmp_path / "blocked.txt"
    file.write_text(lines)
    addon = BlockUrl()
    with configured(addon, block_url_file=str(file)):
        return addon


def refusal(**options: str) -> str:
    """What configure says of these options."""
    with pytest.raises(OptionsError) as caught, configured(BlockUrl(), **options):
        pass
    return str(caught.value)


def asked(addon: BlockUrl, host: str, path: str = "/", **more: str) -> http.HTTPFlow:
    flow = tflow.tflow(
        req=tutils.treq(host=host, path=path.encode(), authority=b"", headers=((b"host", host.encode()),))
    )
    flow.request.method = more.pop("method", "GET")
    flow.request.stream = True
    for name, value in more.items():
        flow.request.headers[name] = value
    addon.requestheaders(flow)
    return flow


class TestAnswer:
    def test_a_page_with_the_text_of_the_line_escaped(self, tmp_path: Path) -> None:
        flow = asked(made(tmp_path), "bad.example")
        assert flow.response is not None
        assert flow.response.status_code == 403
        fields = flow.response.headers
        assert fields["proxy-status"] == 'sallyport; error=http_request_denied; details="block_url"'
        assert fields["cache-control"] == "no-store"
        assert fields["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in fields["content-security-policy"]
        page = flow.response.text or ""
        assert "Bad for &lt;b&gt;everyone&lt;/b&gt;." in page
        assert "<b>everyone" not in page
        assert "<script" not in page
        assert flow.id in page

    def test_a_problem_document_where_json_is_preferred(self, tmp_path: Path) -> None:
        flow = asked(made(tmp_path), "good.example", "/blocked", accept="application/json, text/html;q=0.5")
        assert flow.response is not None
        assert flow.response.headers["content-type"] == "application/problem+json"
        document = problem(flow.response.content or b"")
        assert document["status"] == 403
        assert document["detail"] == "Not here & now."
        assert document["details"] == "block_url"
        assert document["host"] == "good.example"

    def test_the_id_is_that_of_the_connection_where_there_is_one(self, tmp_path: Path) -> None:
        addon = made(tmp_path)
        flow = tflow.tflow(req=tutils.treq(host="bad.example", authority=b""))
        flow.metadata["sallyport_id"] = "0193-7"
        addon.requestheaders(flow)
        assert flow.response is not None
        assert "0193-7" in (flow.response.text or "")

    def test_head_gets_the_same_head_and_no_body(self, tmp_path: Path) -> None:
        addon = made(tmp_path)
        whole = asked(addon, "bad.example").response
        head = asked(addon, "bad.example", method="HEAD").response
        assert whole is not None
        assert head is not None
        assert head.raw_content == b""
        assert head.headers["content-length"] == str(len(whole.raw_content or b""))

    def test_a_blocked_request_is_not_streamed_and_another_is_left_alone(self, tmp_path: Path) -> None:
        addon = made(tmp_path)
        assert asked(addon, "bad.example").request.stream is False
        passed = asked(addon, "good.example", "/")
        assert (passed.response, passed.request.stream) == (None, True)

    def test_what_another_inspector_answered_stays(self, tmp_path: Path) -> None:
        flow = tflow.tflow(req=tutils.treq(host="bad.example"), resp=True)
        made(tmp_path).requestheaders(flow)
        assert flow.response is not None
        assert flow.response.status_code == 200


class TestHostile:
    @pytest.mark.parametrize("where", ["host", "authority", "field", "sni"])
    def test_the_blocked_host_in_any_place_counts(self, tmp_path: Path, where: str) -> None:
        names = dict.fromkeys(("host", "authority", "field", "sni"), "good.example") | {where: "BAD.example."}
        fields = ((b"Host", b"good.example"), (b"host", names["field"].encode()))
        flow = tflow.tflow(req=tutils.treq(host=names["host"], authority=names["authority"].encode(), headers=fields))
        flow.client_conn.sni = names["sni"]
        made(tmp_path).requestheaders(flow)
        assert flow.response is not None
        assert flow.response.status_code == 403

    def test_a_host_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        flow = tflow.tflow(req=tutils.treq(host="good.example", headers=((b"host", b"good.example, <i>bad.example"),)))
        made(tmp_path).requestheaders(flow)
        assert flow.response is not None
        assert flow.response.status_code == 403
        assert "<i>" not in (flow.response.text or "")

    @pytest.mark.parametrize("path", ["/%62locked", "//blocked", "/x/../blocked", "/blocked?x", "/x%2f..%2fblocked/y"])
    def test_other_spellings_of_a_path_are_blocked(self, tmp_path: Path, path: str) -> None:
        assert asked(made(tmp_path), "good.example", path).response is not None


class TestConfigure:
    def test_all_bad_lines_are_told_with_file_and_line(self, tmp_path: Path) -> None:
        file = tmp_path / "list"
        file.write_text("https://a.example\nb.example\nc.example:80\n")
        first, second = refusal(block_url_file=str(file)).splitlines()
        assert first.startswith(f"{file}:1: 'https://a.example' has a scheme; leave it out")
        assert second.startswith(f"{file}:3: 'c.example:80' has a port")

    def test_of_many_bad_lines_the_rest_is_counted(self, tmp_path: Path) -> None:
        file = tmp_path / "list"
        file.write_text("a..b\n" * 60)
        lines = refusal(block_url_file=str(file)).splitlines()
        assert len(lines) == 51
        assert lines[-1] == f"{file}: and 10 more like these"

    @pytest.mark.parametrize(("name", "says"), [("nothing-here", "No such file"), (".", "expected a file, not a")])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path, name: str, says: str) -> None:
        said = refusal(block_url_file=str(tmp_path / name))
        assert said.startswith(f"block_url_file: {tmp_path / name}: ")
        assert says in said

    def test_the_option_has_to_be_set(self) -> None:
        assert refusal() == "block_url_file is not set; expected the path of a file"

    def test_what_was_read_before_still_counts_after_a_bad_file(self, tmp_path: Path) -> None:
        addon = BlockUrl()
        good, bad = tmp_path / "good", tmp_path / "bad"
        good.write_text("bad.example")
        bad.write_text("a..b")
        with configured(addon, block_url_file=str(good)) as context:
            with pytest.raises(OptionsError, match="empty label"):
                context.configure(addon, block_url_file=str(bad))
            assert context.options.block_url_file == str(good)
        assert asked(addon, "bad.example").response is not None
        assert asked(addon, "good.example").response is None

    def test_until_a_list_was_read_everything_is_blocked(self) -> None:
        flow = asked(BlockUrl(), "good.example")
        assert flow.response is not None
        assert "could not read its list" in (flow.response.text or "")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | int]:
    file = tmp_path_factory.mktemp("options") / "blocked.txt"
    file.write_text(LIST)
    return {"block_url_file": str(file)}


class TestTraffic:
    def test_a_blocked_path_never_reaches_the_server(
        self, start: Start, origin: Nginx, options: dict[str, str | int]
    ) -> None:
        running = start("block_url", options)
        site = origin["good.example"]
        for version in ("--http1.1", "--http2"):
            blocked = curl(running, site.url("/%62locked/x?y"), version, "--path-as-is")
            assert blocked.status == 403, blocked.error
            assert blocked.http_version == version.removeprefix("--http")
            assert blocked.proxy_status == 'sallyport; error=http_request_denied; details="block_url"'
            assert "Not here &amp; now." in blocked.text
            assert curl(running, site.url(), version).text == "hello from good.example\n"
        assert [entry["uri"] for entry in origin.wait_requests(2)] == ["/", "/"]

    def test_a_client_that_prefers_json_gets_a_problem_document(
        self, start: Start, origin: Nginx, options: dict[str, str | int]
    ) -> None:
        running = start("block_url", options)
        blocked = curl(running, origin["good.example"].url("/blocked"), "-H", "Accept: application/json")
        assert blocked.headers["content-type"] == "application/problem+json"
        assert problem(blocked.body)["error"] == "http_request_denied"

    def test_head_and_upload_are_answered(self, start: Start, origin: Nginx, options: dict[str, str | int]) -> None:
        running = start("block_url", options)
        site = origin["good.example"]
        assert curl(running, site.url("/blocked"), "--head").status == 403
        line = [*command(running, site.url("/blocked"), "--http1.1", "-d", "x" * 100_000, "-o", "/dev/null"),
                "-w", "%{http_code}\n", site.url("/blocked/2"), "-o", "/dev/null"]  # fmt: skip
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
        # Whether curl goes on with the connection is its own affair: it may get the answer before it has sent all.
        assert done.stdout.splitlines() == ["403", "403"], done.stderr
        assert origin.requests() == []


def test_mitmdump_does_not_start_with_a_bad_file(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("a..b\n")
    proxy = Mitmdump(tmp_path / "proxy", "block_url", {"block_url_file": str(file)}, trust=ROOT)
    assert proxy.start().wait(60) == 1
    assert f"{file}:1: 'a..b' has an empty label" in proxy.output()

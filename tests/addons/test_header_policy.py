"""The header_policy addon in mitmproxy's hands, and with traffic through a proxy."""

from __future__ import annotations

from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.exceptions import OptionsError

from addons.header_policy import HeaderPolicy
from addons.refusing import refuse
from tests.addons.conftest import Recorder, Start, problem
from tests.addons.mitm import configured, tflow, tutils
from tests.harness.curl import curl
from tests.harness.origins import Nginx

RULES = """
rules:
  - hosts: [recorder.example, good.example]
    set:
      Restrict-Access-To-Tenants: contoso.example,fabrikam.example
  - hosts: ["*.example"]
    add: {X-One: added}
    remove: [X-Two]
  - hosts: [recorder.example]
    direction: response
    set: {Server-Timing: ours}
    remove: [Server]
  - hosts: [other.example]
    text: Ask <Ann>.
    require: {X-Device: [one, two], X-Any: "*"}
"""


def made(tmp_path: Path, rules: str = RULES) -> HeaderPolicy:
    file = tmp_path / "rules.yaml"
    file.write_text(rules)
    addon = HeaderPolicy()
    with configured(addon, header_policy_file=str(file)):
        return addon


def asked(addon: HeaderPolicy, host: str, *fields: tuple[bytes, bytes], version: bytes = b"HTTP/1.1") -> http.HTTPFlow:
    flow = tflow.tflow(req=tutils.treq(host=host, authority=b"", headers=fields, http_version=version))
    addon.requestheaders(flow)
    return flow


class TestRequest:
    def test_a_set_header_replaces_what_the_client_sent(self, tmp_path: Path) -> None:
        sent = ((b"restrict-access-TO-tenants", b"evil"), (b"Restrict_Access_To_Tenants", b"evil"), (b"X-Two", b"2"))
        flow = asked(made(tmp_path), "good.example", *sent)
        assert flow.request.headers.fields == (
            (b"Restrict-Access-To-Tenants", b"contoso.example,fabrikam.example"),
            (b"X-One", b"added"),
        )

    def test_names_are_in_lower_case_over_http2(self, tmp_path: Path) -> None:
        flow = asked(made(tmp_path), "good.example", version=b"HTTP/2.0")
        assert [name for name, _ in flow.request.headers.fields] == [b"restrict-access-to-tenants", b"x-one"]

    def test_another_host_is_left_alone(self, tmp_path: Path) -> None:
        fields = ((b"x-two", b"2"), (b"Accept", b"*/*"))
        flow = asked(made(tmp_path), "good.test", *fields)
        assert flow.request.headers.fields == fields
        assert flow.response is None

    def test_rules_apply_in_the_order_of_the_file(self, tmp_path: Path) -> None:
        rules = ("{hosts: '*', set: {A: first}}", "{hosts: a.example, set: {A: second}}", "{hosts: '*', add: {A: 3}}")
        flow = asked(made(tmp_path, f"rules: [{', '.join(rules)}]"), "a.example")
        assert flow.request.headers.get_all("A") == ["second", "3"]

    def test_a_rule_with_several_patterns_for_one_host_applies_once(self, tmp_path: Path) -> None:
        flow = asked(made(tmp_path, "rules: [{hosts: ['*', a.example, '*.example'], add: {A: b}}]"), "a.example")
        assert flow.request.headers.get_all("A") == ["b"]

    def test_the_host_field_counts_too(self, tmp_path: Path) -> None:
        flow = asked(made(tmp_path), "192.0.2.1", (b"Host", b"Good.Example:443"))
        assert "restrict-access-to-tenants" in flow.request.headers

    @pytest.mark.parametrize(
        "fields",
        [
            (),
            ((b"X-Device", b"one"),),
            ((b"X-Device", b"three"), (b"X-Any", b"1")),
            ((b"X-Device", b"one"), (b"x-device", b"three"), (b"X-Any", b"1")),
            ((b"X-Device", b"one"), (b"X_Device", b"three"), (b"X-Any", b"1")),
        ],
    )
    def test_a_request_without_what_is_required_is_refused(
        self, tmp_path: Path, fields: tuple[tuple[bytes, bytes], ...]
    ) -> None:
        flow = asked(made(tmp_path), "other.example", *fields)
        assert flow.response is not None
        assert flow.response.status_code == 403
        assert flow.response.headers["proxy-status"] == 'sallyport; error=http_request_denied; details="header_policy"'
        assert "Ask &lt;Ann&gt;." in (flow.response.text or "")

    def test_a_request_with_what_is_required_passes(self, tmp_path: Path) -> None:
        assert asked(made(tmp_path), "other.example", (b"x-device", b"two"), (b"X-ANY", b"")).response is None

    def test_a_host_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        assert asked(made(tmp_path), "good.example", (b"Host", b"a..b")).response is not None

    def test_without_rules_everything_is_refused(self) -> None:
        flow = asked(HeaderPolicy(), "good.example")
        assert flow.response is not None
        assert flow.response.status_code == 403


class TestResponse:
    def test_the_servers_fields_are_changed(self, tmp_path: Path) -> None:
        flow = tflow.tflow(req=tutils.treq(host="recorder.example", authority=b""), resp=True)
        assert flow.response is not None
        flow.response.headers = http.Headers([(b"server-timing", b"a"), (b"Server-Timing", b"b"), (b"Server", b"x")])
        made(tmp_path).responseheaders(flow)
        assert flow.response.headers.fields == ((b"Server-Timing", b"ours"),)

    def test_a_refusal_of_the_proxy_stays_as_it_is(self, tmp_path: Path) -> None:
        flow = tflow.tflow(req=tutils.treq(host="a.example", authority=b""))
        refuse(flow, "block_url", "title", "why", "a.example")
        assert flow.response is not None
        before = flow.response.headers.fields
        made(tmp_path, "rules: [{hosts: '*', direction: response, remove: [Proxy-Status]}]").responseheaders(flow)
        assert flow.response.headers.fields == before


def test_a_bad_file_is_refused_with_every_line(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n  - hosts: a..b\n    set:\n      Host: x\n")
    with pytest.raises(OptionsError) as caught, configured(HeaderPolicy(), header_policy_file=str(file)):
        pass
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{file}:2: rules[0].hosts: 'a..b' has an empty label")
    assert second.startswith(f"{file}:4: rules[0].set.Host: Host frames the message")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | int]:
    file = tmp_path_factory.mktemp("options") / "rules.yaml"
    file.write_text(RULES)
    return {"header_policy_file": str(file)}


class TestTraffic:
    def test_a_client_cannot_bring_its_own_tenants(
        self, start: Start, recorder: Recorder, options: dict[str, str | int]
    ) -> None:
        running = start("header_policy", options)
        sent = ("restrict-access-to-tenants: evil", "RESTRICT-ACCESS-TO-TENANTS: evil", "X-Two: 2", "X-One: 1")
        result = curl(running, recorder.url(), *(part for field in sent for part in ("-H", field)))
        assert result.status == 200, result.error
        assert recorder.values("Restrict-Access-To-Tenants") == ["contoso.example,fabrikam.example"]
        assert recorder.values("X-One") == ["1", "added"]
        assert recorder.values("X-Two") == []

    def test_the_answers_fields_are_changed_and_its_body_is_not(
        self, start: Start, recorder: Recorder, options: dict[str, str | int]
    ) -> None:
        result = curl(start("header_policy", options), recorder.url())
        assert result.headers["server-timing"] == "ours"
        assert "server" not in result.headers
        assert result.body == b"ok\n"

    def test_http2_carries_it_too(self, start: Start, origin: Nginx, options: dict[str, str | int]) -> None:
        running = start("header_policy", options)
        url = origin["good.example"].url("/headers")
        result = curl(running, url, "--http2", "-H", "Restrict-Access-To-Tenants: evil")
        assert (result.http_version, result.text) == ("2", "contoso.example,fabrikam.example added")

    def test_what_is_required_is_required(self, start: Start, origin: Nginx, options: dict[str, str | int]) -> None:
        running = start("header_policy", options)
        url = origin["other.example"].url()
        refused = curl(running, url, "-H", "Accept: application/json", "-H", "X-Device: three", "-H", "X-Any: 1")
        assert refused.status == 403
        assert refused.proxy_status.endswith('details="header_policy"')
        assert "x-device" in problem(refused.body)["detail"]
        assert origin.requests() == []
        passed = curl(running, url, "-H", "X-Device: two", "-H", "X-Any: 1")
        assert passed.text == "hello from other.example\n"

"""The ICAP inspector and mitmproxy's flows: what is sent of them, and what a changed message does to them."""

from __future__ import annotations

import pytest
from mitmproxy import http

from addons.icap_heads import IcapError
from addons.refusing import REFUSED
from tests.addons.icap_asking import BLOCKED, inspector, only, post, run, through
from tests.addons.mitm import tflow, tutils
from tests.harness.icap_fake import FakeIcap, changed


class TestFlows:
    def test_what_is_sent_of_a_flow(self) -> None:
        fields = [
            (b"Transfer-Encoding", b"chunked"),
            (b"X-A", b"b"),
            (b"X-Gone", b"1"),
            (b"Connection", b"x-gone"),
        ]
        response = tutils.tresp(content=b"page", headers=http.Headers(fields))
        flow = tflow.tflow(req=post().request, resp=response)
        flow.request.headers["Proxy-Authorization"] = "Basic abc"
        fake = FakeIcap()
        through(fake, flow)
        one, two = fake.scans
        request = (
            b"POST https://good.example/form HTTP/1.1\r\nHost: good.example\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 3\r\n\r\n"
        )
        assert (one.method, one.heads, one.body) == ("REQMOD", {"req-hdr": request}, b"a=1")
        assert (two.method, two.body) == ("RESPMOD", b"page")
        assert two.heads["req-hdr"] == request.replace(b"Content-Length: 3\r\n", b"")
        assert two.heads["res-hdr"] == b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 4\r\n\r\n"
        assert "x-client-ip" not in one.fields

    def test_an_http2_request_has_a_host_and_one_cookie_field(self) -> None:
        flow = tflow.tflow(req=tutils.treq(
            http_version=b"HTTP/2.0", authority=b"good.example", scheme=b"https", host="good.example", port=443,
            headers=http.Headers([(b"cookie", b"a=1"), (b"cookie", b"b=2")]), content=b"",
        ))  # fmt: skip
        fake = FakeIcap()
        through(fake, flow)
        assert fake.scans[0].heads["req-hdr"] == (
            b"GET https://good.example/path HTTP/1.1\r\nHost: good.example\r\nCookie: a=1; b=2\r\n\r\n"
        )

    @pytest.mark.parametrize("field", [(b"X-A", b"b\r\nX-B: c"), (b"X-A", b"b\nc"), (b"X A", b"b"), (b"X-A", b"\0")])
    def test_what_would_be_other_fields_for_the_scanner_is_not_sent(self, field: tuple[bytes, bytes]) -> None:
        flow = post()
        flow.request.headers = http.Headers([(b"Host", b"good.example"), field])
        fake = FakeIcap()
        with pytest.raises(IcapError, match="cannot be written as HTTP/1"):
            through(fake, flow)
        assert not fake.requests

    def test_a_folded_field_is_sent_on_one_line(self) -> None:
        flow = post()
        flow.request.headers["X-A"] = "b\r\n  c"
        fake = FakeIcap()
        through(fake, flow)
        assert b"\r\nX-A: b c\r\n" in fake.scans[0].heads["req-hdr"]

    def test_204_leaves_a_flow_as_it_is(self) -> None:
        flow = tflow.tflow(req=post().request, resp=tutils.tresp(content=b"page"))
        before = (flow.request.get_state(), flow.response.get_state())  # type: ignore[union-attr]
        through(FakeIcap(), flow)
        assert flow.response is not None
        assert (flow.request.get_state(), flow.response.get_state()) == before

    def test_a_changed_response_is_put_into_the_flow(self) -> None:
        response = tutils.tresp(content=b"virus", http_version=b"HTTP/2.0", trailers=http.Headers(sum="1"))
        flow = through(FakeIcap(only("RESPMOD", changed("res", BLOCKED, b"no way"))), tflow.tflow(resp=response))
        assert flow.response is not None
        assert (flow.response.status_code, flow.response.reason) == (403, "Forbidden")
        assert flow.response.headers.fields == ((b"content-type", b"text/html"), (b"content-length", b"6"))
        assert flow.response.raw_content == b"no way"
        assert flow.response.trailers is None

    def test_a_response_to_head_keeps_its_length_and_has_no_body(self) -> None:
        flow = tflow.tflow(req=tutils.treq(method=b"HEAD"), resp=tutils.tresp(content=b""))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: b\r\n\r\n"
        through(FakeIcap(only("RESPMOD", changed("res", head))), flow)
        assert flow.response is not None
        assert (flow.response.headers["content-length"], flow.response.raw_content) == ("1234", b"")

    def test_a_refusal_of_head_has_no_body(self) -> None:
        flow = tflow.tflow(req=tutils.treq(method=b"HEAD"), resp=tutils.tresp(content=b""))
        through(FakeIcap(only("RESPMOD", changed("res", BLOCKED, b"no way"))), flow)
        assert flow.response is not None
        assert (flow.response.headers["content-length"], flow.response.raw_content) == ("6", b"")

    @pytest.mark.parametrize(("status", "length"), [(204, None), (304, None), (205, "0")])
    def test_a_changed_response_without_a_body(self, status: int, length: str | None) -> None:
        head = b"HTTP/1.1 %d Oh\r\nX-A: b\r\n\r\n" % status
        flow = through(FakeIcap(only("RESPMOD", changed("res", head))), tflow.tflow(resp=True))
        assert flow.response is not None
        assert flow.response.raw_content == b""
        assert flow.response.headers.get("content-length") == length

    def test_a_body_where_none_can_be_is_refused(self) -> None:
        answer = changed("res", b"HTTP/1.1 204 No Content\r\n\r\n", b"hidden")
        with pytest.raises(IcapError, match="status 204 and a body"):
            through(FakeIcap(only("RESPMOD", answer)), tflow.tflow(resp=True))

    def test_a_response_to_reqmod_is_the_clients_answer_and_not_scanned_again(self) -> None:
        flow = post()
        fake = FakeIcap(changed("res", BLOCKED, b"no way"))
        through(fake, flow)
        assert flow.response is not None
        assert (flow.response.status_code, flow.response.raw_content) == (403, b"no way")
        assert flow.response.headers["content-length"] == "6"
        assert flow.metadata[REFUSED] == "icap"
        assert [one.method for one in fake.scans] == ["REQMOD"]

    def test_a_changed_request_is_put_into_the_flow(self) -> None:
        head = b"PUT https://good.example/other?x=1 HTTP/1.1\r\nHost: good.example\r\nX-A: b\r\nTE: trailers\r\n\r\n"
        flow = post()
        through(FakeIcap(changed("req", head, b"a=2&b=3")), flow)
        assert (flow.request.method, flow.request.path, flow.request.raw_content) == ("PUT", "/other?x=1", b"a=2&b=3")
        assert flow.request.headers.fields == ((b"Host", b"good.example"), (b"X-A", b"b"), (b"Content-Length", b"7"))
        assert flow.response is None

    def test_a_changed_request_without_a_body(self) -> None:
        flow = post()
        through(FakeIcap(changed("req", b"GET /form HTTP/1.1\r\n\r\n")), flow)
        assert (flow.request.method, flow.request.raw_content) == ("GET", b"")
        assert flow.request.headers.fields == ((b"Host", b"good.example"),)

    def test_a_changed_upgrade_is_still_one(self) -> None:
        flow = tflow.twebsocketflow()
        flow.response = None
        before = flow.request.headers["upgrade"]
        target = flow.request.pretty_url.encode()
        through(FakeIcap(changed("req", b"GET %b HTTP/1.1\r\nX-A: b\r\n\r\n" % target)), flow)
        assert (flow.request.headers["upgrade"], flow.request.headers["x-a"]) == (before, "b")
        assert "upgrade" in flow.request.headers["connection"].lower()

    @pytest.mark.parametrize(
        "head",
        [
            b"GET https://evil.example/ HTTP/1.1\r\n\r\n",
            b"GET http://good.example/ HTTP/1.1\r\n\r\n",
            b"GET https://good.example:444/ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET https://good.example/ HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n",
            b"GET https://good.example@evil.example/ HTTP/1.1\r\n\r\n",
        ],
    )
    def test_a_request_that_is_sent_elsewhere_is_not_followed(self, head: bytes) -> None:
        with pytest.raises(IcapError, match=r"another server|which is none"):
            through(FakeIcap(changed("req", head)), post())

    def test_a_websocket_is_left_alone(self) -> None:
        flow = tflow.twebsocketflow()
        fake = FakeIcap()
        through(fake, flow)
        assert [one.method for one in fake.scans] == ["REQMOD"]

    def test_what_another_inspector_answered_is_left_alone(self) -> None:
        flow = tflow.tflow(resp=True)
        flow.metadata[REFUSED] = "block_url"
        fake = FakeIcap()

        async def ask() -> None:
            async with fake, inspector(icap_url=fake.url.text) as icap:
                await icap.request(flow)
                await icap.response(flow)

        run(ask)
        assert not fake.requests

    def test_the_clients_address_is_told_where_it_is_wished(self) -> None:
        flow = post()
        flow.client_conn.peername = ("::ffff:192.0.2.7", 1234)
        fake = FakeIcap()
        through(fake, flow, icap_client_ip="true")
        assert fake.scans[0].fields["x-client-ip"] == "192.0.2.7"

    def test_one_service_for_requests_and_another_for_responses(self) -> None:
        fake = FakeIcap()

        async def ask() -> None:
            async with fake:
                root = fake.url.text.removesuffix("scan")
                async with inspector(icap_reqmod_url=f"{root}req", icap_respmod_url=f"{root}resp") as icap:
                    await icap.request(post())
                    await icap.response(tflow.tflow(resp=True))

        run(ask)
        assert [(one.method, one.url.rpartition("/")[2]) for one in fake.requests] == [
            ("OPTIONS", "req"), ("REQMOD", "req"), ("OPTIONS", "resp"), ("RESPMOD", "resp"),
        ]  # fmt: skip
        assert fake.connections == 1, "services of one server share connections"


class TestStreamed:
    @pytest.mark.parametrize("content", [None, b"kept although it went by"])
    def test_a_response_that_went_by_is_an_error(self, content: bytes | None) -> None:
        flow = tflow.tflow(resp=tutils.tresp(content=content))
        assert flow.response is not None
        flow.response.stream = True
        with pytest.raises(IcapError, match=r"the response's body was passed on .*icap_skip_streamed"):
            through(FakeIcap(), flow)

    def test_a_request_that_went_by_is_an_error(self) -> None:
        flow = post()
        flow.request.stream, flow.request.raw_content = True, None
        with pytest.raises(IcapError, match="the request's body was passed on"):
            through(FakeIcap(), flow)

    def test_it_passes_where_that_is_wished(self) -> None:
        flow = tflow.tflow(resp=tutils.tresp(content=None))
        fake = FakeIcap()
        through(fake, flow, icap_skip_streamed="true")
        assert [one.method for one in fake.scans] == ["REQMOD"]

    def test_one_without_a_body_is_scanned(self) -> None:
        flow = tflow.tflow(resp=tutils.tresp(content=b""))
        assert flow.response is not None
        flow.response.stream = True
        fake = FakeIcap()
        flow.request.stream = True
        flow.request.raw_content = b""
        through(fake, flow)
        assert [one.method for one in fake.scans] == ["REQMOD", "RESPMOD"]

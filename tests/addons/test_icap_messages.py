"""What an ICAP server may say, byte by byte: the well-formed is understood, the rest refused, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.icap_answer import Answer, closes
from addons.icap_heads import MAX_HEAD, MessageError, items, parse_icap_head, values
from addons.icap_messages import Method, Scan, scan_request
from addons.icap_service import ServiceOptions, ServiceUrl, Transfer
from tests.harness.icap_fake import OPTIONS, UNCHANGED, changed, chunked, options

RESPONSE = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n"
REQUEST = b"POST https://good.example/form HTTP/1.1\r\nHost: good.example\r\n\r\n"
OK = b"ICAP/1.0 200 OK\r\n"


def read(raw: bytes, method: Method = "RESPMOD", limit: int = 1000) -> Answer:
    answer = Answer(method, limit)
    answer.feed(raw)
    return answer


def understood_or_refused(raw: bytes, method: Method) -> str:
    """The text of the error, or empty."""
    try:
        answer = read(raw, method)
    except MessageError as error:
        return str(error)
    assert len(answer.body) <= 1000
    return ""


def refused(raw: bytes, method: Method = "RESPMOD", limit: int = 1000) -> str:
    with pytest.raises(MessageError) as caught:
        read(raw, method, limit)
    return str(caught.value)


class TestAnswers:
    def test_204_leaves_the_message_as_it_is(self) -> None:
        answer = read(UNCHANGED)
        assert (answer.done, answer.head.status, answer.tag, answer.response) == (True, 204, b"one", None)

    def test_a_changed_response(self) -> None:
        answer = read(changed("res", RESPONSE, b"blocked"))
        assert answer.response is not None
        assert (answer.response.status, answer.response.reason) == (403, b"Forbidden")
        assert answer.response.fields == ((b"Content-Type", b"text/html"),)
        assert bytes(answer.body) == b"blocked"

    def test_a_changed_request(self) -> None:
        answer = read(changed("req", REQUEST, b"a=1"), "REQMOD")
        assert answer.request is not None
        assert (answer.request.method, answer.request.target) == (b"POST", b"https://good.example/form")
        assert bytes(answer.body) == b"a=1"

    def test_a_response_in_place_of_a_request(self) -> None:
        answer = read(changed("res", RESPONSE, b"no"), "REQMOD")
        assert answer.request is None
        assert answer.response is not None

    def test_a_message_without_a_body(self) -> None:
        answer = read(changed("res", RESPONSE))
        assert answer.done
        assert answer.body == b""

    def test_chunks_with_extensions_and_trailers_are_one_body(self) -> None:
        raw = changed("res", RESPONSE, b"")[:-5] + b"3;name=x\r\nabc\r\n0004 \r\ndefg\r\n0;last\r\nX-Sum: 7\r\n\r\n"
        answer = read(raw + b"more")
        assert bytes(answer.body) == b"abcdefg"
        assert answer.rest == b"more"

    def test_the_body_of_an_answer_to_options_is_read_over(self) -> None:
        answer = read(OK + b"Methods: REQMOD\r\nEncapsulated: opt-body=0\r\n\r\n" + chunked(b"terms"), "OPTIONS")
        assert answer.done
        assert answer.rest == b""

    def test_an_answer_to_options_may_encapsulate_nothing(self) -> None:
        assert read(OK + b"Methods: REQMOD\r\n\r\n", "OPTIONS").done

    def test_folded_icap_fields_are_joined(self) -> None:
        head = parse_icap_head(OK + b"X-Violations-Found: 1\r\n\t-\r\n\tEicar\r\n\t0\r\nISTag: x\r\n\r\n")
        assert values(head.fields, b"x-violations-found") == [b"1 - Eicar 0"]
        assert values(head.fields, b"istag") == [b"x"]

    def test_lists_are_read_over_all_their_lines(self) -> None:
        head = parse_icap_head(OK + b"Methods: REQMOD,\r\nMethods: ,RESPMOD \r\n\r\n")
        assert items(head.fields, b"methods") == [b"REQMOD", b"RESPMOD"]

    def test_close_is_understood_in_any_case(self) -> None:
        assert closes(parse_icap_head(OK + b"Connection: Close\r\n\r\n"))
        assert not closes(parse_icap_head(OK + b"Connection: keep-alive\r\n\r\n"))

    def test_other_statuses_end_with_their_head(self) -> None:
        assert read(b"ICAP/1.0 404 Service not found\r\nConnection: close\r\n\r\nwhatever").head.status == 404


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "no ICAP/1.0 status line"),
        (b"ICAP/1.1 200 OK\r\n\r\n", "no ICAP/1.0 status line"),
        (b"ICAP/1.0 20x OK\r\n\r\n", "no ICAP/1.0 status line"),
        (b"ICAP/1.0 999 OK\r\n\r\n", "no ICAP/1.0 status line"),
        (b"ICAP/1.0 204 OK\r\nno field\r\n\r\n", "no field"),
        (b"ICAP/1.0 204 OK\r\nbad name: x\r\n\r\n", "no field"),
        (b"ICAP/1.0 204 OK\r\nA: x\x00y\r\n\r\n", "no field"),
        (b"ICAP/1.0 204 OK\r\nA: x\ny: z\r\n\r\n", "no field"),
        (b"ICAP/1.0 204 OK\r\nX-Long: " + b"a" * MAX_HEAD, "65536 bytes without an end of its ICAP head"),
        (b"a" * MAX_HEAD, "without an end of its ICAP head"),
        (b"ICAP/1.0 204 OK\r\n" + b"A: b\r\n" * 20_000, "without an end of its ICAP head"),
        (OK + b"\r\n", "no Encapsulated"),
        (OK + b"Encapsulated: res-hdr\r\n\r\n", "which is none"),
        (OK + b"Encapsulated: res-hdr=0, res-body=-5\r\n\r\n", "which is none"),
        (OK + b"Encapsulated: res-hdr=0, res-body=0x10\r\n\r\n", "which is none"),
        (OK + b"Encapsulated: res-hdr=0\r\n\r\n", "no answer to RESPMOD can have"),
        (OK + b"Encapsulated: res-body=0\r\n\r\n", "no answer to RESPMOD can have"),
        (OK + b"Encapsulated: null-body=0\r\n\r\n", "no answer to RESPMOD can have"),
        (OK + b"Encapsulated: req-hdr=0, req-body=9\r\n\r\n", "no answer to RESPMOD can have"),
        (OK + b"Encapsulated: res-hdr=0, req-body=9\r\n\r\n", "no answer to RESPMOD can have"),
        (OK + b"Encapsulated: res-hdr=0, res-body=9, null-body=12\r\n\r\n", "no answer to RESPMOD can have"),
        (OK + b"Encapsulated: res-hdr=0, res-body=0\r\n\r\n", "offsets"),
        (OK + b"Encapsulated: res-hdr=7, res-body=9\r\n\r\n", "offsets"),
        (OK + b"Encapsulated: res-hdr=9, res-body=0\r\n\r\n", "offsets"),
        (OK + b"Encapsulated: res-hdr=0, res-body=65537\r\n\r\n", "larger than 65536"),
        (OK + b"Encapsulated: res-hdr=0, res-body=9999999999\r\n\r\n", "larger than 65536"),
        (changed("res", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b""), "does not end where it should"),
        (changed("res", b"HTTP/1.1 200 OK\r\nA: b\r\n", b"\r\nabc"), "does not end where it should"),
        (OK + b"Encapsulated: res-hdr=0, null-body=3\r\n\r\nHTTP", "does not end where it should"),
        (changed("res", b"HTTP/2 200 OK\r\n\r\n"), "no HTTP/1 status line"),
        (changed("res", b"HTTP/1.1 100 Continue\r\n\r\n"), "no final answer"),
        (changed("res", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "no final answer"),
        (changed("res", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), "no field"),
        (changed("res", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), "no field"),
        (changed("res", b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n"), "no field"),
        (changed("res", RESPONSE, b"")[:-5] + b"xyz\r\n", "where the size of a chunk belongs"),
        (changed("res", RESPONSE, b"")[:-5] + b"-1\r\n", "where the size of a chunk belongs"),
        (changed("res", RESPONSE, b"")[:-5] + b"\r\n", "where the size of a chunk belongs"),
        (changed("res", RESPONSE, b"")[:-5] + b"5\nhello\r\n", "where the size of a chunk belongs"),
        (changed("res", RESPONSE, b"")[:-5] + b"ffffffffffffffff\r\n", "where the size of a chunk belongs"),
        (changed("res", RESPONSE, b"")[:-5] + b"fffffffffffffff\r\n", "larger than 1000 bytes; icap_body_limit"),
        (changed("res", RESPONSE, b"x" * 1001), "larger than 1000 bytes; icap_body_limit"),
        (changed("res", RESPONSE, b"")[:-5] + b"2\r\nabc\r\n", "longer than the size"),
        (changed("res", RESPONSE, b"")[:-5] + b"1;" + b"x" * 5000, "4096 bytes without an end of the line"),
        (changed("res", RESPONSE, b"")[:-2] + b"A: b\r\n" * 3000, "without an end of its trailers"),
        (b"ICAP/1.0 204 OK\r\nEncapsulated: res-hdr=0, res-body=9\r\n\r\n", "in an answer with status 204"),
        (b"ICAP/1.0 100 Continue\r\nEncapsulated: res-hdr=0, res-body=9\r\n\r\n", "in an answer with status 100"),
        (b'ICAP/1.0 204 OK\r\nISTag: ""\r\n\r\n', "ISTag"),
        (b"ICAP/1.0 204 OK\r\nISTag:\r\n\r\n", "ISTag"),
        (b'ICAP/1.0 204 OK\r\nISTag: "a\r\n\r\n', "ISTag"),
        (b"ICAP/1.0 204 OK\r\nISTag: " + b"a" * 129 + b"\r\n\r\n", "ISTag"),
        (b"ICAP/1.0 204 OK\r\nISTag: a\r\nISTag: b\r\n\r\n", "several istag fields"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_by_name(raw: bytes, said: str) -> None:
    assert said in refused(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GE(T / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_request_head_is_refused(raw: bytes) -> None:
    assert "no HTTP/1 request line" in refused(changed("req", raw), "REQMOD")


class TestAnyBytes:
    GOOD = changed("res", RESPONSE, b"blocked") + b"rest"

    @given(st.lists(st.integers(0, len(GOOD)), max_size=20))
    def test_where_an_answer_is_cut_changes_nothing(self, places: list[int]) -> None:
        answer = Answer("RESPMOD", 1000)
        for start, end in zip([0, *sorted(places)], [*sorted(places), len(self.GOOD)], strict=True):
            answer.feed(self.GOOD[start:end])
        assert answer.done
        assert (bytes(answer.body), answer.rest) == (b"blocked", b"rest")

    @given(st.binary(max_size=300), st.sampled_from(["OPTIONS", "REQMOD", "RESPMOD"]))
    def test_any_bytes_are_understood_or_refused(self, raw: bytes, method: Method) -> None:
        assert understood_or_refused(raw, method).isprintable()

    @given(st.integers(0, len(GOOD) - 1), st.binary(min_size=0, max_size=4), st.integers(0, 4))
    def test_a_damaged_answer_is_understood_or_refused(self, place: int, put: bytes, gone: int) -> None:
        raw = self.GOOD[:place] + put + self.GOOD[place + gone :]
        assert understood_or_refused(raw, "RESPMOD").isprintable()

    @given(st.binary(max_size=200), st.integers(0, 250))
    def test_the_chunks_of_a_preview_and_its_rest_are_the_body(self, body: bytes, preview: int) -> None:
        scan = Scan("RESPMOD", REQUEST, RESPONSE, body)
        request = scan_request("icap://h/s", "h", scan, preview)
        heads = b"".join(request.first).partition(REQUEST + RESPONSE)
        answer = Answer("RESPMOD", 1000)
        whole = heads[2].replace(b"; ieof", b"").removesuffix(b"0\r\n\r\n") + b"".join(request.rest)
        whole = whole if request.previewed else whole + b"0\r\n\r\n"
        if body:
            answer.feed(changed("res", RESPONSE, b"")[:-5] + whole)
            assert bytes(answer.body) == body
            assert (b"; ieof" in heads[2]) == (len(body) <= preview)
        else:
            assert heads[2] == b""


class TestRequests:
    def test_a_body_that_fits_the_preview_ends_with_ieof(self) -> None:
        scan = Scan("RESPMOD", REQUEST, RESPONSE, b"12345")
        raw = b"".join(scan_request("icap://h:1/s", "h:1", scan, 5).first)
        head = (
            b"RESPMOD icap://h:1/s ICAP/1.0\r\nHost: h:1\r\nUser-Agent: Sallyport\r\nAllow: 204\r\nPreview: 5\r\n"
            b"Encapsulated: req-hdr=0, res-hdr=%d, res-body=%d\r\n\r\n" % (len(REQUEST), len(REQUEST) + len(RESPONSE))
        )
        assert raw == head + REQUEST + RESPONSE + b"5\r\n12345\r\n0; ieof\r\n\r\n"

    def test_of_a_longer_body_the_rest_waits(self) -> None:
        request = scan_request("icap://h/s", "h", Scan("REQMOD", REQUEST, body=b"123456"), 5)
        assert b"".join(request.first).endswith(REQUEST + b"5\r\n12345\r\n0\r\n\r\n")
        assert b"".join(request.rest) == b"1\r\n6\r\n0\r\n\r\n"

    def test_a_preview_of_nothing_is_a_preview(self) -> None:
        request = scan_request("icap://h/s", "h", Scan("REQMOD", REQUEST, body=b"123456"), 0)
        assert b"\r\nPreview: 0\r\n" in request.first[0]
        assert b"".join(request.first).endswith(REQUEST + b"0\r\n\r\n")

    def test_no_body_is_null_body_and_no_preview(self) -> None:
        request = scan_request("icap://h/s", "h", Scan("REQMOD", REQUEST), 5)
        raw = b"".join(request.first)
        assert raw.endswith(b"Encapsulated: req-hdr=0, null-body=%d\r\n\r\n" % len(REQUEST) + REQUEST)
        assert b"Preview" not in raw


class TestOptions:
    def parsed(self, raw: bytes = OPTIONS) -> ServiceOptions:
        answer = read(raw, "OPTIONS")
        return ServiceOptions.parse(answer.head, answer.tag)

    def test_all_that_a_service_says(self) -> None:
        said = self.parsed(options(Preview="512", Max_Connections="7", Options_TTL="60", ISTag="plain"))
        assert said.methods == {"REQMOD", "RESPMOD"}
        assert (said.preview, said.max_connections) == (512, 7)
        assert (said.lifetime, said.tag) == (60, b"plain")

    def test_what_it_does_not_say_is_none(self) -> None:
        said = self.parsed(options(Max_Connections="0"))
        assert (said.preview, said.max_connections, said.lifetime) == (None, None, None)

    @pytest.mark.parametrize(
        "raw",
        [options(Methods=""), options(Preview="many"), options(Preview="-1"), options(Max_Connections="1e9"),
         options(Options_TTL="99999999999"), options(Preview="1\r\nPreview: 2")],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, raw: bytes) -> None:
        with pytest.raises(MessageError):
            self.parsed(raw)

    def test_the_lists_of_extensions(self) -> None:
        said = self.parsed(
            options(Preview="9", Transfer_Preview="*", Transfer_Ignore="GIF, .jpg, exe", Transfer_Complete="zip, exe")
        )
        assert said.transfer("/a/b.gif?x=y.zip") is Transfer.IGNORE
        assert said.transfer("/b.JPG") is Transfer.IGNORE
        assert said.transfer("/b.zip") is Transfer.COMPLETE
        assert said.transfer("/b.exe") is Transfer.COMPLETE, "of two lists the careful one counts"
        assert said.transfer("/v1.gif/") is Transfer.PREVIEW
        assert said.transfer("/") is Transfer.PREVIEW
        assert (said.preview_for("/b.zip", -1), said.preview_for("/b.txt", -1)) == (None, 9)
        assert (said.preview_for("/b", 4), said.preview_for("/b", 40)) == (4, 9)

    def test_what_no_list_names_is_never_ignored(self) -> None:
        assert self.parsed(options(Transfer_Ignore="gif")).transfer("/a.txt") is Transfer.PREVIEW
        assert self.parsed(options(Transfer_Ignore="gif")).preview_for("/a.txt", -1) is None


class TestUrls:
    def test_ports_and_tls(self) -> None:
        plain, secure = ServiceUrl.parse("icap://scan.example/av"), ServiceUrl.parse("icaps://[::1]:99/av?x=1")
        assert (plain.address.host, plain.address.port, plain.address.tls) == ("scan.example", 1344, False)
        assert (secure.address.host, secure.address.port, secure.address.tls) == ("::1", 99, True)
        assert ServiceUrl.parse("icaps://h/av").address.port == 11344
        assert (plain.host_field, secure.host_field) == ("scan.example", "[::1]:99")

    @pytest.mark.parametrize(
        "text",
        ["", "http://h/av", "icap://", "icap:///av", "icap://h", "icap://h/", "icap://h:99999/av", "icap://h:0/av",
         "icap://h:x/av", "icap://u@h/av", "icap://h/a v", "icap://h/av\r\nX: y", "icap://bücher/av", "icap://[::1/av",
         "icap://h/av#x"],
    )  # fmt: skip
    def test_what_is_no_icap_url_is_refused_with_what_is_expected(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"expected icap://HOST"):
            ServiceUrl.parse(text)

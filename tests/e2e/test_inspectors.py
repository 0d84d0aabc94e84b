"""Scripts as mitmproxy's documentation writes them, unmodified, in the inspection lane and with real traffic."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ISSUING, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.inspectors import Scripts
from tests.harness.origins import Nginx, Site, WebSocketEcho
from tests.harness.processes import wait_for
from tests.harness.programs import need

VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2"])

EVERYWHERE = """
    def responseheaders(flow):
        flow.response.headers["x-everywhere"] = flow.metadata["sallyport_tenant"]
"""
ADDON_CLASS = """
    from mitmproxy import http


    class Counter:
        def __init__(self):
            self.num = 0

        def request(self, flow: http.HTTPFlow) -> None:
            flow.request.headers["x-forwarded-for"] = "an addon"

        def response(self, flow: http.HTTPFlow) -> None:
            self.num = self.num + 1
            flow.response.headers["count"] = str(self.num)


    addons = [Counter()]
"""
FUNCTIONS = '''
    """An addon using the abbreviated scripting syntax."""


    def request(flow):
        flow.request.headers["x-forwarded-for"] = flow.request.pretty_url


    def response(flow):
        flow.response.headers["newheader"] = "foo"
'''
WAITING = """
    import asyncio
    import logging


    async def request(flow):
        logging.info(f"handle request: {flow.request.host}{flow.request.path}")
        await asyncio.sleep(0.01)
        flow.request.headers["x-forwarded-for"] = "later"


    async def response(flow):
        await asyncio.sleep(0.01)
        flow.response.headers["x-later"] = "too"
"""
OPTIONS = """
    from collections.abc import Sequence

    from mitmproxy import command, ctx


    class AddHeader:
        def __init__(self):
            self.num = 0

        def load(self, loader):
            loader.add_option(name="addheader", typespec=bool, default=False, help="Add a count header to responses")
            loader.add_option("greeting", str, "nothing", "What the header says")
            loader.add_option("names", Sequence[str], [], "Who is greeted")

        @command.command("myaddon.inc")
        def inc(self, by: int) -> int:
            self.num += by
            return self.num

        def response(self, flow):
            if ctx.options.addheader:
                number = ctx.master.commands.call("myaddon.inc", 5)
                flow.response.headers["x-greeting"] = f"{ctx.options.greeting} {','.join(ctx.options.names)} {number}"


    addons = [AddHeader()]
"""
BODY = """
    def response(flow):
        flow.response.headers["x-coding"] = flow.response.headers.get("content-encoding", "none")
        flow.response.text = flow.response.text.replace("hello", "good evening")
"""
UPLOAD = """
    def request(flow):
        if flow.request.method == "PUT":
            flow.request.content = flow.request.content.replace(b"mine", b"yours")
"""
STREAM = '''
    """Modify a streamed response."""


    def responseheaders(flow):
        flow.response.stream = lambda chunk: chunk.upper()
'''
WEBSOCKET = '''
    """Process individual messages from a WebSocket connection."""

    import logging


    def websocket_start(flow):
        logging.info("websocket start")


    def websocket_message(flow):
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        if message.from_client:
            logging.info(f"Client sent a message: {message.content!r}")
        else:
            logging.info(f"Server sent a message: {message.content!r}")
        message.content = message.content.replace(b"hello", b"HAPPY")
        if b"FOOBAR" in message.content:
            message.drop()


    def websocket_end(flow):
        logging.info(f"websocket end {flow.websocket.close_code}")
'''
KILL = """
    def request(flow):
        if "kill" in flow.request.path:
            flow.kill()


    def error(flow):
        import logging

        logging.info(f"killed: {flow.error.msg}")
"""
ANSWER = '''
    """Send a reply from the proxy without sending the request to the remote server."""

    from mitmproxy import http


    def request(flow: http.HTTPFlow) -> None:
        if flow.request.path == "/path":
            flow.response = http.Response.make(
                200,  # (optional) status code
                b"Hello World",  # (optional) content
                {"Content-Type": "text/html"},  # (optional) headers
            )
'''
ELSEWHERE = '''
    """Redirect HTTP requests to another server."""


    def request(flow):
        if "to" in flow.request.query:
            host, _, port = flow.request.query["to"].partition(":")
            flow.request.host = host
            flow.request.port = int(port)
        if "scheme" in flow.request.query:
            flow.request.scheme = flow.request.query["scheme"]
'''
LOGS = """
    import logging

    from mitmproxy import ctx

    logger = logging.getLogger("my.logger")


    def request(flow):
        logging.info("by the root logger")
        logger.warning("by a logger of its own")
        ctx.log.info("by ctx.log")
        ctx.log.error("an error by ctx.log")
"""
NESTED = """
    class Inner:
        def __init__(self, name):
            self.name = name

        def response(self, flow):
            flow.response.headers["x-order"] = flow.response.headers.get("x-order", "") + self.name


    class Outer:
        name = "outer"
        addons = [Inner("b"), Inner("c")]

        def response(self, flow):
            flow.response.headers["x-order"] = flow.response.headers.get("x-order", "") + "a"


    addons = [Outer(), Inner("d")]
"""
TENANT = """
    def response(flow):
        flow.response.headers["x-tenant"] = flow.metadata["sallyport_tenant"]
"""
SCRIPTS = {
    "everywhere": EVERYWHERE,
    "class": ADDON_CLASS,
    "functions": FUNCTIONS,
    "waiting": WAITING,
    "options": OPTIONS,
    "body": BODY,
    "upload": UPLOAD,
    "stream": STREAM,
    "websocket": WEBSOCKET,
    "kill": KILL,
    "answer": ANSWER,
    "elsewhere": ELSEWHERE,
    "logs": LOGS,
    "nested": NESTED,
    "tenant": TENANT,
}
OTHERS = ("verified.example", "outside.test", "many.example")
NAMES = (*(f"{name}.example" for name in SCRIPTS), *OTHERS)
GZIP = ("gzip on;", "gzip_min_length 1;", "gzip_types text/plain;")


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Nginx]:
    """One nginx: all the names, one that is not trusted, and one without TLS."""
    need("nginx")
    need("curl")
    with WebSocketEcho() as echo:
        sites = [
            Site("origin", ISSUING.leaf(NAMES), websocket=echo.where, lines=GZIP),
            Site("private.example", PRIVATE_ISSUING.leaf("private.example")),
            Site("plain", None),
        ]
        with Nginx(scratch / "inspected", sites) as nginx:
            yield nginx


@pytest.fixture(scope="module")
def target(scratch: Path, server: Nginx) -> Iterator[Daemon]:
    """A daemon with all the scripts."""
    scripts = Scripts(scratch)
    for name, text in SCRIPTS.items():
        more = {"everywhere": {"hosts": ["*"]}, "tenant": {"tenants": ["other"]}}.get(name, {})
        scripts.add(name, text, **more)
    inspection = {
        "addons": scripts.addons,
        "hosts": ["*.example"],
        "options": {"addheader": True, "greeting": "good day", "names": ["ann", "bob"]},
    }
    hosts = dict.fromkeys((*NAMES, "private.example"), "127.0.0.1")
    with Daemon(
        scratch / "inspecting",
        hosts=hosts,
        common=PUBLIC,
        listeners=(("explicit", "default"), ("second", "other")),
        extra={"inspection": inspection},
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a fault behind in the daemon that they share."""
    yield
    if "target" in request.fixturenames:
        running: Daemon = request.getfixturevalue("target")
        assert not running.log("fault")
        assert "Traceback" not in running.stderr_text()


def url(server: Nginx, name: str, path: str = "/") -> str:
    return server["origin"].url(path, f"{name}.example")


def said(daemon: Daemon) -> list[str]:
    return [entry["message"] for entry in daemon.log("inspector says")]


def wait_said(daemon: Daemon, part: str) -> str:
    return wait_for(f"{part!r} in the log", lambda: next((line for line in said(daemon) if part in line), ""))


@VERSIONS
def test_a_class_with_hooks_adds_headers_to_both(target: Daemon, server: Nginx, version: str) -> None:
    results = [curl(target, url(server, "class", "/echo"), version) for _ in range(2)]
    assert [result.status for result in results] == [200, 200]
    assert results[0].http_version == version.removeprefix("--http")
    assert json.loads(results[0].body)["forwarded"] == "an addon"
    assert int(results[1].headers["count"]) == int(results[0].headers["count"]) + 1


@VERSIONS
def test_functions_of_a_module_are_hooks(target: Daemon, server: Nginx, version: str) -> None:
    asked = url(server, "functions", "/echo?a=b")
    result = curl(target, asked, version)
    assert result.headers["newheader"] == "foo"
    assert json.loads(result.body)["forwarded"] == asked


@VERSIONS
def test_hooks_that_wait_are_waited_for(target: Daemon, server: Nginx, version: str) -> None:
    result = curl(target, url(server, "waiting", "/echo"), version)
    assert json.loads(result.body)["forwarded"] == "later"
    assert result.headers["x-later"] == "too"


@VERSIONS
def test_options_are_set_and_commands_are_called(target: Daemon, server: Nginx, version: str) -> None:
    greeting, _, number = curl(target, url(server, "options"), version).headers["x-greeting"].rpartition(" ")
    assert greeting == "good day ann,bob"
    assert int(number) % 5 == 0
    later = curl(target, url(server, "options"), version).headers["x-greeting"]
    assert later == f"good day ann,bob {int(number) + 5}"


@VERSIONS
def test_a_compressed_body_is_changed_as_text(target: Daemon, server: Nginx, version: str) -> None:
    result = curl(target, url(server, "body"), version, "--compressed")
    assert result.headers["x-coding"] == "gzip"
    assert result.text == "good evening from origin\n"
    packed = curl(target, url(server, "body"), version, "-H", "Accept-Encoding: gzip")
    assert gzip.decompress(packed.body) == b"good evening from origin\n"


@VERSIONS
def test_the_body_of_a_request_is_changed(target: Daemon, server: Nginx, version: str) -> None:
    name = f"changed{version[-1]}"
    result = curl(target, url(server, "upload", f"/upload/{name}"), version, "-T", "-", stdin=b"this is mine")
    assert result.status == 201
    assert server.uploaded(name).read_bytes() == b"this is yours"


@VERSIONS
def test_a_function_changes_a_body_as_it_passes(target: Daemon, server: Nginx, version: str) -> None:
    (server.www / "letters.txt").write_bytes(b"abc " * 500_000)
    result = curl(target, url(server, "stream", "/letters.txt"), version)
    assert result.body == b"ABC " * 500_000


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_a_websocket_are_changed_and_dropped(
    target: Daemon, server: Nginx, compression: str | None
) -> None:
    from websockets.sync.client import connect

    trusted = ssl.create_default_context(cafile=str(target.root))
    where = url(server, "websocket", "/ws").replace("https", "wss")
    with connect(where, ssl=trusted, proxy=f"http://{target.proxy}", compression=compression) as socket:
        socket.send("hello there")
        assert socket.recv(timeout=20) == "HAPPY there"
        socket.send("a FOOBAR that nobody gets")
        socket.send(b"hello bytes")
        assert socket.recv(timeout=20) == b"HAPPY bytes"
    assert wait_said(target, "websocket end 1000")
    assert wait_said(target, "websocket start")
    assert "Client sent a message: b'a FOOBAR that nobody gets'" in said(target)
    assert "Server sent a message: b'HAPPY bytes'" in said(target)
    assert "Server sent a message: b'a FOOBAR that nobody gets'" not in said(target)


@VERSIONS
def test_a_killed_flow_has_no_answer_and_reaches_no_server(target: Daemon, server: Nginx, version: str) -> None:
    path = f"/kill{version[-1]}"
    result = curl(target, url(server, "kill", path), version)
    assert result.exit_code in (52, 56, 92), result.error
    assert result.body == b""
    assert curl(target, url(server, "kill", "/status/404?after"), version).status == 404
    assert path not in [entry["uri"] for entry in server.requests()]
    assert wait_said(target, "killed: ")


@VERSIONS
def test_an_answer_of_the_inspectors_own_needs_no_server(target: Daemon, server: Nginx, version: str) -> None:
    result = curl(target, url(server, "answer", "/path"), version)
    assert (result.status, result.text) == (200, "Hello World")
    assert result.headers["content-type"] == "text/html"
    assert curl(target, url(server, "answer", "/status/404?other"), version).status == 404
    server.wait_requests(1)
    assert not [entry for entry in server.requests() if entry["uri"] == "/path"]


@VERSIONS
def test_a_request_goes_to_another_server(target: Daemon, server: Nginx, version: str) -> None:
    there = f"verified.example:{server['origin'].port}"
    result = curl(target, url(server, "elsewhere", f"/echo?to={there}"), version)
    assert result.status == 200
    assert json.loads(result.body)["sni"] == "verified.example"


@VERSIONS
def test_a_server_that_is_not_trusted_gets_nothing(target: Daemon, server: Nginx, version: str) -> None:
    there = f"private.example:{server['private.example'].port}"
    result = curl(target, url(server, "elsewhere", f"/?to={there}"), version)
    assert result.status == 502
    assert "error=tls_certificate_error" in result.proxy_status
    assert server.requests("private.example") == []


@VERSIONS
def test_what_came_through_tls_goes_to_no_server_without_it(target: Daemon, server: Nginx, version: str) -> None:
    there = f"verified.example:{server['plain'].port}"
    result = curl(target, url(server, "elsewhere", f"/tls-stays?to={there}&scheme=http"), version)
    assert result.status in (400, 502)
    assert not [entry for entry in server.requests("plain") if "tls-stays" in entry["uri"]]


def test_what_it_logs_is_in_the_log(target: Daemon, server: Nginx) -> None:
    assert curl(target, url(server, "logs")).status == 200
    assert wait_said(target, "an error by ctx.log")
    levels = {entry["message"]: entry["level"] for entry in target.log("inspector says")}
    assert levels["by the root logger"] == "info"
    assert levels["by a logger of its own"] == "warning"
    assert levels["by ctx.log"] == "info"
    assert levels["an error by ctx.log"] == "error"
    assert target.log("inspector says", logger="my.logger")


def test_addons_in_addons_are_called_in_order(target: Daemon, server: Nginx) -> None:
    assert curl(target, url(server, "nested")).headers["x-order"] == "abcd"


@VERSIONS
def test_a_host_that_is_not_inspected_is_not_seen(target: Daemon, server: Nginx, version: str) -> None:
    outside = curl(target, server["origin"].url("/", "outside.test"), version)
    inside = curl(target, url(server, "verified"), version)
    assert (outside.status, inside.status) == (200, 200)
    assert "x-everywhere" not in outside.headers
    assert inside.headers["x-everywhere"] == "default"
    assert "newheader" not in inside.headers


def test_an_inspector_sees_its_tenants_alone(target: Daemon, server: Nginx) -> None:
    one = curl(target, url(server, "tenant"))
    other = curl(target.listener("second"), url(server, "tenant"))
    assert (one.status, other.status) == (200, 200)
    assert "x-tenant" not in one.headers
    assert other.headers["x-tenant"] == "other"
    assert (one.headers["x-everywhere"], other.headers["x-everywhere"]) == ("default", "other")


def test_plain_http_is_seen(target: Daemon, server: Nginx) -> None:
    asked = server["plain"].url("/echo", "functions.example")
    result = curl(target, asked)
    assert result.status == 200
    assert result.headers["newheader"] == "foo"
    assert json.loads(result.body)["forwarded"] == asked
    outside = curl(target, server["plain"].url("/", "outside.test"))
    assert outside.status == 200
    assert "x-everywhere" not in outside.headers


@VERSIONS
def test_a_request_for_another_host_is_misdirected_and_not_seen(target: Daemon, server: Nginx, version: str) -> None:
    result = curl(target, url(server, "class", "/evil"), version, "-H", "Host: waiting.example")
    assert result.status == 421
    assert target.wait_log("refused", status=421)
    assert curl(target, url(server, "class", "/status/404?good"), version).status == 404
    assert not [entry for entry in server.requests() if "evil" in entry["uri"]]
    assert not [line for line in said(target) if "evil" in line]


@VERSIONS
def test_a_request_is_a_line_in_the_log_as_ever(target: Daemon, server: Nginx, version: str) -> None:
    path = f"/not-there{version[-1]}"
    result = curl(target, url(server, "functions", f"{path}?secret=1"), version)
    assert result.status == 404
    (entry,) = target.wait_log("request", path=path)
    assert (entry["method"], entry["status"], entry["outcome"]) == ("GET", 404, "complete")
    assert "secret=1" not in target.stderr_text()

"""The archive addon in mitmproxy's hands, its command, and with traffic through a proxy."""

from __future__ import annotations

import asyncio
import io
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http, websocket
from mitmproxy.exceptions import OptionsError
from wsproto.frame_protocol import Opcode

from addons import archive_keys, archive_open
from addons.archive import Archive
from addons.archive_folder import ArchiveFolder
from addons.archive_format import ArchiveError
from tests.addons.conftest import ROOT, Start
from tests.addons.mitm import configured, tflow, tutils
from tests.addons.proxies import REPOSITORY, Mitmdump, Sallyport
from tests.addons.sealed import PRIVATE, PUBLIC, content, flows, names, states
from tests.harness.curl import curl
from tests.harness.origins import Nginx
from tests.harness.processes import wait_for


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str | int]:
    """The two options that have to be set."""
    (tmp_path / "public.pem").write_bytes(PUBLIC)
    return {"archive_folder": str(tmp_path / "archive"), "archive_key_file": str(tmp_path / "public.pem")}


def flow(content: bytes = b"", host: str = "good.example", response: bytes | None = b"answer") -> http.HTTPFlow:
    return tflow.tflow(
        req=tutils.treq(host=host, content=content),
        resp=False if response is None else tutils.tresp(content=response),
    )


def kept(options: dict[str, str | int], *seen: http.HTTPFlow, hook: str = "response", **more: str | int) -> list[Any]:
    """The states of the flows that the archive has after these were seen."""
    addon = Archive()
    with configured(addon, **options, **more):
        for each in seen:
            getattr(addon, hook)(each)
        addon.done()
    return states(content(Path(str(options["archive_folder"]))))


class TestWhatIsKept:
    def test_a_flow_comes_back_as_mitmproxy_wrote_it(self, options: dict[str, str | int]) -> None:
        seen = flow(b"question")
        seen.metadata["sallyport_tenant"] = "default"
        addon = Archive()
        with configured(addon, **options):
            addon.request(seen)
            addon.response(seen)
            addon.done()
        (read,) = flows(content(Path(str(options["archive_folder"]))))
        assert read.get_state() == seen.get_state()
        assert read.metadata["sallyport_tenant"] == "default"

    def test_only_what_the_filter_wants(self, options: dict[str, str | int]) -> None:
        seen = (flow(host="good.example"), flow(host="other.example"))
        (state,) = kept(options, *seen, archive_filter="~d other.example & ~c 200")
        assert state["request"]["host"] == "other.example"

    def test_a_body_up_to_the_limit_and_a_note_of_the_rest(self, options: dict[str, str | int]) -> None:
        seen = (flow(b"q" * 11, response=b"a" * 10), flow(b"q" * 10, response=b"a" * 12))
        first, second = kept(options, *seen, archive_body_limit=10)
        assert first["request"]["content"] == b"q" * 10
        assert first["comment"] == "archive: 10 of 11 bytes of the request's body were kept"
        assert second["response"]["content"] == b"a" * 10
        assert second["comment"] == "archive: 10 of 12 bytes of the response's body were kept"
        assert seen[0].request.content == b"q" * 11, "what passes is not changed"

    def test_what_it_was_before_somebody_edited_it_is_not_kept_a_second_time(
        self, options: dict[str, str | int]
    ) -> None:
        seen = flow(b"before")
        seen.backup()
        seen.request.content = b"after"
        (state,) = kept(options, seen)
        assert (state["request"]["content"], state["backup"]) == (b"after", None)

    def test_a_body_that_was_streamed_is_noted(self, options: dict[str, str | int]) -> None:
        seen = flow()
        assert seen.response is not None
        seen.response.data.content = None
        (state,) = kept(options, seen)
        assert state["comment"] == "archive: the response's body was streamed and not kept"

    def test_a_websocket_is_kept_once_with_its_messages_when_it_ends(self, options: dict[str, str | int]) -> None:
        seen = flow()
        messages = [websocket.WebSocketMessage(Opcode.BINARY, True, b"x" * 4) for _ in range(3)]
        seen.websocket = websocket.WebSocketData(messages)
        assert kept(options, seen, hook="response") == []
        (state,) = kept(options, seen, hook="websocket_end", archive_body_limit=10)
        assert len(state["websocket"]["messages"]) == 2
        assert "2 of 3 WebSocket messages" in state["comment"]

    def test_a_flow_that_broke_off_is_kept(self, options: dict[str, str | int]) -> None:
        seen = tflow.tflow(err=True)
        (state,) = kept(options, seen, hook="error")
        assert state["error"]["msg"] == "error"

    def test_metadata_that_cannot_be_written_is_an_error_of_that_flow_alone(
        self, options: dict[str, str | int]
    ) -> None:
        addon = Archive()
        bad, good = flow(), flow()
        bad.metadata["object"] = object()
        with configured(addon, **options):
            with pytest.raises((TypeError, ValueError)):
                addon.response(bad)
            addon.response(good)
            addon.done()
        assert len(states(content(Path(str(options["archive_folder"]))))) == 1

    def test_new_options_end_the_file_and_begin_another(self, options: dict[str, str | int], tmp_path: Path) -> None:
        addon = Archive()
        with configured(addon, **options) as context:
            addon.response(flow())
            context.configure(addon, archive_filter="~d other.example")
            addon.response(flow())
            addon.response(flow(host="other.example"))
            addon.done()
        assert [state["request"]["host"] for state in states(content(tmp_path / "archive"))] == [
            "good.example",
            "other.example",
        ]
        assert len(names(tmp_path / "archive")) == 2


class TestGaps:
    def test_a_folder_that_is_gone_stops_what_is_to_be_kept(
        self, options: dict[str, str | int], tmp_path: Path
    ) -> None:
        addon = Archive()
        with configured(addon, **options, archive_filter="~d good.example"):
            addon.response(flow())
            writer = addon._writer
            assert writer is not None
            assert writer.flush(30) == 0
            shutil.rmtree(tmp_path / "archive")
            addon.response(flow())
            assert writer.flush(30) > 0
            for hook, seen in ((addon.request, flow(response=None)), (addon.response, flow()), (addon.error, flow())):
                with pytest.raises(ArchiveError, match="the archive cannot be written"):
                    hook(seen)
            addon.request(flow(host="other.example", response=None))
            addon.response(flow(host="other.example"))
            (tmp_path / "archive").mkdir(mode=0o700)
            wait_for("the next try", lambda: writer.failure is None, timeout=30)
            addon.response(flow())
            addon.done()
        assert len(states(content(tmp_path / "archive"))) == 2

    def test_what_could_not_be_written_at_the_end_is_said(
        self, options: dict[str, str | int], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        addon = Archive()
        with configured(addon, **options):
            shutil.rmtree(tmp_path / "archive")
            addon.response(flow())
            addon.done()
        assert "archive: 1 flows were not written: [Errno 2] No such file or directory" in caplog.text

    @pytest.mark.parametrize("how", ["done", "configure"])
    def test_the_end_of_a_file_holds_up_no_event_loop(
        self, options: dict[str, str | int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        slow, append = threading.Event(), ArchiveFolder.append

        def held(folder: ArchiveFolder, data: bytes) -> None:
            assert slow.wait(60)
            append(folder, data)

        async def end() -> None:
            addon = Archive()
            with configured(addon, **options) as context:
                addon.response(flow())
                first = addon._writer
                assert first is not None
                if how == "configure":
                    context.configure(addon, archive_filter="~d other.example")
                rest = addon.done()
                # Nothing is written yet, and the loop goes on.
                assert not slow.is_set()
                assert first._thread is not None
                assert first._thread.is_alive()
                assert rest is not None
                with pytest.raises(ArchiveError, match="the archive is closed"):
                    first.put(b"more")
                slow.set()
                await rest

        monkeypatch.setattr(ArchiveFolder, "append", held)
        asyncio.run(end())
        assert len(states(content(tmp_path / "archive"))) == 1

    def test_an_archive_that_was_not_set_up_stops_everything(self) -> None:
        for hook in (Archive().request, Archive().response):
            with pytest.raises(ArchiveError, match="is not set up"):
                hook(flow())


class TestConfigure:
    def refusal(self, **options: str | int) -> list[str]:
        with pytest.raises(OptionsError) as caught, configured(Archive(), **options):
            pass
        return str(caught.value).splitlines()

    def test_what_has_to_be_set(self) -> None:
        assert self.refusal() == [
            "archive_folder is not set; expected the path of a folder",
            "archive_key_file is not set; expected the path of a file",
        ]

    def test_everything_wrong_comes_at_once(self, options: dict[str, str | int], tmp_path: Path) -> None:
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive").chmod(0o755)
        (tmp_path / "public.pem").write_bytes(PRIVATE)
        numbers = {"archive_file_size": 1, "archive_total_size": 1, "archive_body_limit": -1, "archive_queue_size": 0}
        said = self.refusal(**options, **numbers, archive_filter="~")
        assert [line.partition(":")[0] for line in said] == [
            "archive_filter", *numbers, "archive_folder", "archive_key_file",
        ]  # fmt: skip
        assert "chmod 0700 it" in said[-2]
        assert "holds a private key; put only the public key here" in said[-1]

    def test_the_total_holds_two_files_at_least(self, options: dict[str, str | int]) -> None:
        (said,) = self.refusal(**options, archive_file_size=100_000, archive_total_size=150_000)
        assert said == "archive_total_size: expected at least 200000 bytes (twice archive_file_size), got 150000"


class TestOpen:
    @pytest.fixture
    def archive(self, options: dict[str, str | int], tmp_path: Path) -> Path:
        kept(options, flow(), flow())
        (tmp_path / "private.pem").write_bytes(PRIVATE)
        return tmp_path / "archive" / names(tmp_path / "archive")[0]

    def test_mitmdump_reads_what_the_command_writes(self, archive: Path, tmp_path: Path) -> None:
        run: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
        command = [sys.executable, "-m", "addons.archive_open", "--key", str(tmp_path / "private.pem"), str(archive)]
        done = run(command, cwd=REPOSITORY, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        (tmp_path / "flows.mitm").write_bytes(done.stdout)
        mitmdump = Path(sys.executable).with_name("mitmdump")
        shown = run(
            [mitmdump, "--set", f"confdir={tmp_path}", "-nr", tmp_path / "flows.mitm"], capture_output=True, timeout=60
        )
        assert shown.stdout.count(b"GET http://good.example:22/path") == 2, shown

    def test_what_is_whole_is_written_and_what_is_not_is_said(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cut = tmp_path / "cut"
        cut.write_bytes(archive.read_bytes()[:-1])
        output = io.BytesIO()
        missing = tmp_path / "missing"
        arguments = ["--key", str(tmp_path / "private.pem"), str(cut), str(missing), str(archive)]
        assert archive_open.main(arguments, output) == 1
        assert len(states(output.getvalue())) == 4
        said = capsys.readouterr().err.splitlines()
        assert said[0].startswith(f"{cut}: the archive has no end")
        assert "No such file" in said[1]

    def test_a_key_that_is_none_is_said(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("public.pem", "missing.pem"):
            assert archive_open.main(["--key", str(tmp_path / name), str(archive)], io.BytesIO()) == 1
        first, second = capsys.readouterr().err.splitlines()
        assert "public.pem: expected one X25519 private key" in first
        assert "missing.pem: No such file" in second

    def test_a_pair_is_made_once_and_nothing_is_overwritten(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        private, public = tmp_path / "new.key", tmp_path / "new.pem"
        assert archive_keys.main([str(private), str(public)]) == 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        identity = archive_keys.load_identity(private.read_bytes())
        assert identity.recipient.id == archive_keys.load_recipient(public.read_bytes()).id
        assert archive_keys.main([str(private), str(public)]) == 1
        assert archive_keys.main([]) == 2
        assert "nothing is overwritten" in capsys.readouterr().err


class TestTraffic:
    def test_flows_are_kept_sealed_and_the_file_is_ended_on_sigterm(
        self, start: Start, origin: Nginx, options: dict[str, str | int], tmp_path: Path
    ) -> None:
        running = start("archive", options)
        site = origin["good.example"]
        for version in ("--http1.1", "--http2"):
            assert curl(running, site.url("/upload/secret"), version, "-T", __file__).status in (201, 204)
            assert curl(running, site.url(), version).text == "hello from good.example\n"
        running.stop()
        (name,) = names(tmp_path / "archive")
        assert name.endswith(".sealed")
        data = (tmp_path / "archive" / name).read_bytes()
        assert b"good.example" not in data
        assert b"hello" not in data
        seen = flows(content(tmp_path / "archive"))
        assert [(each.request.method, each.request.http_version) for each in seen] == [
            ("PUT", "HTTP/1.1"), ("GET", "HTTP/1.1"), ("PUT", "HTTP/2.0"), ("GET", "HTTP/2.0"),
        ]  # fmt: skip
        assert seen[0].request.content == Path(__file__).read_bytes()
        assert seen[1].response is not None
        assert seen[1].response.text == "hello from good.example\n"

    def test_what_was_written_can_be_read_while_the_proxy_runs(
        self, start: Start, origin: Nginx, options: dict[str, str | int], tmp_path: Path
    ) -> None:
        running = start("archive", options)
        assert curl(running, origin["good.example"].url()).status == 200
        wait_for("a file", lambda: names(tmp_path / "archive"))
        (tmp_path / "private.pem").write_bytes(PRIVATE)
        part = tmp_path / "archive" / names(tmp_path / "archive")[0]

        def whole() -> bool:
            output = io.BytesIO()
            archive_open.main(["--key", str(tmp_path / "private.pem"), str(part)], output)
            return len(flows(output.getvalue())) == 1

        wait_for("the flow in the file", whole, timeout=30)


def test_with_on_error_block_nothing_passes_that_cannot_be_kept(
    origin: Nginx, options: dict[str, str | int], tmp_path: Path
) -> None:
    url = origin["good.example"].url()
    with Sallyport(tmp_path / "proxy", "archive", options, trust=ROOT) as running:
        assert curl(running, url).status == 200
        wait_for("a file", lambda: names(tmp_path / "archive"))
        shutil.rmtree(tmp_path / "archive")
        wait_for("a request to be stopped", lambda: curl(running, url).status == 502, timeout=30)
        reached = len(origin.requests())
        for version in ("--http1.1", "--http2"):
            stopped = curl(running, url, version)
            assert stopped.status == 502
            assert stopped.proxy_status == 'sallyport; error=proxy_internal_error; details="inspector_failed"'
        assert len(origin.requests()) == reached
        (tmp_path / "archive").mkdir(mode=0o700)
        wait_for("requests to pass again", lambda: curl(running, url).status == 200, timeout=30)
    assert flows(content(tmp_path / "archive"))


class TestMitmdump:
    """What only mitmdump can be asked here: it says what a hook raises, and goes on."""

    def test_a_full_disk_raises_in_the_hooks(
        self, origin: Nginx, options: dict[str, str | int], tmp_path: Path
    ) -> None:
        url = origin["good.example"].url(origin.file("zeroes", 300_000))
        with Mitmdump(tmp_path / "proxy", "archive", options, trust=ROOT, largest_file=100_000) as running:
            assert curl(running, url).status == 200

            def refused() -> bool:
                curl(running, origin["good.example"].url())
                return "the archive cannot be written: [Errno 27] File too large" in running.output()

            wait_for("the hook to raise", refused, timeout=30)
            running.stop()
            assert "were not written" in running.output()
        assert content(tmp_path / "archive") == b""

    def test_it_does_not_start_without_a_key(self, options: dict[str, str | int], tmp_path: Path) -> None:
        proxy = Mitmdump(tmp_path / "proxy", "archive", {**options, "archive_key_file": "/missing"}, trust=ROOT)
        assert proxy.start().wait(60) == 1
        assert "archive_key_file: /missing: No such file or directory" in proxy.output()

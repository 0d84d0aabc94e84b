"""Keeps flows for forensics, sealed: only the holder of a private key that is not here can read them.

    python -m addons.archive_keys private.pem public.pem
    mitmdump -s addons/archive.py --set archive_folder=/var/lib/flows --set archive_key_file=public.pem

A flow that cannot be kept makes the hook raise: whether it passes all the same is for ``on_error`` to say. Having a
``request`` and a ``response`` hook is what asks the inspection lane for the bodies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

from mitmproxy import ctx, flowfilter, http
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError

from addons import option_files
from addons.archive_folder import ArchiveFolder, check_folder
from addons.archive_format import ArchiveError
from addons.archive_keys import LARGEST_KEY_FILE, KeyFileError, load_recipient
from addons.archive_record import record_of
from addons.archive_writer import ArchiveWriter

SMALLEST_FILE = 64 << 10
CLOSE_TIMEOUT = 10.0
"""Seconds that the end of the addon waits for what is still to be written."""
OPTIONS = frozenset(
    {
        "archive_folder",
        "archive_filter",
        "archive_key_file",
        "archive_file_size",
        "archive_total_size",
        "archive_body_limit",
        "archive_queue_size",
    }
)
_logger = logging.getLogger(__name__)


class Archive:
    """Takes flows as they end: with their response, with a WebSocket's close, or with an error."""

    def __init__(self) -> None:
        self._writer: ArchiveWriter | None = None
        self._filter: flowfilter.TFilter | None = None
        self._body_limit = 0

    def load(self, loader: Loader) -> None:
        """Define the options."""
        loader.add_option("archive_folder", str, "", "Folder for the archives, which only the proxy's user may enter.")
        loader.add_option("archive_filter", str, "", "mitmproxy filter for the flows to keep. Empty: all of them.")
        loader.add_option("archive_key_file", str, "", "File with the public key that archives are sealed for.")
        loader.add_option("archive_file_size", int, 64 << 20, "Bytes after which a new file is begun.")
        loader.add_option("archive_total_size", int, 1 << 30, "Bytes of all files; beyond, the oldest are deleted.")
        loader.add_option("archive_body_limit", int, 8 << 20, "Bytes that are kept of a body.")
        loader.add_option("archive_queue_size", int, 64 << 20, "Bytes that may wait in memory to be written.")

    def configure(self, updated: set[str]) -> None:
        """Check all options. Raises OptionsError with all that is wrong; then what was set before still counts."""
        if not OPTIONS & updated:
            return
        problems: list[str] = []
        filter_ = _checked_filter(problems)
        _check_sizes(problems)
        folder = _checked_folder(problems)
        recipient = None
        try:
            _, pem = option_files.read("archive_key_file", ctx.options.archive_key_file, LARGEST_KEY_FILE)
            recipient = load_recipient(pem)
        except KeyFileError as error:
            problems.append(f"archive_key_file: {ctx.options.archive_key_file} {error}")
        except OptionsError as error:
            problems.append(str(error))
        if problems or recipient is None:
            raise option_files.options_error("\n".join(problems))
        self._close()
        options = ctx.options
        files = ArchiveFolder(folder, recipient, options.archive_file_size, options.archive_total_size, _now)
        self._writer = ArchiveWriter(files, options.archive_queue_size)
        self._filter = filter_
        self._body_limit = options.archive_body_limit

    def request(self, flow: http.HTTPFlow) -> None:
        """Stop a flow that is to be kept, before it reaches the server, where nothing can be written now."""
        if self._wanted(flow):
            self._needed().check()

    def response(self, flow: http.HTTPFlow) -> None:
        """Keep a flow, but for a WebSocket, of which there is more to come."""
        if flow.websocket is None:
            self._keep(flow)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Keep a WebSocket with its messages."""
        self._keep(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """Keep a flow that broke off."""
        self._keep(flow)

    def done(self) -> Awaitable[None] | None:
        """Write what waits, and end the file. What to await where there is an event loop, which is not held up."""
        return self._close()

    def _wanted(self, flow: http.HTTPFlow) -> bool:
        return self._filter is None or bool(flowfilter.match(self._filter, flow))

    def _needed(self) -> ArchiveWriter:
        if self._writer is None:
            raise ArchiveError("the archive is not set up: archive_folder and archive_key_file were not read")
        return self._writer

    def _keep(self, flow: http.HTTPFlow) -> None:
        if self._wanted(flow):
            self._needed().put(record_of(flow, self._body_limit))

    def _close(self) -> Awaitable[None] | None:
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _finish(writer)
            return None
        writer.end()
        # Not a coroutine: who calls hooks without awaiting them (mitmproxy, for some) has it done all the same.
        return loop.run_in_executor(None, _finish, writer)


def _finish(writer: ArchiveWriter) -> None:
    if left := writer.close(CLOSE_TIMEOUT):
        _logger.error("archive: %d flows were not written: %s", left, writer.failure or "there was no time left")


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _checked_filter(problems: list[str]) -> flowfilter.TFilter | None:
    if not ctx.options.archive_filter:
        return None
    try:
        return flowfilter.parse(ctx.options.archive_filter)
    except ValueError as error:
        problems.append(f"archive_filter: {error}; expected a filter expression of mitmproxy, such as ~d example.com")
        return None


def _check_sizes(problems: list[str]) -> None:
    options = ctx.options
    for name, least in (
        ("archive_file_size", SMALLEST_FILE),
        ("archive_total_size", 2 * options.archive_file_size),
        ("archive_body_limit", 0),
        ("archive_queue_size", 1),
    ):
        if (value := getattr(options, name)) < least:
            why = " (twice archive_file_size)" if name == "archive_total_size" else ""
            problems.append(f"{name}: expected at least {least} bytes{why}, got {value}")


def _checked_folder(problems: list[str]) -> Path:
    name = ctx.options.archive_folder
    path = Path(os.path.expanduser(name)).absolute()
    if not name:
        problems.append("archive_folder is not set; expected the path of a folder")
        return path
    try:
        check_folder(path)
    except ArchiveError as error:
        problems.append(f"archive_folder: {path} {error}")
    except OSError as error:
        problems.append(f"archive_folder: {path}: {error.strerror}; name a folder that can be made")
    return path


addons = [Archive()]

"""Blocks requests by host and path, from a file with a pattern a line (docs/shipped-inspectors.md).

    mitmdump -s addons/block_url.py --set block_url_file=/etc/sallyport/blocked.txt

A request is judged by its head: its body is not waited for, and nothing of it reaches the server.
"""

from __future__ import annotations

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from addons import option_files
from addons.refusing import refuse, refuse_unreadable
from addons.requested_hosts import hosts_of
from addons.url_list import UrlList
from addons.url_paths import forms
from certs.names import InvalidHost

LARGEST_FILE = 64 << 20
"""Bytes; a million lines are about half of it."""
UNREAD = UrlList(b"*  The proxy could not read its list of what is blocked.")
"""What counts until a list was read: everything is blocked."""


class BlockUrl:
    """The list is read when the option is set and kept compiled."""

    def __init__(self) -> None:
        self._list = UNREAD

    def load(self, loader: Loader) -> None:
        """Define the option."""
        loader.add_option("block_url_file", str, "", "File with the hosts and paths to block, a pattern a line.")

    def configure(self, updated: set[str]) -> None:
        """Read the file. Raises OptionsError with all that is wrong with it; then what was read before still counts."""
        if "block_url_file" not in updated:
            return
        file, data = option_files.read("block_url_file", ctx.options.block_url_file, LARGEST_FILE)
        read = UrlList(data)
        if read.problems:
            raise option_files.refused(file, read.problems)
        self._list = read

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Answer what the list blocks."""
        if flow.response is not None:
            return
        try:
            hosts = hosts_of(flow)
        except InvalidHost as error:
            refuse_unreadable(flow, "block_url", str(error))
            return
        paths = forms(flow.request.data.path)
        for host in hosts:
            if (text := self._list.find(host, paths)) is not None:
                refuse(
                    flow,
                    "block_url",
                    "Blocked: this address is on the organisation's list",
                    text or "The rules of your organisation do not allow this address.",
                    host.text,
                )
                return


addons = [BlockUrl()]

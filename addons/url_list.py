"""The file of ``block_url``: a pattern a line, with the text that the page shows, compiled into an index."""

from __future__ import annotations

import re

from addons.url_paths import PathIndex
from certs.host_patterns import HostIndex, HostPattern, parse_pattern
from certs.names import Host, InvalidHost
from config.problems import Problem, shown

_COMMENT = re.compile(r"(?:^|\s)#(?:\s.*)?$")
_PORT = re.compile(r"(?:[^:]+|\[.*\]):[0-9]*")
_HOSTS_FILE = ("0.0.0.0", "127.0.0.1", "::", "::1")  # noqa: S104 - what such files block with; nothing binds here
LONGEST_TEXT = 1000
"""Characters of a line's text; a page should be read."""


class UrlList:
    """What is blocked. ``problems`` is all that was wrong with the file."""

    def __init__(self, data: bytes) -> None:
        self.problems: list[Problem] = []
        self._hosts: HostIndex[PathIndex[str]] = HostIndex(PathIndex)
        for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            try:
                self._read(raw.decode("utf-8").strip())
            except UnicodeDecodeError:
                self.problems.append(Problem("", "not UTF-8 text; save the file as UTF-8", number))
            except ValueError as error:
                self.problems.append(Problem("", str(error), number))

    def find(self, host: Host, paths: tuple[str, ...]) -> str | None:
        """The text of the line that blocks a request for that host whose path has these forms; None: nothing does.

        The text is empty where the line has none. The line with the closest host counts.
        """
        for index in self._hosts.find(host):
            if (found := index.find(paths)) is not None:
                return found
        return None

    def _read(self, line: str) -> None:
        if line.startswith("#"):
            return
        line = line.replace("\t", " ")
        if not line.isprintable():
            raise ValueError(f"{shown(line)} has a character that is not printable; remove it")
        pattern, _, text = (_COMMENT.sub("", line) if "#" in line else line).partition(" ")
        if not pattern:
            return
        text = text.strip()
        if text.startswith("#"):
            text = ""
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"the text has {len(text)} characters; at most {LONGEST_TEXT} are shown, shorten it")
        host, path = _parts(pattern, text)
        self._hosts.at(host).add(path, text)


def _parts(pattern: str, text: str) -> tuple[HostPattern, str]:
    """Host pattern and path pattern. Raises ValueError for what a person may take for a pattern and is none."""
    if "://" in pattern:
        raise ValueError(f"{shown(pattern)} has a scheme; leave it out, every scheme is meant: example.com/path*")
    if pattern.startswith("/"):
        raise ValueError(f"{shown(pattern)} has no host; write */path* for every host")
    host, slash, path = pattern.partition("/")
    for character, what in (("?", "a query, which is not looked at"), ("#", "a fragment, which is never sent")):
        if character in pattern:
            raise ValueError(f"{shown(pattern)} has {what}; end the pattern before the {character}")
    if ":" in host and _PORT.fullmatch(host):
        raise ValueError(f"{shown(pattern)} has a port; leave it out, every port is meant: example.com/path*")
    if text and host in _HOSTS_FILE and "." in text and " " not in text:
        raise ValueError("this looks like a line of a hosts file; write the name alone, without an address before it")
    try:
        return parse_pattern(host), slash + path if slash else "*"
    except InvalidHost as error:
        raise ValueError(f"{error}; expected HOST/PATH, such as *.example.com/games/*") from None

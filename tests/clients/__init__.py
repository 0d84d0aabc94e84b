"""Clients that people have, and how each is told of the proxy and of the root: what ``docs/clients.md`` has as a table.

One module for each kind of client; in it one function for each client, whose decorator says how it is set up. What is
shown in the document is what is run: the settings are the same objects. ``base`` has what such a function is written
in, ``origin`` the servers that they go to, ``asking`` sends them through a real daemon and says whether it went as it
has to, ``table`` writes the document. `make clients` asks all of them; a test asks those that cost little.
"""

from __future__ import annotations

from tests.clients import browsers, command_line, golang, java, javascript, packages, python
from tests.clients.base import CLIENTS

CLIENTS.sort(key=lambda one: one.name.casefold())  # as somebody looks for one

__all__ = ["CLIENTS", "browsers", "command_line", "golang", "java", "javascript", "packages", "python"]

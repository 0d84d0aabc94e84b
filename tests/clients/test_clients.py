"""The clients that cost little, through one daemon; and ``docs/clients.md`` says of all of them what is run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.clients import CLIENTS
from tests.clients.asking import Stage
from tests.clients.base import EXPLICIT, options
from tests.clients.table import expected, written
from tests.harness.programs import PACKAGES, need

CHEAP = [one for one in CLIENTS if one.cheap]


def test_the_document_says_what_is_run() -> None:
    rows = list(written())
    assert [(title, cells) for title, cells, _ in rows] == expected(), "run `make clients`"
    assert all(version and result for _, _, (version, result) in rows)


@pytest.mark.timeout(400)
def test_a_client_comes_through_where_it_trusts_the_root_and_refuses_where_it_does_not(tmp_path: Path) -> None:
    """One daemon for all; the last two are no good clients, so that it is seen that such are found out."""
    for program in {"nginx", *(program for one in CHEAP for program in one.needs if program in PACKAGES)}:
        need(program)
    (curl,) = (one for one in CHEAP if one.id == "curl")
    credulous = dataclasses.replace(
        curl, id="credulous", ways={EXPLICIT.id: options("--proxy http://{proxy} --insecure")}
    )
    incredulous = dataclasses.replace(curl, id="incredulous", root=options("--cacert /dev/null"))
    with Stage(tmp_path, [*CHEAP, credulous, incredulous], [EXPLICIT]) as stage:
        went = {one.id: stage.ask(one, EXPLICIT) for one in CHEAP}
        assert not {id: one.wrong for id, one in went.items() if one.wrong}
        assert went["curl"].result == "HTTP/2, TLSv1.3"
        assert went["python-websockets"].result == "WebSocket, TLSv1.3"
        assert "should refuse" in stage.ask(credulous, EXPLICIT).wrong
        assert "does not come through" in stage.ask(incredulous, EXPLICIT).wrong

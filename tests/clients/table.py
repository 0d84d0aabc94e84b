"""The tables of ``docs/clients.md``, one for each way, between two marks; `make clients` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.base import CLIENTS, WAYS, Client, Setting, Way

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"
BEGIN, END = "<!-- written by make clients: begin -->", "<!-- written by make clients: end -->"
PLACES = {"proxy": "proxy.example:8080", "host": "proxy.example", "port": "8080", "root": "/etc/sallyport/root.pem"}
"""What the document has where settings differ from one place to another."""
COLUMNS = (
    "client", "version", "the proxy", "the root", "with the root in the system's store", "spoken",
    "without the root it says", "",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


@dataclass(frozen=True)
class Row:
    """A client that came through, and what was seen."""

    way: Way
    client: Client
    version: str
    result: str


def cells(way: Way, client: Client, version: str, result: str) -> list[str]:
    """A line of a table, cell by cell."""
    proxy, root = (_written(one) for one in (client.ways[way.id], client.root))
    system = "not" if client.system is None else _written(client.system) or "nothing more"
    refusal = f"`{client.refusal}`" + (f", with OpenSSL `{client.with_openssl}`" if client.with_openssl else "")
    return [client.name, version, proxy, root, system, result, refusal, client.note]


def with_tables(document: str, rows: Sequence[Row]) -> str:
    """The document with these rows between the marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(_table(way, [row for row in rows if row.way is way]) for way in WAYS)
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def expected() -> list[tuple[str, list[str]]]:
    """What the document has to say of each client on each way, but for version and result: its title, and its cells."""
    return [
        (way.title, [cell for cell in cells(way, one, "", "") if cell])
        for way in WAYS
        for one in CLIENTS
        if way.id in one.ways
    ]


def written() -> Iterator[tuple[str, list[str], list[str]]]:
    """What it says: title, cells, and version with result."""
    title = ""
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    for line in rest.partition(END)[0].splitlines():
        if line.startswith("### "):
            title = line.removeprefix("### ")
        elif line.startswith("| ") and not line.startswith("| client "):
            row = [cell.strip() for cell in line.strip("|").split(" |")]
            yield title, [cell for cell in [row[0], *row[2:5], *row[6:]] if cell], [row[1], row[5]]


def _table(way: Way, rows: Sequence[Row]) -> str:
    lines = "".join(f"| {' | '.join(cells(way, row.client, row.version, row.result))} |\n" for row in rows)
    return f"### {way.title}\n\n{HEAD}{lines}"


def _written(setting: Setting) -> str:
    texts = "<br>".join(f"`{text}`" for text in setting.shown(**PLACES))
    return f"in `{setting.file}`:<br>{texts}" if setting.file else texts

"""`make clients`: send every client through the proxy, and write the tables of docs/clients.md.

Nothing is written where one of them does not come through, or comes through without the root, or is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.clients import CLIENTS, system_store
from tests.clients.asking import Stage, version
from tests.clients.base import WAYS
from tests.clients.table import DOCUMENT, Row, with_tables


def main() -> int:
    """Ask all, or those that are named (nothing is written then); 1 where one is not as it has to be."""
    parser = argparse.ArgumentParser(description="send clients through the proxy, and write docs/clients.md")
    parser.add_argument("--only", metavar="NAME,NAME", default="", help="these, and write nothing")
    asked = list(filter(None, parser.parse_args().only.split(",")))
    clients = [client for client in CLIENTS if not asked or client.id in asked]
    if unknown := set(asked) - {client.id for client in clients}:
        print(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(one.id for one in CLIENTS)}")
        return 1
    if why := system_store.hindrance():
        print(f"not asked about the system's store: {why}")
    rows: list[Row] = []
    failed = bool(why)
    with (
        tempfile.TemporaryDirectory(prefix="clients-") as scratch,
        Stage(Path(scratch), clients, WAYS, system=not why) as stage,
    ):
        for way in WAYS:
            for client in (one for one in clients if way.id in one.ways):
                if missing := client.missing():
                    print(f"{client.name}: missing: {', '.join(missing)}", flush=True)
                    failed = True
                    continue
                went = stage.ask(client, way)
                print(f"{way.title}, {client.name} {version(client)}: {went.wrong or went.result}", flush=True)
                rows.append(Row(way, client, version(client), went.result))
                failed = failed or bool(went.wrong)
    if failed:
        print("Nothing is written: one of them is not as it has to be")
        return 1
    if not asked:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), rows))
        print(f"all {len(rows)} came through, and {DOCUMENT.name} has the table")
    return 0


if __name__ == "__main__":
    sys.exit(main())

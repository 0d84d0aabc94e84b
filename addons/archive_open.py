"""Opens sealed archives and writes the flows in them to standard output, as mitmproxy reads them.

    python -m addons.archive_open --key FILE ARCHIVE... > flows.mitm
    mitmdump -nr flows.mitm

What is written is whole flows, up to where an archive was changed or ends too early; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from addons.archive_format import ArchiveError, read_archive
from addons.archive_keys import KeyFileError, load_identity


def main(arguments: Sequence[str], output: BinaryIO) -> int:
    """Open the archives one after the other. Returns the exit status: 0, or 1 where one could not be opened whole."""
    parser = argparse.ArgumentParser(prog="python -m addons.archive_open", description="Open sealed archives.")
    parser.add_argument("--key", required=True, metavar="FILE", help="private key file")
    parser.add_argument("--passphrase-file", metavar="FILE", help="file whose first line opens the private key")
    parser.add_argument("archives", nargs="+", metavar="ARCHIVE")
    options = parser.parse_args(arguments)
    if output.isatty():
        sys.stderr.write("the flows are no text; send them to a file: > flows.mitm\n")
        return 1
    try:
        passphrase = _first_line(Path(options.passphrase_file)) if options.passphrase_file else None
        identity = load_identity(Path(options.key).read_bytes(), passphrase)
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        return 1
    except KeyFileError as error:
        sys.stderr.write(f"{options.key}: {error}\n")
        return 1
    status = 0
    for name in options.archives:
        try:
            with Path(name).open("rb") as file:
                output.writelines(read_archive(file, identity))
        except (ArchiveError, OSError) as error:
            sys.stderr.write(f"{name}: {error}\n")
            status = 1
    output.flush()
    return status


def _first_line(path: Path) -> bytes:
    return path.read_bytes().partition(b"\n")[0].rstrip(b"\r")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout.buffer))

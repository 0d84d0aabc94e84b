"""A folder of CRLs that an administrator keeps: for networks in which nothing can be fetched, and for private CAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from certs.crl import Crl, crls_of_file
from certs.facts import NameKey
from certs.revocation import Unusable
from proxy.log import INFO, WARNING, Log

SUFFIXES = frozenset({".crl", ".pem", ".der"})
MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was when it was read."""

    state: tuple[int, int, int]
    crls: tuple[Crl, ...]
    problem: str = ""


class CrlDirectory:
    """The lists of a folder. :meth:`look` may run in a thread, one at a time; the rest is for the event loop."""

    def __init__(self, folder: Path, largest: int, log: Log) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self.changes = 0
        """How often something in it has changed: what was judged before may be otherwise now."""
        self._largest = largest
        self._log = log
        self._files: dict[str, _File] = {}
        self._problems: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._named: dict[NameKey, tuple[tuple[str, Crl], ...]] = {}

    def of(self, issuer: NameKey) -> Sequence[tuple[str, Crl]]:
        """The lists of an issuer, each with its file's name."""
        return self._named.get(issuer, ())

    def tell(self, before: int) -> None:
        """Log what there is to say since there were so many changes: each problem once."""
        for file, why in self._problems.items():
            if self._told.get(file) != why:
                self._log.event(WARNING, "crl file", file=file, reason=why)
        self._told = dict(self._problems)
        if self.changes != before:
            lists = sum(len(file.crls) for file in self._files.values())
            self._log.event(INFO, "crl directory read", files=len(self._files), lists=lists)

    def look(self) -> None:
        """Read what is new or has changed. What is gone counts no more.

        A folder or file that cannot be read leaves the lists as they were: that makes nothing good that was revoked.
        """
        try:
            there = sorted(path for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            self._problems = {str(self.folder): error.strerror or str(error)}
            return
        problems: dict[str, str] = {}
        if len(there) > MOST_FILES:
            problems[str(self.folder)] = f"more than {MOST_FILES} files; the first of them count"
        files: dict[str, _File] = {}
        for path in there[:MOST_FILES]:
            file = self._read(path)
            if file is not None:
                files[path.name] = file
                if file.problem:
                    problems[path.name] = file.problem
        self._problems = problems
        if files == self._files:
            return
        named: dict[NameKey, list[tuple[str, Crl]]] = {}
        for name, file in files.items():
            for crl in file.crls:
                named.setdefault(crl.issuer, []).append((name, crl))
        self._files = files
        self._named = {issuer: tuple(crls) for issuer, crls in named.items()}
        self.changes += 1

    def _read(self, path: Path) -> _File | None:
        """The file, as it was read before where it has not changed; None where it is gone."""
        before = self._files.get(path.name) or _File((0, 0, 0), ())
        try:
            found = path.stat()
            state = found.st_mtime_ns, found.st_size, found.st_ino
            if before.state == state:
                return before
            with path.open("rb") as file:
                data = file.read(self._largest + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            return replace(before, problem=error.strerror or str(error))
        try:
            return _File(state, self._lists(data))
        except Exception as error:  # noqa: BLE001 - it is told, and one file must not keep the other lists from counting
            # Half-written, perhaps; and what was listed before is not good for that.
            return _File(state, before.crls, str(Unusable.because(error)))

    def _lists(self, data: bytes) -> tuple[Crl, ...]:
        if len(data) > self._largest:
            raise Unusable(f"it has more than verification.largest_crl, {self._largest} bytes")
        lists = tuple(Crl(encoded) for encoded in crls_of_file(data))
        for crl in lists:
            crl.check_entries()  # here, since it may take long
        return lists

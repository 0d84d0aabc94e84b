"""A certificate with its key, as an operator's files have it: read, checked, put in order."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from certs.bundle import read_certificates
from certs.formats import BundleError
from certs.private_keys import KeyProblem, read_private_key
from certs.signer import SigningKey

LARGEST_FILE = 1 << 20


def read_identity(certificate: str, key: str, where: str) -> tuple[tuple[x509.Certificate, ...], SigningKey]:
    """The certificates, the key's own first, and the key. Raises ValueError, one line, where they cannot be used.

    ``where`` is the setting that has the two as ``certificate`` and ``key``.
    """
    certificate_file, key_file = Path(certificate), Path(key)
    try:
        certificates = read_certificates(read_file(certificate_file, f"{where}.certificate"))
    except BundleError as error:
        raise ValueError(f"{where}.certificate: {certificate_file}: {error}") from None
    data = read_file(key_file, f"{where}.key")
    if stat.S_IMODE(key_file.stat().st_mode) & 0o007:
        raise ValueError(f"{where}.key: {key_file}: everybody can use this file; chmod it to 0600 or 0640")
    try:
        private = read_private_key(data, None)
    except KeyProblem as error:
        raise ValueError(f"{where}.key: {key_file}: {error}") from None
    return _in_order(certificates, private.public_key(), where, certificate_file), private


def read_file(file: Path, where: str) -> bytes:
    """A file of at most 1 MiB. Raises ValueError, one line."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{where}: {file}: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{where}: {file}: larger than {LARGEST_FILE >> 20} MiB")
    return data


def changed_at(files: Iterable[str]) -> tuple[tuple[int, int, int] | None, ...]:
    """What is another value as soon as one of the files is another, or comes, or goes."""
    return tuple(map(_stat, files))


def _stat(name: str) -> tuple[int, int, int] | None:
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _in_order(
    certificates: list[x509.Certificate], public: object, where: str, file: Path
) -> tuple[x509.Certificate, ...]:
    own = [each for each in certificates if each.public_key() == public]
    if not own:
        raise ValueError(f"{where}.certificate: {file}: no certificate in it is for the key of {where}.key")
    return (own[0], *(each for each in certificates if each != own[0]))

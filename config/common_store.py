"""The file behind ``trust.common_store``: certifi's, the system's, or the operator's own."""

from __future__ import annotations

from pathlib import Path

import certifi

SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSDs
)
LARGEST_STORE = 16 << 20
"""Bytes; the common ones are under half a MiB."""
_BEGINNINGS = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----")


class StoreFileError(Exception):
    """The common store can't be had; the text says what was wrong and what was expected, on one line."""


def locate(name: str) -> Path:
    """The PEM file for a value of ``trust.common_store``. Raises StoreFileError where the system has none."""
    if name == "certifi":
        return Path(certifi.where())
    if name == "system":
        for file in SYSTEM_FILES:
            if Path(file).is_file():
                return Path(file)
        raise StoreFileError("no CA store of the system was found; expected certifi or the path of a PEM file")
    return Path(name)


def read_common_store(name: str) -> bytes:
    """The bytes of the common store, of which at least one certificate's beginning was seen. Raises StoreFileError."""
    file = locate(name)
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_STORE + 1)
    except FileNotFoundError:
        raise StoreFileError(f"no such file: {file}; expected certifi, system or the path of a PEM file") from None
    except IsADirectoryError:
        raise StoreFileError(f"{file} is a folder; expected the path of a PEM file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreFileError(f"{file} can't be read ({reason}); expected a PEM file that this user can read") from None
    if len(data) > LARGEST_STORE:
        raise StoreFileError(f"{file} is larger than {LARGEST_STORE} bytes; expected a PEM file of CA certificates")
    if not any(beginning in data for beginning in _BEGINNINGS):
        raise StoreFileError(f"{file} holds no certificate; expected a PEM file of CA certificates")
    return data


def check(name: str) -> None:
    """Raise StoreFileError where the common store could not be read."""
    read_common_store(name)

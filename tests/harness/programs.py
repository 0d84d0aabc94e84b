"""The programs of the distribution that tests start: found, or the test says which package to install."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "nginx": "nginx-light",
    "openssl": "openssl",
    "curl": "curl",
    "squid": "squid-openssl",
    "c-icap": "libc-icap-mod-virus-scan",
    "clamd": "clamav-daemon",
    "systemd-analyze": "systemd",
    "certutil": "libnss3-tools",
    "keytool": "default-jre-headless",
    "chromium": "chromium",
    "ip": "iproute2",
    "nft": "nftables",
    "git": "git",
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "dig": "bind9-dnsutils",
    "wget": "wget",
    "haproxy": "haproxy",
    "promtool": "prometheus",
}
"""Program to Debian package, where scripts/test-packages installs it."""
# A user's PATH often leaves out where daemons live.
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def in_ci() -> bool:
    """Whether this runs where nothing may be skipped (CI is set, and not to "false")."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def find(program: str) -> str | None:
    """The program's path, also from the system's sbin folders; None where it is missing."""
    return shutil.which(program, path=_SEARCH)


def need(program: str) -> str:
    """The program's path. Where it is missing the test is skipped, saying what to install; in CI it fails."""
    path = find(program)
    if path is not None:
        return path
    message = f"{program} is missing; install {PACKAGES.get(program, program)} (scripts/test-packages does, as root)"
    if in_ci():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)

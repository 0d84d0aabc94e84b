"""What curl and Chromium say of the cases: directly, without us, trusting what the case trusts."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.harness.chromium import Chromium
from tests.harness.curl import environment
from tests.harness.pki import Issued
from tests.scenarios.base import ACCEPTS, REFUSES, SCENARIOS, Says, Scenario, public
from tests.scenarios.serving import Serving


@dataclass(frozen=True)
class Word:
    """Accepts or refuses, and in the client's own words why."""

    says: Says
    reason: str


def curl_version() -> str:
    """``curl 7.88.1, OpenSSL 3.0.20``: what it verifies with decides what it says."""
    line = subprocess.run(["curl", "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    name, version, *_ = line.split()
    library = next((part.replace("/", " ") for part in line.split() if part.startswith("OpenSSL/")), "another library")
    return f"{name} {version}, {library}"


def ask_curl(folder: Path, serving: Serving, scenarios: Sequence[Scenario]) -> Mapping[str, Word]:
    """One curl that asks for all of them, each with its own ``--cacert``; by the ids of the cases."""
    folder.mkdir(exist_ok=True)
    parts = []
    for place, one in enumerate(scenarios):
        anchors = folder / f"{place}.pem"
        # Where nothing is trusted curl still wants a file: of somebody who has nothing to do with it.
        anchors.write_bytes(b"".join(anchor.pem() for anchor in one.server.anchors or [public()]))
        host, address = one.server.host, serving.address(one)
        resolve = "" if host == address else f'resolve = "{host}:{serving.port(one)}:{address}"\n'
        parts.append(
            f'url = "{serving.url(one)}"\ncacert = "{anchors}"\noutput = "/dev/null"\nmax-time = 30\n'
            f"{resolve}"
            f'write-out = "{place}\\t%{{exitcode}}\\t%{{http_code}}\\t%{{errormsg}}\\n"\n'
        )
    config = folder / "curl.conf"
    config.write_text("next\n".join(parts))
    done = subprocess.run(
        ["curl", "-q", "--silent", "--noproxy", "*", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        check=False,
    )
    told = {}
    for line in done.stdout.splitlines():
        number, code, status, reason = line.split("\t")
        told[scenarios[int(number)].id] = Word(ACCEPTS if (code, status) == ("0", "200") else REFUSES, reason)
    assert len(told) == len(scenarios), f"curl told of {len(told)} cases of {len(scenarios)}: {done.stderr[-1000:]}"
    return told


def ask_chromium(folder: Path, serving: Serving, scenarios: Sequence[Scenario]) -> tuple[str, Mapping[str, Word]]:
    """One browser that goes to all of them; its version, and its words by the ids of the cases.

    Its database holds the anchors of all cases, which is what each trusts, since none leads to another's anchor.
    """
    folder.mkdir(exist_ok=True)
    anchors = {anchor.raw: anchor for one in SCENARIOS for anchor in one.server.anchors if _known_to_nss(anchor)}
    told = {}
    with Chromium(folder, trusts=list(anchors.values()), hosts="MAP *.example 127.0.0.1") as browser:
        for one in scenarios:
            reason = browser.fetch(serving.url(one))
            told[one.id] = Word(REFUSES if reason else ACCEPTS, reason)
        return browser.version, told


def _known_to_nss(anchor: Issued) -> bool:
    """Whether Chromium's database takes it, which knows no EdDSA."""
    return not isinstance(anchor.key, Ed25519PrivateKey)

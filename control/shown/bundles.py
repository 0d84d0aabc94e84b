"""What was found in an upload."""

from __future__ import annotations

from typing import Any

from certs.bundle import Bundle
from control.shown import certificates


def findings(bundle: Bundle) -> list[dict[str, Any]]:
    """The findings for JSON."""
    return [
        {"level": one.level, "code": one.code, "message": one.message, "certificate": one.certificate}
        for one in bundle.findings
    ]


def judged(bundle: Bundle) -> dict[str, Any]:
    """What a validation found, for JSON."""
    return {"ok": bundle.ok, "certificates": certificates.as_objects(bundle.chain), "findings": findings(bundle)}

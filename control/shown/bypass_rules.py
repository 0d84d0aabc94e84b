"""Bypass rules, list files, and hosts that clients seem to have pinned."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from control.bypass_rules import ListFile, expired
from control.pinning import Proposal
from store.records import BypassRule


def status(rule: BypassRule, now: datetime) -> str:
    """``active`` or ``expired``."""
    return "expired" if expired(rule, now) else "active"


def file_status(file: ListFile) -> str:
    """``active`` or ``unusable``."""
    return "active" if file.problem is None else "unusable"


def as_object(rule: BypassRule, now: datetime) -> dict[str, Any]:
    """A rule for JSON."""
    return {
        "pattern": rule.pattern,
        "status": status(rule, now),
        "reason": rule.reason,
        "created_at": rule.created_at,
        "created_by": rule.created_by,
        "expires_at": rule.expires_at,
        "file": None,
        "rules": 1,
    }


def file_as_object(file: ListFile) -> dict[str, Any]:
    """A list file for JSON: in the list beside the rules, with the same members."""
    return {
        "pattern": None,
        "status": file_status(file),
        "reason": file.problem,
        "created_at": None,
        "created_by": None,
        "expires_at": None,
        "file": file.path,
        "rules": file.rules,
    }


def proposal_as_object(one: Proposal) -> dict[str, Any]:
    """A host that clients refuse, for JSON."""
    return {
        "host": one.host,
        "clients": one.clients,
        "refusals": one.count,
        "first_at": one.first_at,
        "last_at": one.last_at,
        "proposed": one.proposed,
        "rule": one.rule,
    }

"""Every page."""

from __future__ import annotations

from fastapi import APIRouter

from console.web import (
    <<<<<<< HEAD     kmip,
    me,
    nodes,
    overview,
    set_up,
    sign_in,
    signing_ca_forms,
    signing_cas,
    traffic,
    trusted_cas,
    trusted_new,
)

router = APIRouter(include_in_schema=False)
_EACH = (
    set_up,
    sign_in,
    overview,
    traffic,
    nodes,
    me,
    <<<<<<< HEAD     kmip,
    signing_ca_forms,
    signing_cas,
    trusted_new,
    trusted_cas,
)
for _each in _EACH:
    router.include_router(_each.router)

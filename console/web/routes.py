"""Every page."""

from __future__ import annotations

from fastapi import APIRouter

from console.web import me, nodes, overview, set_up, sign_in, traffic, trusted_cas, trusted_new

router = APIRouter(include_in_schema=False)
for _each in (set_up, sign_in, overview, traffic, nodes, me, trusted_new, trusted_cas):
    router.include_router(_each.router)

"""Every page."""

from __future__ import annotations

from fastapi import APIRouter

from console.web import me, overview, set_up, sign_in

router = APIRouter(include_in_schema=False)
for _each in (set_up, sign_in, overview, me):
    router.include_router(_each.router)

"""Every route of the API, under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from console.api import kmip_forwarding, nodes, signing_cas, tenants, traffic, trusted_cas
from console.api.documentation import PROBLEMS

API = "/api/v1"

router = APIRouter(prefix=API, responses=PROBLEMS)
for _each in (tenants, trusted_cas, traffic, nodes, signing_cas, kmip_forwarding):
    router.include_router(_each.router)
